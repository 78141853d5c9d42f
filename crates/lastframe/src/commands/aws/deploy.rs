//! `lastframe aws diff` and `lastframe aws deploy`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use lastframe_stack::code::{Architecture, Code};
use lastframe_stack::comparison::{Comparison, effective, joins_tenants};
use lastframe_stack::data::Kept;
use lastframe_stack::deploy::{Ended, Operation, Plan};
use lastframe_stack::look::{lack_of_room, maximum_concurrency};
use lastframe_stack::template::Parameters;
use lastframe_stack::{Described, Error, Stack};
use serde_json::json;

use super::{Answer, Approval, Which, ask, causes, failed, follow_to_its_end, table, unless_interrupted};
use crate::client::Failed;
use crate::commands::follow::{Interrupts, can_ask};
use crate::commands::{note, print};
use crate::exit::Exit;

pub(super) const EXAMPLES: &str = "\
Examples:
  lastframe aws deploy -p RemotionFunction=remotion-render-4-0-527-mem2048mb-disk10240mb-120sec
  lastframe aws deploy -p MailFrom=renders@example.com -p MaximumConcurrency=20
  lastframe aws deploy --settings lastframe.toml
  lastframe aws deploy --require-approval never          where nobody is there to be asked

A parameter that is not named keeps the value it has, or had when the stack was destroyed. `lastframe aws synth` says
which there are.";

