//! What a tenant may have of the machine and of the queue.

use serde::{Deserialize, Serialize};

use crate::request::FieldError;

/// What a tenant gets, and how far it may go. What is absent is the default: of the configuration for a tenant's own
/// limits, and none where the configuration has none either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Limits {
    /// From 1 to 1,000: one of weight 2 is served twice as often as one of weight 1 while both wait. 1 when nothing says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Renders of it at once, at most; 0 lets none start. As many as the workers take when nothing says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Renders of it that wait, for whatever reason, at most; 0 takes none on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queued: Option<u32>,
    /// Renders of it that are accepted in a minute, at most, each of a batch for itself; 0 takes none on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submits_per_minute: Option<u32>,
    /// The largest body of a request, in bytes. The server's own `max_body` holds as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<u64>,
    /// The longest that one attempt may take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_render_seconds: Option<u32>,
}

impl Limits {
    /// The greatest weight.
    pub const MAX_WEIGHT: u32 = 1_000;
    /// A body of that many bytes is never too large: there is always room for a request that lifts a limit.
    pub const SMALLEST_BODY: u64 = 1_024;

    /// What counts: each of these, or where it is absent that of `defaults`. The weight is always there.
    #[must_use]
    pub fn or(self, defaults: Self) -> Self {
        Self {
            weight: self.weight.or(defaults.weight).or(Some(1)),
            max_concurrency: self.max_concurrency.or(defaults.max_concurrency),
            max_queued: self.max_queued.or(defaults.max_queued),
            submits_per_minute: self.submits_per_minute.or(defaults.submits_per_minute),
            max_body: self.max_body.or(defaults.max_body),
            max_render_seconds: self.max_render_seconds.or(defaults.max_render_seconds),
        }
    }

    /// Everything in them that cannot be.
    #[must_use]
    pub fn check(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(weight) = self.weight.filter(|weight| !(1..=Self::MAX_WEIGHT).contains(weight)) {
            let detail = format!("is {weight}, and must be from 1 to {}", Self::MAX_WEIGHT);
            errors.push(FieldError::new("/weight", detail));
        }
        if let Some(bytes) = self.max_body.filter(|bytes| *bytes < Self::SMALLEST_BODY) {
            let detail = format!("is {bytes}, and must be at least {} bytes", Self::SMALLEST_BODY);
            errors.push(FieldError::new("/maxBody", detail));
        }
        if self.max_render_seconds == Some(0) {
            errors.push(FieldError::new("/maxRenderSeconds", "is 0, and must be at least 1 second"));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tenant_does_not_say_is_the_default_and_what_nobody_says_is_no_limit() {
        let own = Limits { max_queued: Some(0), max_body: Some(2_048), ..Limits::default() };
        let defaults = Limits { weight: Some(3), max_queued: Some(9), ..Limits::default() };
        let expected =
            Limits { weight: Some(3), max_queued: Some(0), max_body: Some(2_048), ..Limits::default() };
        assert_eq!(own.or(defaults), expected);
        assert_eq!(Limits::default().or(Limits::default()), Limits { weight: Some(1), ..Limits::default() });
    }

    #[test]
    fn limits_that_cannot_be_are_told_all_at_once() {
        let wrong = Limits {
            weight: Some(0),
            max_body: Some(1_023),
            max_render_seconds: Some(0),
            ..Limits::default()
        };
        let pointers: Vec<_> = wrong.check().into_iter().map(|error| error.pointer).collect();
        assert_eq!(pointers, ["/weight", "/maxBody", "/maxRenderSeconds"]);
        let least = Limits {
            weight: Some(1),
            max_concurrency: Some(0),
            max_queued: Some(0),
            submits_per_minute: Some(0),
            max_body: Some(1_024),
            max_render_seconds: Some(1),
        };
        assert_eq!(least.check(), []);
        assert!(!Limits { weight: Some(1_001), ..least }.check().is_empty());
    }
}
