//! `lastframe aws destroy`.

use clap::Args;
use lastframe_stack::data::Kept;
use lastframe_stack::deploy::Operation;
use lastframe_stack::{Described, Stack};

use super::{Answer, Which, ask, causes, failed, follow_to_its_end, unless_interrupted};
use crate::client::Failed;
use crate::commands::follow::{Interrupts, can_ask};
use crate::commands::note;
use crate::exit::Exit;

pub(super) const EXAMPLES: &str = "\
Examples:
  lastframe aws destroy --keep-data       renders, outputs and people stay; a later deploy takes them back
  lastframe aws destroy --delete-data     leaves nothing behind";

#[derive(Args, Debug)]
pub(in crate::commands) struct Destroy {
    /// Keep the table, the bucket and the user pool
    #[arg(long, conflicts_with = "delete_data")]
    keep_data: bool,
    /// Delete them too, and the functions' code, for good
    #[arg(long)]
    delete_data: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    which: Which,
}

impl Destroy {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let stack = self.which.stack().await?;
        let mut interrupts = Interrupts::listen()?;
        let looking = async {
            let found = stack.describe().await.map_err(failed)?;
            let data = match &found {
                Some(_) => stack.data().await.map_err(failed)?,
                None => stack.kept().await.map_err(failed)?,
            };
            Ok::<_, Failed>((found, data))
        };
        let (found, data) = unless_interrupted(&mut interrupts, looking).await?;
        if found.is_none() && data.is_empty() {
            note(format!("there is no stack {} in {}, and no data of one", stack.name(), stack.region()));
            if self.delete_data {
                remove_code(&stack).await?;
            }
            return Ok(Exit::Done);
        }
        let has_role = found
            .as_ref()
            .is_some_and(|found| found.parameters.get("RemotionRole").is_some_and(|role| role == "create"));
        let delete = self.decide(&stack, &data, has_role, &mut interrupts).await?;
        if let Some(found) =
            found.as_ref().filter(|found| !delete && !found.is_plan() && data.table.is_some())
        {
            stack.remember(&found.parameters).await.map_err(failed)?;
        }
        if let Some(found) = found {
            take_away(&stack, found, &mut interrupts).await?;
        }
        if delete {
            let removing = async {
                stack.remove(&data, |gone| note(format!("deleted {gone}"))).await.map_err(failed)?;
                remove_code(&stack).await
            };
            tokio::select! {
                removed = removing => removed?,
                () = interrupts.next() => {
                    let message = "interrupted; the stack is gone, and part of its data. `lastframe aws destroy --delete-data` again does \
                                   the rest";
                    return Err(Failed::new(Exit::Interrupted, message));
                }
            }
            note(format!("nothing of {} is left in {}", stack.name(), stack.region()));
        } else if !data.is_empty() {
            note(format!(
                "kept: {}\n`lastframe aws deploy` under the same name takes them back; `lastframe aws destroy --delete-data` deletes them",
                data.describe()
            ));
        }
        Ok(Exit::Done)
    }

    /// Whether the data goes too. Nothing is destroyed that nobody has agreed to.
    async fn decide(
        &self,
        stack: &Stack,
        data: &Kept,
        has_role: bool,
        interrupts: &mut Interrupts,
    ) -> Result<bool, Failed> {
        let told = self.keep_data || self.delete_data;
        if self.yes && (told || data.is_empty()) {
            return Ok(self.delete_data);
        }
        if !can_ask() {
            let message = "there is no terminal to ask on: say --yes, and --keep-data or --delete-data";
            return Err(Failed::new(Exit::Usage, message));
        }
        let refused = || Failed::new(Exit::NotWell, "nothing was destroyed");
        let mut delete = self.delete_data;
        if !told && !data.is_empty() {
            let question =
                format!("There is data: {}. Keep it, or delete it for good? [keep/delete] ", data.describe());
            match ask(&question, interrupts).await {
                Answer::Line(line) if line.trim() == "keep" => delete = false,
                Answer::Line(line) if line.trim() == "delete" => delete = true,
                Answer::Line(_) => return Err(refused()),
                Answer::Interrupted => return Err(interrupted()),
            }
        }
        if has_role {
            note(
                "This stack made the role remotion-lambda-role, and takes it along: Remotion's functions run under it, in all regions.",
            );
        }
        let what = if delete { "and all its data, " } else { "" };
        let question = format!(
            "This deletes the stack {} {what}in {}. Type its name to go on: ",
            stack.name(),
            stack.region()
        );
        match ask(&question, interrupts).await {
            Answer::Line(line) if line.trim() == stack.name() => Ok(delete),
            Answer::Line(_) => Err(refused()),
            Answer::Interrupted => Err(interrupted()),
        }
    }
}

/// Deletes the stack, after what is under way with it.
async fn take_away(stack: &Stack, mut found: Described, interrupts: &mut Interrupts) -> Result<(), Failed> {
    let goes_on = || {
        "interrupted; CloudFormation goes on by itself. `lastframe aws destroy` again does the rest"
            .to_owned()
    };
    if found.is_plan() {
        return stack.sweep_plan().await.map_err(failed);
    }
    if found.is_moving() {
        note(format!("{} is {}: following that first", stack.name(), found.status.as_str()));
        follow_to_its_end(stack, &Operation::of_another(&found), 0, interrupts, goes_on).await?;
        match stack.describe().await.map_err(failed)? {
            Some(now) => found = now,
            None => return Ok(()),
        }
    }
    let operation = stack.delete(&found).await.map_err(failed)?;
    let ended = follow_to_its_end(stack, &operation, 0, interrupts, goes_on).await?;
    if ended.is_well() {
        return Ok(());
    }
    let message = format!(
        "the stack was not deleted ({}). What failed:{}\nMend that, and destroy again: what is gone already is no hindrance.",
        ended.status,
        causes(&ended)
    );
    Err(Failed::new(Exit::NotWell, message))
}

fn interrupted() -> Failed {
    Failed::new(Exit::Interrupted, "interrupted; nothing was destroyed")
}

async fn remove_code(stack: &Stack) -> Result<(), Failed> {
    if let Some(bucket) = stack.remove_code().await.map_err(failed)? {
        note(format!("deleted bucket {bucket}, with the functions' code"));
    }
    Ok(())
}
