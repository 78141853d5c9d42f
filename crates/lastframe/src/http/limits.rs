//! How far a tenant may go, and what it is told when it has got there.

use std::fmt;
use std::time::Duration;

use lastframe_core::ports::QueueError;
use lastframe_core::{FieldError, Limits, RenderRequest, TenantId};

use super::{Api, ApiError, Problem};
use crate::rate::TooFast;

/// When to try again where too many wait, in seconds. Nobody knows how long renders take: about as long as a short one.
const ROOM_MAY_COME: u64 = 10;

/// A limit that a tenant has reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(super) tenant: TenantId,
    /// As [`Limits`] has it.
    pub(super) limit: &'static str,
    pub(super) value: u32,
    /// In seconds; none when waiting would not help.
    pub(super) retry_after: Option<u64>,
}

/// The tenant has reached a limit
///
/// `limit` says which, and `value` what it is. Without `Retry-After` waiting would not help: the limit is 0, or less than
/// what is asked for at once.
#[derive(utoipa::IntoResponses)]
#[response(
    status = 429, content_type = "application/problem+json",
    headers(("Retry-After" = u64, description = "In how many seconds to try again"))
)]
#[expect(dead_code, reason = "it describes; what is answered is an ApiError")]
pub(super) struct TooManyRequests(Problem);

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, limit, value, retry_after } = self;
        let verb = if *limit == MAX_QUEUED { "may wait" } else { "are accepted in a minute" };
        write!(f, "at most {value} of the renders of the tenant `{tenant}` {verb} ({limit}): ")?;
        match retry_after {
            Some(seconds) => write!(f, "try again in {seconds} s"),
            None => f.write_str("submit fewer at once, or have it raised"),
        }
    }
}

const MAX_QUEUED: &str = "maxQueued";
const SUBMITS_PER_MINUTE: &str = "submitsPerMinute";

/// Where a tenant stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    tenant: TenantId,
    /// What counts of its own and of the defaults.
    limits: Limits,
    queued: u64,
}

impl Standing {
    pub(super) async fn of(api: &Api, tenant: &TenantId) -> Result<Self, QueueError> {
        let known = api.queue.tenant(tenant).await?;
        let (limits, queued) = known.map_or((Limits::default().or(api.config.limits), 0), |known| {
            (known.effective, known.counts.queued)
        });
        Ok(Self { tenant: tenant.clone(), limits, queued })
    }

    /// Bounds the time of an attempt where the request leaves it open, and refuses one that asks for more than may be.
    /// `usual` is what an attempt has when nobody says anything.
    pub(super) fn bound(&self, request: &mut RenderRequest, usual: Duration) -> Option<FieldError> {
        let most = self.limits.max_render_seconds?;
        match request.queue.as_ref().and_then(|queue| queue.timeout_in_seconds) {
            Some(asked) if asked > most => {
                let detail = format!(
                    "is {asked}, and may be {most} at most for the tenant `{}` (maxRenderSeconds)",
                    self.tenant
                );
                Some(FieldError::new("/queue/timeoutInSeconds", detail))
            }
            None if usual > Duration::from_secs(most.into()) => {
                request.queue.get_or_insert_default().timeout_in_seconds = Some(most);
                None
            }
            _ => None,
        }
    }

    /// Whether so many renders may be submitted now. Those that wait are counted again when they are accepted; here,
    /// so that one who tries again and again while its queue is full does not use up its rate as well.
    pub(super) fn admit(&self, api: &Api, count: usize) -> Result<(), ApiError> {
        let most = self.limits.max_queued;
        if let Some(most) = most.filter(|most| self.queued + count as u64 > u64::from(*most)) {
            return Err(self.too_many_queued(most, count));
        }
        let Some(rate) = self.limits.submits_per_minute else { return Ok(()) };
        let taken = api.rates.take(&self.tenant, rate, u32::try_from(count).unwrap_or(u32::MAX));
        taken.map_err(|TooFast { wait }| {
            // A whole number that is enough.
            let retry_after = wait.map(|wait| wait.as_nanos().div_ceil(1_000_000_000).max(1));
            let retry_after = retry_after.map(|seconds| u64::try_from(seconds).unwrap_or(u64::MAX));
            self.reached(SUBMITS_PER_MINUTE, rate, retry_after)
        })
    }

    pub(super) fn too_many_queued(&self, most: u32, count: usize) -> ApiError {
        self.reached(MAX_QUEUED, most, (count as u64 <= u64::from(most)).then_some(ROOM_MAY_COME))
    }

    fn reached(&self, limit: &'static str, value: u32, retry_after: Option<u64>) -> ApiError {
        ApiError::LimitReached(Reached { tenant: self.tenant.clone(), limit, value, retry_after })
    }
}

/// The largest body, in bytes, that a request of the tenant may have, if it has one of that size or of unknown size.
pub(super) async fn largest_body(
    api: &Api,
    tenant: Option<&TenantId>,
    size: Option<u64>,
) -> Result<usize, QueueError> {
    let most = api.config.max_body;
    match tenant {
        // Small ones are never too large, and most are small: that is not worth a question.
        Some(tenant) if size.is_none_or(|size| size > Limits::SMALLEST_BODY) => {
            let own = Standing::of(api, tenant).await?.limits.max_body;
            Ok(own.map_or(most, |own| usize::try_from(own).unwrap_or(most).min(most)))
        }
        _ => Ok(most),
    }
}
