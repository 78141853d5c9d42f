//! What helps a person and a shell: grouped help, completions, pages of the manual.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, say};
use crate::client::Failed;
use crate::exit::Exit;

/// What the commands are for. Those in no group are listed last.
const GROUPS: &[(&str, &[&str])] = &[
    ("Render", &["render", "still", "watch"]),
    (
        "Look and steer",
        &["list", "show", "logs", "link", "cancel", "retry", "redrive", "deliveries", "redeliver"],
    ),
    ("Sites", &["site", "renderer"]),
    ("The server", &["serve", "doctor", "queue", "group", "tenant"]),
    ("Who may do what", &["user", "token", "whoami", "audit"]),
    ("The data folder", &["check", "backup", "restore", "key"]),
    #[cfg(feature = "stack")]
    ("On AWS", &["aws", "work"]),
];
const OTHERS: &str = "This program";

/// The command line, its commands grouped in the help.
pub(super) fn command() -> clap::Command {
    let command = Cli::command();
    let line = |name: &str| {
        let about = command.find_subcommand(name)?.get_about()?;
        Some(format!("  {name:<12} {about}\n"))
    };
    let mut text = String::new();
    for (title, names) in GROUPS {
        text.push_str(&format!(
            "{title}:\n{}\n",
            names.iter().filter_map(|name| line(name)).collect::<String>()
        ));
    }
    let grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let others = command.get_subcommands().filter(|other| !other.is_hide_set() && !grouped(other.get_name()));
    let others: String = others.filter_map(|other| line(other.get_name())).collect();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{text}{OTHERS}:\n{others}\nOptions:\n{{options}}{{after-help}}"
    );
    command.help_template(template)
}

/// Prints what a shell needs to complete this program's words.
#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

pub(super) const COMPLETIONS: &str = "\
For you alone:
  bash   lastframe completions bash > ~/.local/share/bash-completion/completions/lastframe
  zsh    lastframe completions zsh > ~/.zfunc/_lastframe       with ~/.zfunc in fpath, before compinit
  fish   lastframe completions fish > ~/.config/fish/completions/lastframe.fish";

impl Completions {
    pub(super) fn run(&self) -> Exit {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "lastframe", &mut script);
        say(String::from_utf8_lossy(&script).trim_end());
        Exit::Done
    }
}

/// Writes the pages of the manual, one for each command.
#[derive(Args, Debug)]
pub(super) struct Man {
    /// The folder for them; made if missing [default: the first page, printed]
    folder: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self) -> Result<Exit, Failed> {
        match self.folder {
            Some(folder) => {
                std::fs::create_dir_all(&folder)?;
                clap_mangen::generate_to(Cli::command(), &folder)?;
            }
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(Cli::command()).render(&mut page)?;
                say(String::from_utf8_lossy(&page).trim_end());
            }
        }
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_the_help_once_and_every_group_names_commands_that_exist() {
        command().debug_assert();
        let help = command().render_help().to_string();
        for command in command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let line = format!("\n  {} ", command.get_name());
            assert_eq!(help.matches(&line).count(), 1, "{line}{help}");
        }
        for name in GROUPS.iter().flat_map(|(_, names)| *names) {
            assert!(command().find_subcommand(name).is_some(), "{name}");
        }
    }

    /// Everything that can be typed says what it is.
    fn teaches(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some() || command.is_hide_set(), "{path} says nothing about itself");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            assert!(argument.get_help().is_some() || command.is_hide_set(), "{path}: {}", argument.get_id());
        }
        for inner in command.get_subcommands() {
            teaches(inner, &format!("{path} {}", inner.get_name()));
        }
    }

    #[test]
    fn every_command_and_every_flag_says_what_it_is() {
        teaches(&command(), "lastframe");
    }

    #[test]
    fn every_command_that_speaks_with_a_server_can_print_json() {
        fn all(command: &clap::Command, path: &str) {
            let speaks = command.get_arguments().any(|argument| argument.get_id() == "server");
            let json = command.get_arguments().any(|argument| argument.get_id() == "json");
            assert!(!speaks || json || path == "lastframe logs", "{path} has no --json");
            for inner in command.get_subcommands() {
                all(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        all(&command(), "lastframe");
    }
}