/// What is deployed, and with which values.
#[derive(Args, Debug)]
struct What {
    /// The functions' code, a zip that `make lambda` made [default: target/lambda/lastframe-ARCHITECTURE.zip]
    #[arg(long, value_name = "FILE")]
    code: Option<PathBuf>,
    /// The processors that the functions run on [default: what they run on, or arm64]
    #[arg(long, value_parser = ["arm64", "x86_64"])]
    architecture: Option<String>,
    /// A parameter of the template; may be repeated
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// A lastframe.toml for the functions; the parameter Settings
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Args, Debug)]
pub(in crate::commands) struct Diff {
    #[command(flatten)]
    what: What,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(in crate::commands) struct Deploy {
    #[command(flatten)]
    what: What,
    /// When a person must agree
    #[arg(long, value_enum, default_value_t = Approval::Broadening)]
    require_approval: Approval,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl What {
    /// The values that parameters will have, and the code, under which the functions will find it.
    async fn decide(&self, stack: &Stack, before: &Before) -> Result<(Parameters, Code), Failed> {
        let mut given: Parameters = self.parameters.iter().cloned().collect();
        if let Some(architecture) = &self.architecture {
            given.insert("Architecture".into(), architecture.clone());
        }
        if let Some(file) = &self.settings {
            let text = std::fs::read_to_string(file);
            let text = text.with_context(|| format!("cannot read {} (--settings)", file.display()));
            given.insert("Settings".into(), text.map_err(|error| Failed { exit: Exit::Usage, error })?);
        }
        let mut after = effective(&before.parameters(), &given).map_err(failed)?;
        if let Some(pool) = before.strangers()
            && !given.contains_key("Tenancy")
            && after.get("ExistingUserPool").is_none_or(String::is_empty)
        {
            let message = format!(
                "an earlier stack has left the people of {pool}, and nothing says any more whether they had a tenant each: say -p \
                 Tenancy=per-user, or -p Tenancy=shared if they may see each other's renders. All other parameters that are not named \
                 have the template's values"
            );
            return Err(Failed::new(Exit::Usage, message));
        }
        let of = |name: &str| after.get(name).map(String::as_str).unwrap_or_default();
        if !of("RemotionFunction").is_empty() && of("RemotionBucket").is_empty() {
            let bucket = stack.remotion_bucket().await.map_err(failed)?;
            note(format!("RemotionBucket is {bucket}, the only one in {}", stack.region()));
            after.insert("RemotionBucket".into(), bucket);
        }
        let architecture = match after.get("Architecture").map(String::as_str) {
            Some("x86_64") => Architecture::X86_64,
            _ => Architecture::Arm64,
        };
        let made = || PathBuf::from(format!("target/lambda/lastframe-{}.zip", architecture.as_str()));
        let file = self.code.clone().unwrap_or_else(made);
        let code = stack.code(&file, architecture).await.map_err(failed)?;
        after.insert("CodeBucket".into(), code.bucket.clone());
        after.insert("CodeKey".into(), code.key.clone());
        Ok((after, code))
    }
}

/// What there is before something is deployed.
#[derive(Debug, Default)]
struct Before {
    /// The stack, when there is one that can be changed.
    stack: Option<Described>,
    /// What the last one of this name was made with; `None` where nothing says so.
    last: Option<Parameters>,
    /// What the last one has left, when there is none.
    kept: Kept,
}

impl Before {
    /// `last` is known of a stack that is in the way and goes.
    async fn look(stack: &Stack, found: Option<Described>, last: Option<Parameters>) -> Result<Self, Failed> {
        if found.is_some() {
            return Ok(Self { stack: found, ..Self::default() });
        }
        let kept = stack.kept().await.map_err(failed)?;
        let last = match last {
            None => stack.remembered(&kept).await.map_err(failed)?,
            known => known,
        };
        Ok(Self { stack: None, last, kept })
    }

    fn parameters(&self) -> Parameters {
        let now = self.stack.as_ref().map(|stack| &stack.parameters);
        now.or(self.last.as_ref()).cloned().unwrap_or_default()
    }

    /// The user pool of a stack that nothing is known of any more.
    fn strangers(&self) -> Option<&str> {
        if self.stack.is_none() && self.last.is_none() { self.kept.user_pool.as_deref() } else { None }
    }
}

impl Diff {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let stack = self.what.which.stack().await?;
        let found = stack.describe().await.map_err(failed)?.filter(|found| !found.is_plan());
        let last = found.as_ref().map(|found| found.parameters.clone());
        let before = Before::look(&stack, found.filter(|found| !found.is_wreck()), last).await?;
        let (after, _) = self.what.decide(&stack, &before).await?;
        let before = before.stack;
        let comparison = stack.compare(before.as_ref(), &after).await.map_err(failed)?;
        // A change set of a stack that is not there would leave an empty one.
        let mut resources = Vec::new();
        if before.is_some() {
            let mut interrupts = Interrupts::listen()?;
            let planning = stack.plan(before.as_ref(), &after);
            if let Some(plan) = plan(&stack, planning, &mut interrupts).await? {
                stack.discard(&plan).await.map_err(failed)?;
                resources = plan.resources;
            }
        }
        let same = resources.is_empty() && before.is_some();
        let value = json!({
            "stack": stack.name(), "region": stack.region(), "isNew": before.is_none(), "rights": comparison.rights,
            "parameters": comparison.parameters, "resources": resources,
        });
        print(self.json, &value, || {
            let mut parts: Vec<String> = table::comparison(&comparison).into_iter().collect();
            if before.is_none() {
                parts.push(format!(
                    "there is no stack {} in {} yet: all of it is new",
                    stack.name(),
                    stack.region()
                ));
            } else if same {
                parts.push("nothing changes".into());
            } else {
                parts.push(table::resources(&resources));
            }
            parts.join("\n")
        })?;
        Ok(Exit::Done)
    }
}

impl Deploy {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let stack = self.what.which.stack().await?;
        let mut interrupts = Interrupts::listen()?;
        let (found, last) = self.settle(&stack, &mut interrupts).await?;
        let looking = async {
            let before = Before::look(&stack, found, last).await?;
            let (after, code) = self.what.decide(&stack, &before).await?;
            let comparison = stack.compare(before.stack.as_ref(), &after).await.map_err(failed)?;
            let mut warnings = Vec::new();
            if let Some(at_once) = maximum_concurrency(&after) {
                let account = stack.account_concurrency().await;
                warnings.extend(account.and_then(|account| lack_of_room(account, Some(at_once))));
            }
            Ok::<_, Failed>((before, after, code, comparison, warnings))
        };
        let (before, after, code, comparison, warnings) =
            unless_interrupted(&mut interrupts, looking).await?;
        for warning in warnings {
            note(format!("! {warning}"));
        }
        let joins = joins_tenants(&before.parameters(), &after);
        if joins {
            note("! Tenancy=shared: all who have an account will see each other's renders from now on");
        }
        let Before { stack: before, kept, .. } = before;
        if kept.is_empty() {
            let planning = stack.plan(before.as_ref(), &after);
            let Some(plan) = plan(&stack, planning, &mut interrupts).await? else {
                note("no changes");
                return self.done(&stack, false).await;
            };
            if let Some(shown) = table::comparison(&comparison) {
                note(shown);
            }
            if !plan.is_new {
                note(table::resources(&plan.resources));
            }
            let agreed = match self.agree(&comparison, joins, &mut interrupts).await {
                Ok(()) => upload(&stack, &code, &mut interrupts).await,
                refused => refused,
            };
            if let Err(refused) = agreed {
                stack.discard(&plan).await.map_err(failed)?;
                return Err(refused);
            }
            self.carry_out(&stack, &plan, &mut interrupts).await?;
            return self.done(&stack, true).await;
        }
        note(format!(
            "an earlier stack of this name has left its data, which this one takes back: {}",
            kept.describe()
        ));
        note(table::comparison(&comparison).unwrap_or_default());
        self.agree(&comparison, joins, &mut interrupts).await?;
        upload(&stack, &code, &mut interrupts).await?;
        if let Some(import) = plan(&stack, stack.plan_import(&kept, &after), &mut interrupts).await? {
            self.carry_out(&stack, &import, &mut interrupts).await?;
        }
        let before = stack.describe().await.map_err(failed)?;
        let planning = stack.plan(before.as_ref(), &after);
        if let Some(plan) = plan(&stack, planning, &mut interrupts).await? {
            self.carry_out(&stack, &plan, &mut interrupts).await?;
        }
        if kept.table.is_some() {
            stack.forget().await.map_err(failed)?;
        }
        self.done(&stack, true).await
    }

