//! What a person types.

mod audit;
#[cfg(feature = "stack")]
mod aws;
mod database;
mod deliveries;
mod doctor;
mod follow;
mod help;
mod key;
mod notices;
mod queue;
mod render;
mod renderer;
mod renders;
mod serve;
mod signals;
mod site;
mod token;
mod user;
mod watch;
mod within;
#[cfg(feature = "stack")]
mod work;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, FromArgMatches as _, Parser, Subcommand};
use lastframe_worker::local::{self, SUPERVISED};
use serde::Serialize;

use crate::client::{Client, Failed};
use crate::config;
use crate::data;
use crate::exit::{self, Exit};
use crate::telemetry::{self, LogFormat};

/// The role in which this program supervises a sidecar; see `lastframe_worker::local`.
pub(crate) const SUPERVISE: &str = "supervise";

/// A durable render queue for Remotion: a render is done when the last frame of its video is written.
#[derive(Debug, Parser)]
#[command(name = "lastframe", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Try it:
  lastframe doctor                                       is all here that rendering needs?
  lastframe render ./my-project main -o out/main.mp4     bundle a project and render it

A server that stays, and what uses it:
  lastframe serve                                        in another terminal
  lastframe site add ./my-project --name my-site
  lastframe render my-site main --props '{\"text\":\"Hello\"}' -o out/hello.mp4

