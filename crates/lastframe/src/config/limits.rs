//! `[limits]`: what a tenant gets and how far it may go, where nobody has said it for that tenant.

use std::time::Duration;

use anyhow::Context as _;
use lastframe_core::{FieldError, Limits};
use serde::Deserialize;

use super::optional_duration;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsSection {
    weight: Option<u32>,
    max_concurrency: Option<u32>,
    max_queued: Option<u32>,
    submits_per_minute: Option<u32>,
    max_body: Option<u64>,
    #[serde(deserialize_with = "optional_duration")]
    max_render: Option<Duration>,
}

impl LimitsSection {
    pub(super) fn complete(self) -> anyhow::Result<Limits> {
        let seconds = self.max_render.map(|longest| u32::try_from(longest.as_secs()));
        let limits = Limits {
            weight: self.weight,
            max_concurrency: self.max_concurrency,
            max_queued: self.max_queued,
            submits_per_minute: self.submits_per_minute,
            max_body: self.max_body,
            max_render_seconds: seconds.transpose().context("limits.max_render is too long")?,
        };
        if let Some(FieldError { pointer, detail }) = limits.check().first() {
            // As the file has it.
            let key = match pointer.as_str() {
                "/maxBody" => "max_body",
                "/maxRenderSeconds" => "max_render",
                other => other.trim_start_matches('/'),
            };
            anyhow::bail!("limits.{key} {detail}");
        }
        Ok(limits)
    }
}