    /// The stack as it is when nothing is under way and nothing in the way; and what one that was in the way, and is deleted,
    /// was made with.
    async fn settle(
        &self,
        stack: &Stack,
        interrupts: &mut Interrupts,
    ) -> Result<(Option<Described>, Option<Parameters>), Failed> {
        let describing = async { stack.describe().await.map_err(failed) };
        let Some(mut found) = unless_interrupted(interrupts, describing).await? else {
            return Ok((None, None));
        };
        if found.is_moving() {
            note(format!("{} is {}: following that first", stack.name(), found.status.as_str()));
            let operation = Operation::of_another(&found);
            let ended = follow_to_its_end(stack, &operation, 0, interrupts, || goes_on(stack)).await?;
            note(format!("{} is {} now", stack.name(), ended.status));
            match stack.describe().await.map_err(failed)? {
                Some(now) => found = now,
                None => return Ok((None, Some(found.parameters))),
            }
        }
        if found.is_plan() {
            stack.sweep_plan().await.map_err(failed)?;
            return Ok((None, None));
        }
        if found.is_wreck() {
            let why = found.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            note(format!(
                "the stack {} is {}{why}\nIt never came to be, or is half deleted, and CloudFormation changes no such stack.",
                stack.name(),
                found.status.as_str()
            ));
            self.must_agree("Delete what is left of it, and begin anew? [y/N] ", interrupts).await?;
            let operation = stack.delete(&found).await.map_err(failed)?;
            let ended = follow_to_its_end(stack, &operation, 0, interrupts, || goes_on(stack)).await?;
            if !ended.is_well() {
                let message = format!("what is left cannot be deleted ({}):{}", ended.status, causes(&ended));
                return Err(Failed::new(Exit::NotWell, message));
            }
            note("it is gone; parameters that are not named now are what they were for it");
            return Ok((None, Some(found.parameters)));
        }
        if found.status.as_str() == "UPDATE_ROLLBACK_FAILED" {
            note(
                "a change failed, and CloudFormation could not undo it. Nothing can be changed before it has.",
            );
            self.must_agree("Have it try again to undo it? [y/N] ", interrupts).await?;
            let operation = stack.undo(&found).await.map_err(failed)?;
            let ended = follow_to_its_end(stack, &operation, 0, interrupts, || goes_on(stack)).await?;
            if ended.status != "UPDATE_ROLLBACK_COMPLETE" {
                let message = format!("it still cannot be undone ({}):{}", ended.status, causes(&ended));
                return Err(Failed::new(Exit::NotWell, message));
            }
            return Ok((stack.describe().await.map_err(failed)?, None));
        }
        Ok((Some(found), None))
    }

    /// Asks whether rights may change, and whether tenants may be joined, where that is wanted.
    async fn agree(
        &self,
        comparison: &Comparison,
        joins: bool,
        interrupts: &mut Interrupts,
    ) -> Result<(), Failed> {
        let wanted = match self.require_approval {
            Approval::Never => false,
            Approval::AnyChange => !comparison.rights.is_empty(),
            Approval::Broadening => comparison.rights.iter().any(lastframe_stack::rights::Change::broadens),
        };
        if wanted || joins {
            self.must_agree("Deploy these changes? [y/N] ", interrupts).await
        } else {
            Ok(())
        }
    }

