//! `lastframe aws destroy`.

use clap::Args;
use lastframe_stack::Stack;
use lastframe_stack::data::Kept;

use super::{Answer, Teller, Which, ask, causes, failed};
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
        let found = stack.describe().await.map_err(failed)?;
        let data = match &found {
            Some(_) => stack.data().await.map_err(failed)?,
            None => stack.kept().await.map_err(failed)?,
        };
        if found.is_none() && data.is_empty() {
            note(format!("there is no stack {} in {}, and no data of one", stack.name(), stack.region()));
            if self.delete_data {
                remove_code(&stack).await?;
            }
            return Ok(Exit::Done);
        }
        let delete = self.decide(&stack, &data, &mut interrupts).await?;
        if let Some(found) = &found {
            let mut teller = Teller::default();
            let ended = tokio::select! {
                ended = stack.delete(found, |event| teller.tell(event)) => ended.map_err(failed)?,
                () = interrupts.next() => {
                    let message = "interrupted; CloudFormation goes on deleting the stack. `lastframe aws destroy` again does the rest";
                    return Err(Failed::new(Exit::Interrupted, message));
                }
            };
            if !ended.is_well() {
                let message = format!(
                    "the stack was not deleted ({}). What failed:{}\nMend that, and destroy again: what is gone already is no \
                     hindrance.",
                    ended.status,
                    causes(&ended)
                );
                return Err(Failed::new(Exit::NotWell, message));
            }
        }
        if delete {
            // An interrupt ends this between two things; the next `destroy` finds what is left.
            stack.remove(&data, |gone| note(format!("deleted {gone}"))).await.map_err(failed)?;
            remove_code(&stack).await?;
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
    async fn decide(&self, stack: &Stack, data: &Kept, interrupts: &mut Interrupts) -> Result<bool, Failed> {
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

fn interrupted() -> Failed {
    Failed::new(Exit::Interrupted, "interrupted; nothing was destroyed")
}

async fn remove_code(stack: &Stack) -> Result<(), Failed> {
    if let Some(bucket) = stack.remove_code().await.map_err(failed)? {
        note(format!("deleted bucket {bucket}, with the functions' code"));
    }
    Ok(())
}
