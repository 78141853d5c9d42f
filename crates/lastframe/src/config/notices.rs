//! Where notices may go.

use lastframe_core::net::HostRule;
use serde::Deserialize;

use super::host_rules;

/// `[webhook]` in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WebhookSection {
    allow_private: Option<bool>,
    #[serde(deserialize_with = "host_rules")]
    allow_hosts: Vec<HostRule>,
}

/// Where webhooks may go beyond the public Internet.
#[derive(Clone, Debug, Default)]
pub struct Webhooks {
    /// Anywhere.
    pub allow_private: bool,
    /// To these.
    pub allow_hosts: Vec<HostRule>,
}

impl WebhookSection {
    /// With what a flag says instead.
    pub(super) fn complete(self, allow_private: Option<bool>) -> Webhooks {
        Webhooks {
            allow_private: allow_private.or(self.allow_private).unwrap_or(false),
            allow_hosts: self.allow_hosts,
        }
    }
}
