//! `lastframe user`: people who sign in with a password.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use lastframe_core::{Scope, percent};
use reqwest::Method;

use super::{Ask, Server, print};
use crate::client::Failed;
use crate::exit::Exit;
use crate::http::{AddUser, ChangeUser, Me, UserView, Users};

pub(super) const EXAMPLES: &str = "\
Examples:
  lastframe user add ana@example.com --tenant acme
  lastframe user add ops@example.com --scope admin
  echo \"$PASSWORD\" | lastframe user passwd ana@example.com
  lastframe user disable ana@example.com      at once, also for tokens that she has

Scopes: renders:read, renders:write, renders:environment (envVariables and chromiumOptions), sites:write, metrics:read,
admin.";

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Add somebody; the password is asked for, or read from standard input
    Add(Add),
    /// List everybody
    List(Ask),
    /// Say what somebody may do from now on
    Set(Set),
    /// Give somebody another password, and end their sessions
    Passwd(Named),
    /// Let somebody do nothing more, at once
    Disable(Named),
    /// Let somebody in again
    Enable(Named),
}

#[derive(Args, Debug)]
pub(super) struct Add {
    /// Their e-mail address
    email: String,
    /// Whose renders are theirs
    #[arg(long, default_value = crate::identity::DEFAULT_TENANT)]
    tenant: String,
    /// What they may do; may be repeated [default: renders:read, renders:write]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args, Debug)]
pub(super) struct Set {
    /// Their e-mail address
    email: String,
    /// What they may do; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<Scope>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args, Debug)]
pub(super) struct Named {
    /// Their e-mail address
    email: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl User {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        match self {
            Self::Add(add) => add.run().await?,
            Self::List(ask) => list(ask).await?,
            Self::Set(Set { email, scopes, json, server }) => {
                let named = Named { email, json, server };
                named.change(ChangeUser { scopes: Some(scopes), ..ChangeUser::default() }).await?;
            }
            Self::Passwd(named) => {
                let password = Some(read_password(&named.email)?);
                named.change(ChangeUser { password, ..ChangeUser::default() }).await?;
            }
            Self::Disable(named) => {
                named.change(ChangeUser { disabled: Some(true), ..ChangeUser::default() }).await?;
            }
            Self::Enable(named) => {
                named.change(ChangeUser { disabled: Some(false), ..ChangeUser::default() }).await?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Add {
    async fn run(self) -> Result<(), Failed> {
        let client = self.server.client()?;
        let new = AddUser {
            password: read_password(&self.email)?,
            email: self.email,
            tenant: Some(self.tenant),
            scopes: (!self.scopes.is_empty()).then_some(self.scopes),
        };
        let user: UserView = client.json(client.request(Method::POST, "/v1/users").json(&new)).await?;
        print(self.json, &user, || {
            let server = client.server();
            format!("{}\nSigning in: POST {server}/v1/token with email and password", describe(&user))
        })
    }
}

async fn list(Ask { json, server }: Ask) -> Result<(), Failed> {
    let Users { users } = server.client()?.get("/v1/users").await?;
    print(json, &users, || match users.as_slice() {
        [] => "nobody yet: add somebody with `lastframe user add EMAIL`".to_owned(),
        users => users.iter().map(describe).collect::<Vec<_>>().join("\n"),
    })
}

/// `lastframe whoami`.
pub(super) async fn whoami(Ask { json, server }: Ask) -> Result<Exit, Failed> {
    let me: Me = server.client()?.get("/v1/me").await?;
    print(json, &me, || format!("{}, of the tenant {}: {}", me.subject, me.tenant, words(&me.scopes)))?;
    Ok(Exit::Done)
}

impl Named {
    async fn change(&self, change: ChangeUser) -> Result<(), Failed> {
        let client = self.server.client()?;
        let path = format!("/v1/users/{}", percent::encode(&self.email));
        let user: UserView = client.json(client.request(Method::PATCH, &path).json(&change)).await?;
        print(self.json, &user, || describe(&user))
    }
}

fn describe(user: &UserView) -> String {
    let disabled = if user.disabled { ", disabled" } else { "" };
    format!("{:<32} of {}: {}{disabled}", user.email, user.tenant, words(&user.scopes))
}

/// Scopes, for a person.
pub(super) fn words(scopes: &[Scope]) -> String {
    if scopes.is_empty() {
        return "nothing".into();
    }
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}

/// Asks for a password where there is somebody to ask; else the first line of standard input is one.
pub(super) fn read_password(email: &str) -> Result<String, Failed> {
    if !std::io::stdin().is_terminal() {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).context("cannot read the password")?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let ask = |prompt: &str| rpassword::prompt_password(prompt).context("cannot read the password");
    let password = ask(&format!("Password for {email}: "))?;
    if ask("The same again: ")? != password {
        return Err(Failed::new(Exit::Usage, "the two are not the same"));
    }
    Ok(password)
}
