//! The audit log, for admins.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use lastframe_core::{FieldError, Scope};
use serde::{Deserialize, Serialize};

use super::{Api, ApiError, Query, up_to};
use crate::audit::{Entry, Question};
use crate::identity::Caller;

/// Lines of one answer, at most.
const MOST: usize = 1_000;
/// Lines of one answer, unless the question says.
const USUAL: usize = 100;

/// Which lines.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Of this time (RFC 3339) or later.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before this time.
    #[param(format = DateTime)]
    until: Option<String>,
    /// By tokens of this tenant.
    tenant: Option<String>,
    /// By tokens of this subject.
    subject: Option<String>,
    /// At most so many, up to 1,000; 100 by default.
    limit: Option<String>,
}

/// Lines of the audit log.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditPage)]
pub(crate) struct AuditPage {
    /// Newest first.
    pub(crate) entries: Vec<Entry>,
    /// Give it as `until` to get what is older; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_until: Option<Timestamp>,
    /// Lines that could not be written since the server started: the disk failed, or was too slow.
    pub(crate) lost: u64,
}

/// Read who did what
///
/// Every request that changes something, and every one that was refused for its token, newest first. It has no bodies,
/// tokens or queries.
#[utoipa::path(
    get, path = "/v1/audit", tag = "server", security(("token" = [])), params(AuditQuery),
    responses((status = 200, description = "A page", body = AuditPage), ApiError)
)]
pub(super) async fn audit(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditPage>, ApiError> {
    caller.need(Scope::Admin)?;
    let mut errors = Vec::new();
    let mut time = |name: &str, text: Option<String>| {
        let time = text?.parse().ok();
        if time.is_none() {
            errors.push(FieldError::new(format!("/{name}"), "must be a time such as 2026-03-01T00:00:00Z"));
        }
        time
    };
    let (since, until) = (time("since", query.since), time("until", query.until));
    let limit = up_to("limit", query.limit.as_deref(), MOST, &mut errors).unwrap_or(USUAL);
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    let question = Question { since, until, tenant: query.tenant, subject: query.subject, limit };
    if api.audit.is_aloud() {
        return Err(ApiError::NotHere(
            "CloudWatch has the audit log, in that of the API: `lastframe aws logs`",
        ));
    }
    let page = api.audit.read(question).await?;
    Ok(Json(AuditPage { entries: page.entries, next_until: page.next_until, lost: api.audit.lost() }))
}
