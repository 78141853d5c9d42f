//! What may be told to the queue: hold on, go on, and try again what failed.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use lastframe_core::ports::{Counts, Group, Overview, Pausable, Redrive};
use lastframe_core::request::check_name;
use lastframe_core::{RenderId, Scope};
use serde::{Deserialize, Serialize};

use super::{Api, ApiError, Body, Path, Query};
use crate::identity::Caller;

/// Renders by state.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct CountsView {
    /// Waiting, for whatever reason.
    pub(crate) queued: u64,
    /// Under way.
    pub(crate) rendering: u64,
    /// With an output.
    pub(crate) succeeded: u64,
    /// Without one.
    pub(crate) failed: u64,
    /// Stopped.
    pub(crate) cancelled: u64,
}

impl From<Counts> for CountsView {
    fn from(counts: Counts) -> Self {
        let Counts { queued, rendering, succeeded, failed, cancelled } = counts;
        Self { queued, rendering, succeeded, failed, cancelled }
    }
}

/// The queue as a whole.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Queue)]
pub(crate) struct QueueView {
    /// Whether nothing more starts.
    pub(crate) paused: bool,
    /// All renders of all tenants.
    pub(crate) counts: CountsView,
}

impl From<Overview> for QueueView {
    fn from(Overview { paused, counts }: Overview) -> Self {
        Self { paused, counts: counts.into() }
    }
}

/// Look at the queue
#[utoipa::path(
    get, path = "/v1/queue", tag = "queue", security(("token" = [])),
    responses((status = 200, description = "The queue as a whole", body = QueueView), ApiError)
)]
pub(super) async fn queue(State(api): State<Api>, caller: Caller) -> Result<Json<QueueView>, ApiError> {
    caller.need(Scope::Admin)?;
    Ok(Json(api.queue.overview().await?.into()))
}

/// Pause the queue
///
/// Nothing more starts, of any tenant, also after a restart. What is being rendered goes on.
#[utoipa::path(
    post, path = "/v1/queue/pause", tag = "queue", security(("token" = [])),
    responses((status = 200, description = "It is paused", body = QueueView), ApiError)
)]
pub(super) async fn pause_queue(State(api): State<Api>, caller: Caller) -> Result<Json<QueueView>, ApiError> {
    caller.need(Scope::Admin)?;
    api.queue.pause(Pausable::Queue).await?;
    Ok(Json(api.queue.overview().await?.into()))
}

/// Resume the queue
///
/// Groups and tenants that are paused by themselves stay so.
#[utoipa::path(
    post, path = "/v1/queue/resume", tag = "queue", security(("token" = [])),
    responses((status = 200, description = "It goes on", body = QueueView), ApiError)
)]
pub(super) async fn resume_queue(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<QueueView>, ApiError> {
    caller.need(Scope::Admin)?;
    api.queue.resume(Pausable::Queue).await?;
    Ok(Json(api.queue.overview().await?.into()))
}

/// A group.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Group)]
pub(crate) struct GroupView {
    /// Its name.
    pub(crate) group: String,
    /// Whether it is paused.
    pub(crate) paused: bool,
    /// The render that failed under `onFailure: block`. Nothing of the group starts until somebody retries that render
    /// or resumes the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_by: Option<RenderId>,
    /// The render whose turn it is: rendering, or first of the queued ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) head: Option<RenderId>,
    /// How many wait in it. Counted up to 1,000.
    pub(crate) queued: u32,
}

impl From<Group> for GroupView {
    fn from(Group { name, paused, held_by, head, queued }: Group) -> Self {
        Self { group: name, paused, held_by, head, queued }
    }
}

/// Look at a group
///
/// A group is a name that renders share: one of which the queue knows nothing has nothing to do.
#[utoipa::path(
    get, path = "/v1/groups/{group}", tag = "queue", security(("token" = [])),
    params(("group" = String, Path, description = "Its name, percent-encoded")),
    responses((status = 200, description = "The group", body = GroupView), ApiError)
)]
pub(super) async fn group(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<GroupView>, ApiError> {
    caller.need(Scope::RendersRead)?;
    look(&api, &caller, name).await
}

/// Pause a group
///
/// Nothing more of it starts, and other renders do not wait for it. What is being rendered goes on.
#[utoipa::path(
    post, path = "/v1/groups/{group}/pause", tag = "queue", security(("token" = [])),
    params(("group" = String, Path, description = "Its name, percent-encoded")),
    responses((status = 200, description = "It is paused", body = GroupView), ApiError)
)]
pub(super) async fn pause_group(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<GroupView>, ApiError> {
    caller.need(Scope::RendersWrite)?;
    if let Some(error) = check_name("/group", &name) {
        return Err(ApiError::Invalid(vec![error]));
    }
    api.queue.pause(Pausable::Group(caller.tenant.clone(), name.clone())).await?;
    look(&api, &caller, name).await
}

/// Resume a group
///
/// A group that is held by a render that failed under `onFailure: block` goes on without that render.
#[utoipa::path(
    post, path = "/v1/groups/{group}/resume", tag = "queue", security(("token" = [])),
    params(("group" = String, Path, description = "Its name, percent-encoded")),
    responses((status = 200, description = "It goes on", body = GroupView), ApiError)
)]
pub(super) async fn resume_group(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<GroupView>, ApiError> {
    caller.need(Scope::RendersWrite)?;
    api.queue.resume(Pausable::Group(caller.tenant.clone(), name.clone())).await?;
    look(&api, &caller, name).await
}

/// Which groups to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct GroupsQuery {
    /// Where the page before ended: its `nextCursor`.
    cursor: Option<String>,
    /// Of this tenant; an administrator's to say, and their own by default.
    tenant: Option<String>,
}

