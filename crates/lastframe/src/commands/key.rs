//! `lastframe key`: the keys that secrets in the database are sealed with.

use clap::Subcommand;

use super::{Ask, say};
use crate::client::Failed;
use crate::exit::Exit;
use crate::http::{EncryptionView, KeyView};

pub(super) const KEY_EXAMPLES: &str = "\
Keep a copy of the key file elsewhere, and not beside the backups: without it nobody can read what the database holds.
  lastframe key rotate    seal with a new key from now on
  lastframe key status    see whether the old one is needed any more";

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Say which keys there are, and what each is needed for
    Status(Ask),
    /// Make a new key; what is sealed already is sealed anew in the background
    Rotate(Ask),
}

impl Key {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let (one, encryption): (_, EncryptionView) = match self {
            Self::Status(one) => {
                let status = one.server.client()?.get("/v1/encryption").await?;
                (one, status)
            }
            Self::Rotate(one) => {
                let status = one.server.client()?.post("/v1/encryption/rotate").await?;
                (one, status)
            }
        };
        if one.json {
            say(serde_json::to_string_pretty(&encryption)?);
            return Ok(Exit::Done);
        }
        say(if encryption.enabled {
            format!("secrets are sealed; the keys are {}", encryption.source)
        } else {
            "encryption is off: secrets are written as they are".to_owned()
        });
        encryption.keys.iter().map(describe).for_each(say);
        Ok(Exit::Done)
    }
}

fn describe(key: &KeyView) -> String {
    let id = key.id.as_deref().unwrap_or("not sealed");
    let meaning = match (key.state.as_str(), &key.since) {
        ("current", _) => "new secrets".to_owned(),
        ("leaving", Some(since)) => format!("needed until all it holds is sealed anew, since {since}"),
        _ => "only backups may need it".to_owned(),
    };
    format!("{id:<16}  {:<8} {meaning}", key.state)
}
