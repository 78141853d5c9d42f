//! `lastframe deliveries` and `redeliver`.

use clap::Args;
use lastframe_core::outbox::{DeliveryStatus, Try};
use reqwest::Method;

use super::renders::time;
use super::{Paging, Server, print, say};
use crate::client::Failed;
use crate::exit::Exit;
use crate::http::{DeliveryPage, DeliveryView};

#[derive(Args, Debug)]
pub(super) struct Deliveries {
    /// Of this render, with every go at them
    #[arg(long, value_name = "ID")]
    render: Option<String>,
    /// pending, delivered or failed
    #[arg(long)]
    status: Option<DeliveryStatus>,
    #[command(flatten)]
    paging: Paging,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Deliveries {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let client = self.server.client()?;
        let mut query = self.paging.query();
        query.extend(self.render.map(|render| ("renderId", render)));
        query.extend(self.status.map(|status| ("status", status.to_string())));
        let page: DeliveryPage =
            client.json(client.request(Method::GET, "/v1/deliveries").query(&query)).await?;
        if self.json {
            say(serde_json::to_string_pretty(&page)?);
            return Ok(Exit::Done);
        }
        if page.deliveries.is_empty() {
            say("no deliveries");
        }
        for delivery in &page.deliveries {
            say(line(delivery));
            for tried in delivery.log.iter().flatten() {
                say(format!("  {}", describe(tried)));
            }
        }
        Paging::say_more(page.next_cursor.as_deref());
        Ok(Exit::Done)
    }
}

#[derive(Args, Debug)]
pub(super) struct Redeliver {
    /// The delivery's id
    id: String,
    /// Print the delivery as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Redeliver {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let delivery: DeliveryView =
            self.server.client()?.post(&format!("/v1/deliveries/{}/redeliver", self.id)).await?;
        print(self.json, &delivery, || line(&delivery))?;
        Ok(Exit::Done)
    }
}

fn line(delivery: &DeliveryView) -> String {
    let next = delivery.next_try_at.map(|at| format!(", next try {}", time(at))).unwrap_or_default();
    format!(
        "{}  {:<9}  {} to {}: render {}, {} tries{next}",
        delivery.delivery_id,
        delivery.status,
        delivery.channel,
        delivery.endpoint,
        delivery.ended,
        delivery.tries
    )
}

fn describe(tried: &Try) -> String {
    let code = tried.code.map(|code| format!(" {code}")).unwrap_or_default();
    let how = tried.error.as_deref().unwrap_or("taken");
    format!("{}{code} after {} ms: {how}", time(tried.at), tried.took_ms)
}
