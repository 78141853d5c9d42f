//! `lastframe token`: what programs say instead of a password.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use lastframe_core::{Scope, percent};
use reqwest::Method;

use super::user::words;
use super::{Ask, Server, print, say};
use crate::client::Failed;
use crate::config::duration;
use crate::exit::Exit;
use crate::http::{CreateToken, CreatedToken, RotateKeys, SigningKeyIds, TokenList, TokenView};

pub(super) const EXAMPLES: &str = "\
Examples:
  lastframe token create --name ci --tenant acme --scope renders:write --expires 90d
  TOKEN=$(lastframe token create --name ci --quiet)
  lastframe token revoke 0011223344556677     at once

Scopes: renders:read, renders:write, renders:environment (envVariables and chromiumOptions), sites:write, metrics:read,
admin.";

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token; its text is printed this once
    Create(Create),
    /// List tokens
    List(Ask),
    /// End a token, at once
    Revoke(Revoke),
    /// Sign the tokens of people with a new key; nobody is logged out
    RotateKeys(Rotate),
}

#[derive(Args, Debug)]
pub(super) struct Create {
    /// What it is for, for people to read
    #[arg(long)]
    name: String,
    /// Whose renders are its own
    #[arg(long, default_value = crate::identity::DEFAULT_TENANT)]
    tenant: String,
    /// What it allows; may be repeated [default: renders:read, renders:write]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// How long it is good, such as 90d [default: until it is revoked]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    expires: Option<std::time::Duration>,
    /// Print the token alone
    #[arg(long, short)]
    quiet: bool,
    /// Print JSON, the token's text included
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args, Debug)]
pub(super) struct Revoke {
    /// The token's id, as `lastframe token list` has it
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args, Debug)]
pub(super) struct Rotate {
    /// The keys until now have leaked: what they have signed is not good any more
    #[arg(long)]
    distrust: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Token {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        match self {
            Self::Create(create) => create.run().await?,
            Self::List(ask) => list(ask).await?,
            Self::Revoke(Revoke { id, json, server }) => {
                let client = server.client()?;
                let path = format!("/v1/tokens/{}", percent::encode(&id));
                let token: TokenView = client.json(client.request(Method::DELETE, &path)).await?;
                print(json, &token, || describe(&token))?;
            }
            Self::RotateKeys(Rotate { distrust, json, server }) => {
                let client = server.client()?;
                let request = client.request(Method::POST, "/v1/signing-keys/rotate");
                let ids: SigningKeyIds = client.json(request.json(&RotateKeys { distrust })).await?;
                print(json, &ids, || format!("tokens are signed with {}", ids.keys.join("; still good: ")))?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Create {
    async fn run(self) -> Result<(), Failed> {
        let client = self.server.client()?;
        let seconds = self.expires.map(|time| u32::try_from(time.as_secs()));
        let new = CreateToken {
            name: self.name,
            tenant: Some(self.tenant),
            scopes: (!self.scopes.is_empty()).then_some(self.scopes),
            expires_in_seconds: seconds.transpose().context("--expires is too long")?,
        };
        let made: CreatedToken = client.json(client.request(Method::POST, "/v1/tokens").json(&new)).await?;
        if self.quiet {
            say(made.token);
        } else {
            print(self.json, &made, || {
                let about = describe(&made.view);
                let mind = "It is not told again: keep it now, for example as LASTFRAME_TOKEN.";
                format!("{about}\n\n{}\n\n{mind}", made.token)
            })?;
        }
        Ok(())
    }
}

async fn list(Ask { json, server }: Ask) -> Result<(), Failed> {
    let TokenList { tokens } = server.client()?.get("/v1/tokens").await?;
    print(json, &tokens, || tokens.iter().map(describe).collect::<Vec<_>>().join("\n"))
}

fn describe(token: &TokenView) -> String {
    let until = match (token.revoked_at, token.expires_at) {
        (Some(at), _) => format!("revoked {at:.0}"),
        (None, Some(at)) => format!("until {at:.0}"),
        (None, None) => "until it is revoked".into(),
    };
    format!("{}  {:<20} of {}: {}, {until}", token.id, token.name, token.tenant, words(&token.scopes))
}
