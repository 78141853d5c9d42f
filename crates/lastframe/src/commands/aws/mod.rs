//! `lastframe aws`: the whole system on AWS, as one stack.

mod deploy;
mod destroy;
mod logs;
mod status;
mod table;
mod user;

use clap::{Args, Subcommand, ValueEnum};
use lastframe_aws::SdkConfig;
use lastframe_stack::deploy::{Ended, Event, Operation};
use lastframe_stack::{Error, Stack, TEMPLATE};

use super::follow::{self, Interrupts};
use super::{note, say};
use crate::client::Failed;
use crate::exit::Exit;

pub(super) const EXAMPLES: &str = "\
Examples:
  make lambda                                            build the functions' code, once
  lastframe aws deploy -p RemotionFunction=remotion-render-4-0-527-mem2048mb-disk10240mb-120sec
  lastframe aws user add ana@example.com --token         and the request that renders
  lastframe aws status
  lastframe aws logs --follow
  lastframe aws destroy --keep-data

Credentials are those that Amazon's own tools find: AWS_PROFILE, AWS_ACCESS_KEY_ID, a role. docs/aws.md
goes from an empty account to a video.";

#[derive(Debug, Subcommand)]
pub(in crate::commands) enum Aws {
    /// Print the template, for CloudFormation or for reading
    Synth,
    /// Say what a deployment would change
    Diff(deploy::Diff),
    /// Make the stack, or bring it up to date
    #[command(after_help = deploy::EXAMPLES)]
    Deploy(deploy::Deploy),
    /// Say how the stack is: functions, queues, dead letters, quotas
    Status(status::Status),
    /// Print what the functions say
    #[command(after_help = logs::EXAMPLES)]
    Logs(logs::Logs),
    /// Take the stack away
    #[command(after_help = destroy::EXAMPLES)]
    Destroy(destroy::Destroy),
    /// Add people to the stack's user pool
    #[command(subcommand, after_help = user::EXAMPLES)]
    User(user::User),
}

/// Which stack, and the right to touch it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which stack")]
struct Which {
    /// The stack's name
    #[arg(long, env = "LASTFRAME_STACK", default_value = "lastframe", value_name = "NAME")]
    stack: String,
    /// The region [default: AWS_REGION, or the profile's]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// The profile of Amazon's tools [default: AWS_PROFILE]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

impl Which {
    async fn sdk(&self) -> SdkConfig {
        lastframe_aws::sdk(self.profile.as_deref(), self.region.as_deref()).await
    }

    async fn stack(&self) -> Result<Stack, Failed> {
        Stack::new(&self.sdk().await, &self.stack).map_err(failed)
    }
}

/// When a person must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Approval {
    /// To rights that somebody gets
    Broadening,
    /// To any change of rights
    AnyChange,
    /// To nothing
    Never,
}

impl Aws {
    pub(in crate::commands) async fn run(self) -> Result<Exit, Failed> {
        match self {
            Self::Synth => {
                say(TEMPLATE.trim_end());
                Ok(Exit::Done)
            }
            Self::Diff(diff) => diff.run().await,
            Self::Deploy(deploy) => deploy.run().await,
            Self::Status(status) => status.run().await,
            Self::Logs(logs) => logs.run().await,
            Self::Destroy(destroy) => destroy.run().await,
            Self::User(user) => user.run().await,
        }
    }
}

/// What went wrong, with the exit code for it.
pub(super) fn failed(error: Error) -> Failed {
    let exit = match &error {
        Error::Usage(_) | Error::Missing { .. } | Error::File { .. } | Error::Change { .. } => Exit::Usage,
        Error::Refused { .. } => Exit::Refused,
        Error::Unreachable { .. } => Exit::Unreachable,
        _ => Exit::Internal,
    };
    if let Error::Change { causes, .. } = &error {
        let causes: String = causes.iter().map(cause).collect();
        return Failed::new(exit, format!("{error}{causes}"));
    }
    Failed { exit, error: error.into() }
}

/// What a person answers.
enum Answer {
    Line(String),
    Interrupted,
}

impl Answer {
    fn is_yes(&self) -> bool {
        matches!(self, Self::Line(line) if follow::is_yes(line))
    }
}

