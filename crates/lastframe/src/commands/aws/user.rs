//! `lastframe aws user`: people of the stack's user pool.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Which, failed};
use crate::client::Failed;
use crate::commands::print;
use crate::commands::user::read_password;
use crate::exit::Exit;

pub(super) const EXAMPLES: &str = "\
Examples:
  lastframe aws user add ana@example.com --token        asks for a password, and prints a request that renders
  lastframe aws user add ops@example.com --admin
  echo \"$PASSWORD\" | lastframe aws user add ana@example.com --reset";

#[derive(Debug, Subcommand)]
pub(in crate::commands) enum User {
    /// Add somebody; the password is asked for, or read from standard input
    Add(Add),
}

#[derive(Args, Debug)]
pub(in crate::commands) struct Add {
    /// Their e-mail address
    email: String,
    /// Make a password up, and print it
    #[arg(long)]
    generate: bool,
    /// A file with the password, in its first line
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    password_file: Option<PathBuf>,
    /// Somebody who is there already: give them this password
    #[arg(long)]
    reset: bool,
    /// Let them do everything, as an administrator
    #[arg(long)]
    admin: bool,
    /// Sign in as them at once, and print the IdToken and the guide's request
    #[arg(long)]
    token: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

impl User {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        match self {
            Self::Add(add) => add.run().await,
        }
    }
}

impl Add {
    async fn run(self) -> Result<Exit, Failed> {
        let stack = self.which.stack().await?;
        let outputs = stack.outputs().await.map_err(failed)?;
        let password = match &self.password_file {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("cannot read {} (--password-file)", file.display()));
                let text = text.map_err(|error| Failed { exit: Exit::Usage, error })?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            None if self.generate => generated()?,
            None => read_password(&self.email)?,
        };
        if self.reset {
            stack.set_password(&self.email, &password).await.map_err(failed)?;
        } else {
            stack.add_user(&self.email, &password).await.map_err(failed)?;
        }
        if self.admin {
            stack.make_admin(&self.email).await.map_err(failed)?;
        }
        let token = match self.token {
            true => Some(stack.sign_in(&self.email, &password).await.map_err(failed)?),
            false => None,
        };
        let output = |name: &str| outputs.get(name).map(String::as_str).unwrap_or_default();
        let (api, client, region) = (output("apiUrl"), output("userPoolClientId"), output("region"));
        let made_up = self.generate.then_some(&password);
        let value = json!({
            "email": self.email, "admin": self.admin, "password": made_up, "idToken": token, "apiUrl": api,
            "userPoolId": output("userPoolId"), "userPoolClientId": client,
        });
        print(self.json, &value, || {
            let verb = if self.reset { "has another password" } else { "is added" };
            let admin = if self.admin { ", as an administrator" } else { "" };
            let mut lines = vec![format!("{} {verb}{admin}", self.email)];
            lines.extend(made_up.map(|password| format!("password: {password}")));
            let bearer = match &token {
                Some(token) => token.clone(),
                None => {
                    lines.push(format!(
                        "\nAn IdToken, good for an hour:\n  \
                         aws cognito-idp initiate-auth --region {region} --client-id {client} --auth-flow USER_PASSWORD_AUTH \\\n    \
                         --auth-parameters USERNAME={},PASSWORD=... --query AuthenticationResult.IdToken --output text",
                        self.email
                    ));
                    "IDTOKEN".to_owned()
                }
            };
            lines.push(format!(
                "\nA render:\n  \
                 curl --location --request POST '{api}dev/enqueue' \\\n  \
                 --header 'Authorization: Bearer {bearer}' \\\n  \
                 --data-raw '{{\n    \"message\": \"Hello\"\n}}'"
            ));
            lines.join("\n")
        })?;
        Ok(Exit::Done)
    }
}

/// Letters that nobody mixes up, as many as 120 bits take.
fn generated() -> anyhow::Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0u8; 24];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let letters: Vec<char> = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    Ok(letters.chunks(6).map(|part| part.iter().collect::<String>()).collect::<Vec<_>>().join("-"))
}
