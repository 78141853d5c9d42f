//! `lastframe renderer`: the versions of Remotion in the data folder on this machine.

use clap::{Args, Subcommand};
use lastframe_worker::local::{RendererError, Renderers};

use super::database::Data;
use super::say;
use crate::client::Failed;
use crate::config::{Config, Flags};
use crate::exit::Exit;

#[derive(Debug, Subcommand)]
pub(super) enum Renderer {
    /// List the versions that are installed
    List(List),
    /// Install a version with npm, as a server does by itself when a site needs it
    Add(Version),
    /// Remove a version; sites that need it cannot be rendered without it
    Remove(Version),
}

#[derive(Args, Debug)]
pub(super) struct List {
    #[command(flatten)]
    data: Data,
}

#[derive(Args, Debug)]
pub(super) struct Version {
    /// An exact version, such as 4.0.527
    version: String,
    #[command(flatten)]
    data: Data,
}

impl Renderer {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        match self {
            Self::List(list) => {
                let mut versions = renderers(&list.data)?.installed()?;
                versions.sort();
                if versions.is_empty() {
                    say("no versions yet: the server installs what a site needs, if it has npm");
                }
                versions.iter().for_each(say);
            }
            Self::Add(add) => {
                let found = renderers(&add.data)?.obtain(&add.version).await;
                let found = found.map_err(|error| match error {
                    // What the error advises is what was just tried.
                    RendererError::Missing { version, why } => {
                        Failed::new(Exit::Refused, format!("{version} is not installed: {why}"))
                    }
                    error => Failed { exit: Exit::Refused, error: error.into() },
                })?;
                say(format!("{} is in {}", add.version, found.display()));
            }
            Self::Remove(remove) => {
                if !renderers(&remove.data)?.remove(&remove.version)? {
                    return Err(Failed::new(Exit::Refused, format!("{} is not installed", remove.version)));
                }
                say(format!("removed {}", remove.version));
            }
        }
        Ok(Exit::Done)
    }
}

fn renderers(data: &Data) -> Result<Renderers, Failed> {
    let data = data.folder()?;
    let config = Config::load(Flags { data: Some(data.clone()), ..Flags::default() });
    let config = config.map_err(|error| Failed { exit: Exit::Usage, error })?;
    std::fs::create_dir_all(data.join("renderers"))?;
    Ok(config.renderers(&data))
}