/// Asks a person, who must be there.
async fn ask(question: &str, interrupts: &mut Interrupts) -> Answer {
    follow::ask(question);
    tokio::select! {
        line = follow::read_line() => line.map_or(Answer::Interrupted, Answer::Line),
        () = interrupts.next() => Answer::Interrupted,
    }
}

/// Does something that changes nothing, unless somebody interrupts it.
async fn unless_interrupted<T>(
    interrupts: &mut Interrupts,
    work: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    tokio::select! {
        done = work => done,
        () = interrupts.next() => Err(Failed::new(Exit::Interrupted, "interrupted; nothing was changed")),
    }
}

/// Follows what CloudFormation is at. An interrupt leaves it to that, and says `goes_on`.
async fn follow_to_its_end(
    stack: &Stack,
    operation: &Operation,
    of: usize,
    interrupts: &mut Interrupts,
    goes_on: impl FnOnce() -> String,
) -> Result<Ended, Failed> {
    let mut teller = Teller { done: 0, of };
    tokio::select! {
        ended = stack.follow(operation, |event| teller.tell(event)) => ended.map_err(failed),
        () = interrupts.next() => Err(Failed::new(Exit::Interrupted, goes_on())),
    }
}

/// Tells of what CloudFormation does, line by line.
struct Teller {
    done: usize,
    /// How many resources there are to deal with; 0 when that is not known.
    of: usize,
}

impl Teller {
    fn tell(&mut self, event: &Event) {
        if event.status.ends_with("_COMPLETE") && !event.is_of_stack() {
            self.done += 1;
        }
        let Event { resource, kind, status, reason } = event;
        // It says twice that it begins.
        if reason.as_deref() == Some("Resource creation Initiated") {
            return;
        }
        let count = match self.of {
            0 => format!("{:>3}", self.done),
            of => format!("{:>3}/{of}", self.done.min(of)),
        };
        let reason = reason.as_ref().map(|reason| format!("\n        {reason}")).unwrap_or_default();
        note(format!("{count}  {status:<28} {kind:<36} {resource}{reason}"));
    }
}

/// What failed by itself, in words.
fn causes(ended: &Ended) -> String {
    match ended.causes.as_slice() {
        [] => "\n  CloudFormation does not say what failed; its console may".into(),
        causes => causes.iter().map(cause).collect(),
    }
}

fn cause(event: &Event) -> String {
    let reason = event.reason.as_deref().unwrap_or("CloudFormation does not say why");
    let hint = hint(reason).map(|hint| format!("\n    {hint}")).unwrap_or_default();
    format!("\n  {} ({}): {reason}{hint}", event.resource, event.kind)
}

/// What helps, where that is known.
fn hint(reason: &str) -> Option<&'static str> {
    const LACKS: &str = "the credentials lack this right: who deploys must be allowed to make what the template has, roles among it";
    const HINTS: &[(&str, &str)] = &[
        (
            "remotion-lambda-role",
            "an account has this role once: -p RemotionRole=existing uses the one that is there",
        ),
        ("is not authorized to perform", LACKS),
        ("AccessDenied", LACKS),
        (
            "already exists",
            "something of this name is there and belongs to no stack: --stack names the stack otherwise",
        ),
        ("NoSuchKey", "the code is gone from its bucket: deploy again"),
        (
            "oncurren",
            "a new account may run few functions at once: ask for more under Service Quotas, Lambda",
        ),
    ];
    HINTS.iter().find(|(part, _)| reason.contains(part)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_before_anything_is_done_comes_with_what_helps() {
        let found = |resource: &str, reason: &str| Event {
            resource: resource.into(),
            kind: "AWS::IAM::Role".into(),
            status: "FAILED".into(),
            reason: Some(reason.into()),
        };
        let role =
            found("RemotionLambdaRole", "Resource with identifier 'remotion-lambda-role' already exists");
        let failed = failed(Error::Change {
            reason: "AWS::EarlyValidation::ResourceExistenceCheck".into(),
            causes: vec![role],
        });
        let text = failed.error.to_string();
        for part in ["EarlyValidation", "RemotionLambdaRole (AWS::IAM::Role)", "RemotionRole=existing"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(failed.exit, Exit::Usage);
    }
}