Commands on the server's machine find it, and its token, by the data folder; elsewhere say
--server and --token. Every command has a --help, and almost all a --json for scripts.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server: API, queue and workers in one process
    Serve(serve::Serve),
    /// Take renders from a queue on AWS and make them on this machine
    #[cfg(feature = "stack")]
    #[command(after_help = work::EXAMPLES)]
    Work(Box<work::Work>),
    /// Add, list, roll back and remove sites: bundled Remotion projects
    #[command(subcommand, after_help = site::EXAMPLES)]
    Site(site::Site),
    /// List, install and remove the versions of Remotion that sites are rendered with
    #[command(subcommand)]
    Renderer(renderer::Renderer),
    /// Submit a render, follow it, and fetch its video
    #[command(after_help = format!("{}\n\n{}", render::EXAMPLES, exit::TEACH))]
    Render(Box<render::Render>),
    /// Render a single picture
    #[command(after_help = format!("{}\n\n{}", render::STILL_EXAMPLES, exit::TEACH))]
    Still(Box<render::Still>),
    /// Follow renders live until they end
    #[command(after_help = watch::EXAMPLES)]
    Watch(watch::Watch),
    /// Show one render
    Show(renders::Show),
    /// List renders, newest first
    List(renders::List),
    /// Cancel a render
    Cancel(renders::Cancel),
    /// Queue a failed or cancelled render again
    Retry(renders::Retry),
    /// Queue many failed renders again
    #[command(after_help = queue::REDRIVE_EXAMPLES)]
    Redrive(queue::Redrive),
    /// Look at, pause, resume and drain the queue
    #[command(subcommand, after_help = queue::QUEUE_EXAMPLES)]
    Queue(queue::Queue),
    /// Look at, pause and resume a group
    #[command(subcommand, after_help = queue::GROUP_EXAMPLES)]
    Group(queue::Group),
    /// Say what tenants get, and how far they may go
    #[command(subcommand, after_help = queue::TENANT_EXAMPLES)]
    Tenant(queue::Tenant),
    /// Add, list, change and disable people who sign in with a password
    #[command(subcommand, after_help = user::EXAMPLES)]
    User(user::User),
    /// Make, list and revoke the tokens of programs
    #[command(subcommand, after_help = token::EXAMPLES)]
    Token(token::Token),
    /// Say who the token speaks for
    Whoami(Ask),
    /// Look at and change the key that secrets are sealed with
    #[command(subcommand, after_help = key::KEY_EXAMPLES)]
    Key(key::Key),
    /// Print a link to the output of a render, for those who have no token
    Link(renders::Link),
    /// Print what the attempts of a render said
    Logs(renders::Logs),
    /// List what was sent when renders ended, newest first: webhooks and mails
    Deliveries(deliveries::Deliveries),
    /// Send a webhook or a mail once more
    Redeliver(deliveries::Redeliver),
    /// Print who did what, newest first (admin)
    Audit(audit::Audit),
    /// Look for damage in the data folder
    Check(database::Check),
    /// Copy the database, also while a server runs
    Backup(database::Backup),
    /// Put a backup in the place of the database
    Restore(database::Restore),
    /// Bring the whole system to AWS, look at it there, and take it away again
    #[cfg(feature = "stack")]
    #[command(subcommand, after_help = aws::EXAMPLES)]
    Aws(Box<aws::Aws>),
    /// Say what this machine and this server lack, and how to mend it
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Doctor),
    /// Print a script that completes this program's words in a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions(help::Completions),
    /// Write the manual's pages
    #[command(after_help = "Read the first at once: lastframe man | man -l -")]
    Man(help::Man),
    /// Run a program and let nothing of it outlive its use (used by the server itself)
    #[command(name = SUPERVISE, hide = true)]
    Supervise {
        /// What to keep it to
        #[arg(long)]
        walls: Option<String>,
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
    /// Give up rights, then run a program (used by `supervise`)
    #[command(name = SUPERVISED, hide = true)]
    Supervised {
        #[arg(long)]
        walls: String,
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
}

/// Which server, and the right to use it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which server")]
struct Server {
    /// The server's URL [default: the one running on the data folder]
    #[arg(long, env = "LASTFRAME_SERVER", value_name = "URL")]
    server: Option<String>,
    /// The token [default: the admin token in the data folder]
    #[arg(long, env = "LASTFRAME_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A certificate in PEM to trust beside those of the system
    #[arg(long, env = "LASTFRAME_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The data folder of a server on this machine
    #[arg(long, env = "LASTFRAME_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

/// A question to a server that needs nothing more.
#[derive(Args, Debug)]
struct Ask {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Which part of a list to show.
#[derive(Args, Debug)]
struct Paging {
    /// At most so many, up to 200
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Where the list before ended
    #[arg(long)]
    cursor: Option<String>,
}

impl Paging {
    /// As the API takes it.
    fn query(self) -> Vec<(&'static str, String)> {
        let limit = ("limit", self.limit.to_string());
        std::iter::once(limit).chain(self.cursor.map(|cursor| ("cursor", cursor))).collect()
    }

    /// Says how the list goes on, if it does.
    fn say_more(next: Option<&str>) {
        if let Some(cursor) = next {
            say(format!("(more: --cursor {cursor})"));
        }
    }
}

impl Server {
    /// The data folder of a server on this machine.
    fn folder(&self) -> anyhow::Result<PathBuf> {
        self.data.clone().map_or_else(config::default_data, Ok)
    }

    /// Whether it is found, with its admin token, by the data folder on this machine.
    fn is_own(&self) -> bool {
        self.server.is_none() && self.token.is_none()
    }

    fn client(&self) -> Result<Client, Failed> {
        let data = || self.folder();
        let server = match &self.server {
            Some(server) => server.clone(),
            None => data::announced(&data()?).ok_or_else(|| {
                Failed::new(
                    Exit::Unreachable,
                    "no server runs on the data folder: start `lastframe serve`, or say --server URL",
                )
            })?,
        };
        let token = match &self.token {
            Some(token) => token.clone(),
            None => data::admin_token(&data()?).ok_or_else(|| {
                Failed::new(Exit::Usage, "no token: say --token, or set LASTFRAME_TOKEN or LASTFRAME_DATA")
            })?,
        };
        Ok(Client::new(&server, token, self.ca.as_deref())?)
    }
}

/// Parses the command line, does what it says, and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&help::command().get_matches()).unwrap_or_else(|error| error.exit());
    let role = match &cli.command {
        Command::Supervise { walls, program } => Some(local::supervise(walls.as_deref(), program)),
        Command::Supervised { walls, program } => Some(local::supervised(walls, program)),
        _ => None,
    };
    if let Some(done) = role {
        return done.unwrap_or_else(|error| complain(Exit::Internal, &error.into()));
    }
    match &cli.command {
        Command::Serve(serve) => telemetry::start(serve.log_format, "info"),
        #[cfg(feature = "stack")]
        Command::Work(work) => telemetry::start(work.log_format, "info"),
        // What goes well, a command says itself.
        _ => telemetry::start(LogFormat::Text, "warn"),
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(Exit::Internal, &error.into()),
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Serve(serve) => serve.run().await,
            #[cfg(feature = "stack")]
            Command::Work(work) => work.run().await,
            Command::Site(site) => site.run().await,
            Command::Render(render) => render.run().await,
            Command::Still(still) => still.run().await,
            Command::Watch(watch) => watch.run().await,
            Command::Renderer(renderer) => renderer.run().await,
            Command::Show(show) => show.run().await,
            Command::List(list) => list.run().await,
            Command::Cancel(cancel) => cancel.run().await,
            Command::Retry(retry) => retry.run().await,
            Command::Redrive(redrive) => redrive.run().await,
            Command::Queue(queue) => queue.run().await,
            Command::Group(group) => group.run().await,
            Command::Tenant(tenant) => tenant.run().await,
            Command::User(user) => user.run().await,
            Command::Token(token) => token.run().await,
            Command::Whoami(ask) => user::whoami(ask).await,
            Command::Key(key) => key.run().await,
            Command::Link(link) => link.run().await,
            Command::Logs(logs) => logs.run().await,
            Command::Deliveries(deliveries) => deliveries.run().await,
            Command::Redeliver(redeliver) => redeliver.run().await,
            Command::Audit(audit) => audit.run().await,
            Command::Check(check) => check.run().await,
            Command::Backup(backup) => backup.run().await,
            Command::Restore(restore) => restore.run().await,
            #[cfg(feature = "stack")]
            Command::Aws(aws) => aws.run().await,
            Command::Doctor(doctor) => doctor.run().await,
            Command::Completions(completions) => Ok(completions.run()),
            Command::Man(man) => man.run(),
            Command::Supervise { .. } | Command::Supervised { .. } => Ok(Exit::Done),
        }
    });
    match done {
        Ok(exit) => exit.into(),
        Err(Failed { exit, error }) => complain(exit, &error),
    }
}

#[expect(clippy::print_stderr, reason = "this is how a command line program says why it failed")]
fn complain(exit: Exit, error: &anyhow::Error) -> ExitCode {
    eprintln!("lastframe: {error:#}");
    exit.into()
}

/// Prints a line for a person or the next program; a reader that went away is no fault.
fn say(line: impl AsRef<str>) {
    use std::io::Write as _;
    drop(writeln!(std::io::stdout(), "{}", line.as_ref()));
}

/// Prints what a command found out: for the next program, or in words for a person.
fn print<T: Serialize>(json: bool, value: &T, words: impl FnOnce() -> String) -> Result<(), Failed> {
    say(if json { serde_json::to_string_pretty(value)? } else { words() });
    Ok(())
}

/// Tells a person what goes on meanwhile, beside what is printed.
fn note(line: impl AsRef<str>) {
    use std::io::Write as _;
    drop(writeln!(std::io::stderr(), "{}", line.as_ref()));
}
