//! What is owed for renders that have ended, how it went so far, and another go at it.

use std::future::ready;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use lastframe_core::notice::Channel;
use lastframe_core::outbox::{Delivery, DeliveryFilter, DeliveryId, DeliveryStatus, RedeliverError, Try};
use lastframe_core::{FieldError, RenderId, Scope, Status};
use serde::{Deserialize, Serialize};

use super::renders::owned;
use super::{Api, ApiError, Path, Query, page_size};
use crate::identity::Caller;
use crate::notify;

/// One webhook or mail owed for a render that has ended.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryView {
    /// Its name; of a webhook, also its `webhook-id`.
    pub(crate) delivery_id: String,
    /// Of which render.
    pub(crate) render_id: RenderId,
    /// How somebody is told.
    pub(crate) channel: Channel,
    /// Who stands behind the target: host and port of a URL, the domain of a mail address.
    pub(crate) endpoint: String,
    /// How far it is.
    pub(crate) status: DeliveryStatus,
    /// How the render ended.
    pub(crate) ended: Status,
    /// When it was first owed.
    pub(crate) created_at: Timestamp,
    /// When it is tried next, while it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_try_at: Option<Timestamp>,
    /// How often it was tried since it was last owed.
    pub(crate) tries: u32,
    /// Every go at it, the oldest first; in the answer to one delivery, and to those of one render.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<Vec<Try>>,
}

impl DeliveryView {
    fn new(delivery: Delivery, log: Option<Vec<Try>>) -> Self {
        Self {
            delivery_id: notify::name(&delivery),
            render_id: delivery.render,
            channel: delivery.channel,
            endpoint: delivery.endpoint,
            status: delivery.status,
            ended: delivery.ended,
            created_at: delivery.created_at,
            next_try_at: delivery.next_try_at,
            tries: delivery.tries,
            log,
        }
    }
}

/// Some deliveries, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryPage {
    /// The deliveries.
    pub(crate) deliveries: Vec<DeliveryView>,
    /// Give it as `cursor` to get the next ones; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// Which deliveries to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListQuery {
    /// Of this tenant; an administrator's to say, and their own by default.
    tenant: Option<String>,
    /// Of this render.
    render_id: Option<String>,
    /// So far: `pending`, `delivered` or `failed`.
    status: Option<String>,
    /// Where the page before ended: its `nextCursor`.
    cursor: Option<String>,
    /// At most so many, up to 200; 50 by default.
    limit: Option<String>,
}

/// List deliveries, newest first
///
/// Those of one render come with every go at them.
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "renders", security(("token" = [])), params(ListQuery),
    responses((status = 200, description = "A page", body = DeliveryPage), ApiError)
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<DeliveryPage>, ApiError> {
    caller.need(Scope::RendersRead)?;
    let mut errors = Vec::new();
    let limit = page_size(query.limit.as_deref(), &mut errors);
    let mut refuse = |name: &str, why: String| errors.push(FieldError::new(format!("/{name}"), why));
    let before = query.cursor.map(|text| notify::parse_name(&text).map(|(_, number)| number));
    if before == Some(None) {
        refuse("cursor", "must be the `nextCursor` of a page".into());
    }
    let status = query.status.map(|text| text.parse::<DeliveryStatus>()).transpose();
    let status = status.unwrap_or_else(|why| {
        refuse("status", why);
        None
    });
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    let tenant = query.tenant.map(|tenant| caller.may_look_at(tenant)).transpose()?;
    let (tenant, render) = match &query.render_id {
        Some(id) => {
            let render = owned(&api, &caller, id).await?;
            (tenant.unwrap_or(render.tenant), Some(render.id))
        }
        None => (tenant.unwrap_or(caller.tenant), None),
    };
    let before = before.flatten();
    let filter = DeliveryFilter { tenant: Some(tenant), render, status, before, limit: limit + 1 };
    let mut deliveries = api.outbox.deliveries(filter).await?;
    let more = deliveries.len() > limit as usize;
    deliveries.truncate(limit as usize);
    let next_cursor = deliveries.last().filter(|_| more).map(notify::name);
    let view = async |delivery: Delivery| -> Result<Option<DeliveryView>, ApiError> {
        if render.is_none() {
            return Ok(Some(DeliveryView::new(delivery, None)));
        }
        // None: forgotten meanwhile.
        let found = api.outbox.delivery(delivery.id).await?;
        Ok(found.map(|(delivery, log)| DeliveryView::new(delivery, Some(log))))
    };
    let views = stream::iter(deliveries).then(view).try_filter_map(|view| ready(Ok(view)));
    Ok(Json(DeliveryPage { deliveries: views.try_collect().await?, next_cursor }))
}

/// Look at a delivery
#[utoipa::path(
    get, path = "/v1/deliveries/{id}", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 200, description = "The delivery, with every go at it", body = DeliveryView), ApiError)
)]
pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<DeliveryView>, ApiError> {
    caller.need(Scope::RendersRead)?;
    let (delivery, log) = own(&api, &caller, &id).await?;
    Ok(Json(DeliveryView::new(delivery, Some(log))))
}

/// Deliver once more
///
/// It is owed again from now, with all its tries and under the same id; the goes so far stay on record.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/redeliver", tag = "renders", security(("token" = [])),
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 202, description = "It is owed again", body = DeliveryView), ApiError)
)]
pub(super) async fn redeliver(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    caller.need(Scope::RendersWrite)?;
    let (delivery, _) = own(&api, &caller, &id).await?;
    let delivery = api.outbox.redeliver(delivery.id).await?;
    Ok((StatusCode::ACCEPTED, Json(DeliveryView::new(delivery, None))).into_response())
}

/// The delivery of that name, if the caller may see its tenant's. No other exists for this caller.
async fn own(api: &Api, caller: &Caller, name: &str) -> Result<(Delivery, Vec<Try>), ApiError> {
    let none = ApiError::NotFound("delivery");
    let Some((render, number)): Option<(RenderId, DeliveryId)> = notify::parse_name(name) else {
        return Err(none);
    };
    let found = api.outbox.delivery(number).await?;
    found.filter(|(found, _)| found.render == render && caller.may_see(&found.tenant)).ok_or(none)
}

impl From<RedeliverError> for ApiError {
    fn from(error: RedeliverError) -> Self {
        match error {
            RedeliverError::NotFound => Self::NotFound("delivery"),
            RedeliverError::Pending => Self::Conflict(error.to_string()),
            RedeliverError::Queue(error) => error.into(),
        }
    }
}