    async fn must_agree(&self, question: &str, interrupts: &mut Interrupts) -> Result<(), Failed> {
        if self.require_approval == Approval::Never {
            return Ok(());
        }
        if !can_ask() {
            let message = "somebody must agree to this, and there is no terminal to ask on: --require-approval never agrees ahead";
            return Err(Failed::new(Exit::Usage, message));
        }
        match ask(question, interrupts).await {
            answer if answer.is_yes() => Ok(()),
            Answer::Interrupted => Err(Failed::new(Exit::Interrupted, "interrupted; nothing was changed")),
            Answer::Line(_) => Err(Failed::new(Exit::NotWell, "nothing was changed")),
        }
    }

    async fn carry_out(&self, stack: &Stack, plan: &Plan, interrupts: &mut Interrupts) -> Result<(), Failed> {
        let operation = stack.carry_out(plan).await.map_err(failed)?;
        let of = plan.resources.len();
        let ended = follow_to_its_end(stack, &operation, of, interrupts, || goes_on(stack)).await?;
        if ended.is_well() { Ok(()) } else { Err(explain(&ended)) }
    }

    async fn done(&self, stack: &Stack, changed: bool) -> Result<Exit, Failed> {
        let outputs: BTreeMap<String, String> = stack.outputs().await.map_err(failed)?;
        let value = json!({
            "stack": stack.name(), "region": stack.region(), "changed": changed, "outputs": outputs,
        });
        print(self.json, &value, || {
            let line = |(name, value): (&String, &String)| format!("{}.{name} = {value}", stack.name());
            let lines: Vec<_> = outputs.iter().map(line).collect();
            format!("Outputs:\n{}", lines.join("\n"))
        })?;
        if changed {
            note("\nNext: lastframe aws user add EMAIL --token");
        }
        Ok(Exit::Done)
    }
}

/// Plans; an interrupt leaves nothing of it.
async fn plan(
    stack: &Stack,
    planning: impl Future<Output = Result<Option<Plan>, Error>>,
    interrupts: &mut Interrupts,
) -> Result<Option<Plan>, Failed> {
    tokio::pin!(planning);
    tokio::select! {
        biased;
        () = interrupts.next() => {}
        plan = &mut planning => return plan.map_err(failed),
    }
    note("stopping; a moment");
    // What is asked for cannot be called off, but it can be taken back once it is there.
    if let Some(plan) = planning.await.map_err(failed)? {
        stack.discard(&plan).await.map_err(failed)?;
    }
    Err(Failed::new(Exit::Interrupted, "interrupted; nothing was changed"))
}

async fn upload(stack: &Stack, code: &Code, interrupts: &mut Interrupts) -> Result<(), Failed> {
    note(format!(
        "code {} ({:.1} MB) to s3://{}/{}",
        code.file().display(),
        code.size() as f64 / 1e6,
        code.bucket,
        code.key
    ));
    let sending = async { stack.upload(code).await.map_err(failed) };
    if !unless_interrupted(interrupts, sending).await? {
        note("  it is there already");
    }
    Ok(())
}

fn goes_on(stack: &Stack) -> String {
    let name = stack.name();
    format!(
        "interrupted; CloudFormation goes on by itself, to the end or back to where it began.\n  \
         lastframe aws status --stack {name}      looks\n  \
         lastframe aws deploy --stack {name}      follows it, then goes on from there"
    )
}

/// Why a deployment failed, what has become of it, and how it goes on.
fn explain(ended: &Ended) -> Failed {
    let now = match ended.status.as_str() {
        "ROLLBACK_COMPLETE" => {
            "CloudFormation has taken back all that it made. What is left is an empty stack, which the next `lastframe aws deploy` \
             deletes before it begins anew."
        }
        "ROLLBACK_FAILED" => {
            "CloudFormation could not take back all that it made. The next `lastframe aws deploy` tries to delete what is left."
        }
        "UPDATE_ROLLBACK_COMPLETE" => {
            "CloudFormation has undone the change: the stack works as it did before. Mend what failed, and deploy again."
        }
        "UPDATE_ROLLBACK_FAILED" => {
            "CloudFormation could not undo the change. The next `lastframe aws deploy` offers to let it try again."
        }
        "IMPORT_ROLLBACK_COMPLETE" => "The data was not taken back; it is as it was.",
        _ => "`lastframe aws status` says how it is now.",
    };
    Failed::new(
        Exit::NotWell,
        format!("the stack was not deployed ({}). What failed:{}\n{now}", ended.status, causes(ended)),
    )
}