/// Groups.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Groups {
    /// By name.
    groups: Vec<GroupView>,
    /// Give it as `cursor` to get the next ones; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Groups of one page.
const GROUPS: u32 = 50;

/// List groups
///
/// Those that have something left to do, or are paused or held; 50 at once.
#[utoipa::path(
    get, path = "/v1/groups", tag = "queue", security(("token" = [])), params(GroupsQuery),
    responses((status = 200, description = "A page", body = Groups), ApiError)
)]
pub(super) async fn groups(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<GroupsQuery>,
) -> Result<Json<Groups>, ApiError> {
    caller.need(Scope::RendersRead)?;
    let tenant = query.tenant.map(|tenant| caller.may_look_at(tenant)).transpose()?.unwrap_or(caller.tenant);
    let mut groups: Vec<GroupView> =
        api.queue.groups(&tenant, query.cursor, GROUPS + 1).await?.into_iter().map(GroupView::from).collect();
    let more = groups.len() > GROUPS as usize;
    groups.truncate(GROUPS as usize);
    let next_cursor = groups.last().filter(|_| more).map(|last| last.group.clone());
    Ok(Json(Groups { groups, next_cursor }))
}

async fn look(api: &Api, caller: &Caller, name: String) -> Result<Json<GroupView>, ApiError> {
    let group = api.queue.group(&caller.tenant, &name).await?;
    let idle = || Group { name, paused: false, held_by: None, head: None, queued: 0 };
    Ok(Json(group.unwrap_or_else(idle).into()))
}

/// Which failed renders to queue again: those for which all conditions hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RedriveRequest {
    /// All that failed; instead of any condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) all: Option<bool>,
    /// Among these, up to 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ids: Option<Vec<RenderId>>,
    /// Of this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Failed with this `errors[0].code`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// Failed at this time (RFC 3339) or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// Failed before this time; by default, before now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Timestamp>,
    /// At most so many, up to 1,000, which is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u32>,
}

/// What was queued again.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct Redriven {
    /// In the order accepted.
    pub(crate) renders: Vec<RenderId>,
    /// There are more.
    pub(crate) more: bool,
    /// Ask for the rest with this, so that what has failed again meanwhile is left alone.
    pub(crate) until: Timestamp,
}

/// The most renders of one redrive.
const REDRIVEN_AT_ONCE: u32 = 1_000;

/// Queue failed renders again
///
/// Each keeps its id and its place in its group, and has all its attempts again. Of those named, the ones that have
/// not failed are left as they are.
#[utoipa::path(
    post, path = "/v1/redrive", tag = "queue", security(("token" = [])), request_body = RedriveRequest,
    responses((status = 200, description = "What was queued again", body = Redriven), ApiError)
)]
pub(super) async fn redrive(
    State(api): State<Api>,
    caller: Caller,
    body: Body,
) -> Result<Json<Redriven>, ApiError> {
    caller.need(Scope::RendersWrite)?;
    let asked: RedriveRequest = body.fields()?.into_typed()?;
    asked.check()?;
    let until = asked.until.unwrap_or_else(|| api.clock.now());
    let which = Redrive {
        tenant: caller.tenant,
        ids: asked.ids,
        group: asked.group,
        code: asked.code,
        since: asked.since,
        until: Some(until),
        limit: asked.limit.unwrap_or(REDRIVEN_AT_ONCE),
    };
    let redriven = api.queue.redrive(which).await?;
    crate::audit::queued(redriven.renders.iter().copied());
    tracing::info!(renders = redriven.renders.len(), "failed renders are queued again");
    Ok(Json(Redriven { renders: redriven.renders, more: redriven.more, until }))
}

impl RedriveRequest {
    fn check(&self) -> Result<(), ApiError> {
        let conditions = self.ids.is_some()
            || self.group.is_some()
            || self.code.is_some()
            || self.since.is_some()
            || self.until.is_some();
        match (self.all == Some(true), conditions) {
            (false, false) => {
                let detail = "say which: `ids`, `group`, `code`, `since` or `until`, or `\"all\": true`";
                return Err(ApiError::invalid("", detail));
            }
            (true, true) => {
                return Err(ApiError::invalid("/all", "cannot go with a condition: leave one of them out"));
            }
            _ => {}
        }
        if self.ids.as_ref().is_some_and(|ids| ids.len() > REDRIVEN_AT_ONCE as usize) {
            return Err(ApiError::invalid("/ids", format!("has more than {REDRIVEN_AT_ONCE}")));
        }
        if !self.limit.is_none_or(|limit| (1..=REDRIVEN_AT_ONCE).contains(&limit)) {
            return Err(ApiError::invalid("/limit", format!("must be from 1 to {REDRIVEN_AT_ONCE}")));
        }
        Ok(())
    }
}
