//! What the last day was like.

use axum::Json;
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use lastframe_core::ports::{Busy, Counts, Hour};
use lastframe_core::{RenderId, Scope};
use serde::{Deserialize, Serialize};

use super::control::CountsView;
use super::{Api, ApiError, Query};
use crate::identity::Caller;

/// Hours that are told.
const HOURS: u32 = 24;
/// Seconds.
const HOUR: i64 = 60 * 60;

/// Whose activity.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ActivityQuery {
    /// Of this tenant; an administrator's to say. An administrator is told about all tenants by default.
    tenant: Option<String>,
}

/// What has been going on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Activity {
    /// Whose; all tenants' when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Whether nothing more of it starts: the queue, or the tenant, is paused.
    paused: bool,
    /// Renders by state, of all time.
    counts: CountsView,
    /// The last 24 hours in UTC, the current one last.
    hours: Vec<HourView>,
    /// Who is rendering; told to administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<Vec<WorkerView>>,
    /// Renders at once on this server, at most; told to administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<usize>,
}

/// What became of renders within one hour.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct HourView {
    /// When it began.
    start: Timestamp,
    /// Renders that were accepted.
    accepted: u64,
    /// Renders that ended with an output.
    succeeded: u64,
    /// Renders that ended without one, and were not queued again since.
    failed: u64,
}

/// A worker.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct WorkerView {
    /// What it calls itself.
    worker: String,
    /// What it is rendering.
    renders: Vec<RenderId>,
}

/// Look at the last day
///
/// Counted from the records that are there: what retention has removed is not in it.
#[utoipa::path(
    get, path = "/v1/activity", tag = "queue", security(("token" = [])), params(ActivityQuery),
    responses((status = 200, description = "Counts, hours and workers", body = Activity), ApiError)
)]
pub(super) async fn activity(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ActivityQuery>,
) -> Result<Json<Activity>, ApiError> {
    caller.need(Scope::RendersRead)?;
    let admin = caller.scopes.allow(Scope::Admin);
    let tenant = match query.tenant {
        Some(tenant) => Some(caller.may_look_at(tenant)?),
        None => (!admin).then_some(caller.tenant),
    };
    let now = api.clock.now();
    let current = now.as_second() - now.as_second().rem_euclid(HOUR);
    let since = Timestamp::from_second(current).map_err(anyhow::Error::from)?
        - SignedDuration::from_secs(HOUR * i64::from(HOURS - 1));
    let hours = api.queue.hours(tenant.as_ref(), since, HOURS).await?;
    let (paused, counts) = match &tenant {
        Some(tenant) => {
            let known = api.queue.tenant(tenant).await?;
            known.map_or((false, Counts::default()), |known| (known.paused, known.counts))
        }
        None => {
            let overview = api.queue.overview().await?;
            (overview.paused, overview.counts)
        }
    };
    let workers =
        if admin { Some(api.queue.busy().await?.into_iter().map(WorkerView::from).collect()) } else { None };
    Ok(Json(Activity {
        tenant: tenant.map(|tenant| tenant.as_str().to_owned()),
        paused,
        counts: counts.into(),
        hours: hours.into_iter().map(HourView::from).collect(),
        workers,
        concurrency: admin.then_some(api.config.concurrency),
    }))
}

impl From<Hour> for HourView {
    fn from(Hour { start, accepted, succeeded, failed }: Hour) -> Self {
        Self { start, accepted, succeeded, failed }
    }
}

impl From<Busy> for WorkerView {
    fn from(Busy { worker, renders }: Busy) -> Self {
        Self { worker, renders }
    }
}
