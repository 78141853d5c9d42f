//! `lastframe tenant notices`, `tenant secret`: whom the renders of a tenant tell, and what its webhooks are signed with.

use clap::{Args, Subcommand, ValueEnum};
use lastframe_core::outbox::NoticeDefaults;
use lastframe_core::percent;
use reqwest::Method;

use super::{Server, print, say};
use crate::client::Failed;
use crate::http::{CreatedSecret, NoticesView, SecretView};

pub(super) const NOTICES_EXAMPLES: &str = "\
Examples:
  lastframe tenant notices acme                                        what is set
  lastframe tenant notices acme --webhook-url https://example.com/done
  lastframe tenant notices acme --email ana@example.com --email ben@example.com
  lastframe tenant notices acme --unset email

They are for renders that say neither `webhook` nor `notify` themselves.";

pub(super) const SECRET_EXAMPLES: &str = "\
To change the secret that webhooks are signed with:
  lastframe tenant secret add acme           from now on both sign
  lastframe tenant secret list acme          the oldest first
  lastframe tenant secret remove acme ID     when the receivers know the new one";

#[derive(Args, Debug)]
pub(super) struct Notices {
    /// The tenant
    name: String,
    /// Where webhooks go
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// Who gets a mail, instead of those until now; may be said many times
    #[arg(long = "email", value_name = "ADDRESS")]
    emails: Vec<String>,
    /// Tell nobody by default in that way; may be said many times
    #[arg(long, value_name = "WAY")]
    unset: Vec<Way>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// How somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    WebhookUrl,
    Email,
}

impl Notices {
    pub(super) async fn run(self) -> Result<(), Failed> {
        let client = self.server.client()?;
        let path = format!("/v1/tenants/{}/notices", percent::encode(&self.name));
        let mut notices: NoticesView = client.get(&path).await?;
        if self.webhook_url.is_some() || !self.emails.is_empty() || !self.unset.is_empty() {
            let NoticesView { webhook_url, email, .. } = notices;
            let kept = |way| !self.unset.contains(&way);
            let defaults = NoticeDefaults {
                webhook_url: self.webhook_url.clone().or(webhook_url.filter(|_| kept(Way::WebhookUrl))),
                email: match self.emails.as_slice() {
                    [] if kept(Way::Email) => email,
                    emails => emails.to_vec(),
                },
            };
            notices = client.json(client.request(Method::PUT, &path).json(&defaults)).await?;
        }
        print(self.json, &notices, || describe(&notices))
    }
}

fn describe(NoticesView { webhook_url, email, secrets }: &NoticesView) -> String {
    let or_nobody = |told: String| if told.is_empty() { "nobody".to_owned() } else { told };
    let webhook = or_nobody(webhook_url.clone().unwrap_or_default());
    let secrets = match secrets.as_slice() {
        [] => "no secret signs webhooks".into(),
        secrets => secrets.iter().map(describe_secret).collect::<Vec<_>>().join("\n"),
    };
    format!("webhook  {webhook}\nemail    {}\n{secrets}", or_nobody(email.join(", ")))
}

fn describe_secret(SecretView { id, created_at }: &SecretView) -> String {
    format!("secret   {id}, since {created_at:.0}")
}

#[derive(Debug, Subcommand)]
pub(super) enum SigningSecret {
    /// Make one, and tell it once; two at most are active
    Add(OfTenant),
    /// List those that are active, without their text
    List(OfTenant),
    /// Sign with it no more
    Remove(Remove),
}

#[derive(Args, Debug)]
pub(super) struct OfTenant {
    /// The tenant
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args, Debug)]
pub(super) struct Remove {
    /// The tenant
    name: String,
    /// The secret's id, as `lastframe tenant secret list` has it
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl SigningSecret {
    pub(super) async fn run(self) -> Result<(), Failed> {
        match self {
            Self::Add(OfTenant { name, json, server }) => {
                let client = server.client()?;
                let path = format!("/v1/tenants/{}/webhook-secrets", percent::encode(&name));
                let made: CreatedSecret = client.post(&path).await?;
                print(json, &made, || {
                    let about = describe_secret(&made.view);
                    format!(
                        "{about}\n\n{}\n\nIt is not told again: give it to the receivers now.",
                        made.secret
                    )
                })
            }
            Self::List(OfTenant { name, json, server }) => {
                let path = format!("/v1/tenants/{}/notices", percent::encode(&name));
                let NoticesView { secrets, .. } = server.client()?.get(&path).await?;
                print(json, &secrets, || match secrets.as_slice() {
                    [] => "no secret: webhooks are not signed, unless their render has a secret".into(),
                    secrets => secrets.iter().map(describe_secret).collect::<Vec<_>>().join("\n"),
                })
            }
            Self::Remove(Remove { name, id, json, server }) => {
                let client = server.client()?;
                let (tenant, secret) = (percent::encode(&name), percent::encode(&id));
                let path = format!("/v1/tenants/{tenant}/webhook-secrets/{secret}");
                client.send(client.request(Method::DELETE, &path)).await?;
                if json {
                    print(true, &serde_json::json!({ "removed": id }), String::new)
                } else {
                    say(format!("nothing is signed with {id} any more"));
                    Ok(())
                }
            }
        }
    }
}
