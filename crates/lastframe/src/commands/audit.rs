//! `lastframe audit`: who did what.

use clap::Args;
use jiff::Timestamp;
use reqwest::Method;

use super::{Server, say};
use crate::client::Failed;
use crate::exit::Exit;
use crate::http::AuditPage;

#[derive(Args, Debug)]
pub(super) struct Audit {
    /// Of this time (RFC 3339) or later
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// By tokens of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// By tokens of this subject
    #[arg(long)]
    subject: Option<String>,
    /// At most so many, up to 1000
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Audit {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let client = self.server.client()?;
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let query: Vec<_> = [
            ("since", time(self.since)),
            ("until", time(self.until)),
            ("tenant", self.tenant),
            ("subject", self.subject),
            ("limit", Some(self.limit.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        let page: AuditPage = client.json(client.request(Method::GET, "/v1/audit").query(&query)).await?;
        if self.json {
            say(serde_json::to_string_pretty(&page)?);
            return Ok(Exit::Done);
        }
        for entry in &page.entries {
            let who = entry.subject.as_deref().zip(entry.tenant.as_deref());
            let who = who.map_or_else(|| "-".into(), |(subject, tenant)| format!("{subject}@{tenant}"));
            let status = entry.status.map_or_else(|| "left".into(), |status| status.to_string());
            let code = entry.code.as_deref().unwrap_or_default();
            let method = entry.action.split(' ').next().unwrap_or_default();
            say(format!("{:.3}  {who:<20}  {status:<4}  {method} {}  {code}", entry.time, entry.path)
                .trim_end());
        }
        if page.lost > 0 {
            say(format!("{} lines could not be written since the server started", page.lost));
        }
        if let Some(until) = page.next_until {
            say(format!("older ones: --until {until}"));
        }
        Ok(Exit::Done)
    }
}
