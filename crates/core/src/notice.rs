//! Who is told when a render has ended: an address of theirs, and what they want to hear there.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::{Host, Url};

use crate::outbox::NoticeDefaults;
use crate::render::words;
use crate::request::{FieldError, RenderRequest};

/// Most bytes of `webhook.customData`, as Remotion counts them.
pub const MAX_CUSTOM_DATA: usize = 1_024;
/// Most bytes of a webhook's URL.
pub const MAX_URL: usize = 2_048;
/// Most bytes of a webhook's secret.
pub const MAX_SECRET: usize = 512;
/// Most mail addresses of one render.
pub const MAX_ADDRESSES: usize = 10;
/// Longest mail address, in bytes (RFC 5321).
const MAX_ADDRESS: usize = 254;

words! {
    /// How somebody is told.
    Channel {
        /// By a request to a URL.
        Webhook = "webhook",
        /// By a mail.
        Email = "email",
    }
}

/// A webhook of one render, as Remotion takes it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookOptions {
    /// Where it goes: `http` or `https`.
    pub url: String,
    /// What it is signed with; the tenant's secrets when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Given back in the webhook's `customData`; 1,024 bytes at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_data: Option<Map<String, Value>>,
}

impl fmt::Debug for WebhookOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may carry a token of its own, as those of chat programs do.
        let endpoint = endpoint_of(&self.url).unwrap_or_default();
        f.debug_struct("WebhookOptions").field("endpoint", &endpoint).finish_non_exhaustive()
    }
}

/// Who else is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NotifyOptions {
    /// Mail addresses, ten at most.
    pub email: Vec<String>,
}

/// One that is owed to somebody at the end of a render.
#[derive(Clone, PartialEq)]
pub struct Notice {
    /// How they are told.
    pub channel: Channel,
    /// Where: a URL, or a mail address.
    pub target: String,
    /// What it is signed with, where the render says so itself.
    pub secret: Option<String>,
    /// What a webhook gives back.
    pub custom_data: Option<Map<String, Value>>,
}

impl Notice {
    /// Who stands behind the target, in lower case: `host:port` of a URL, the domain of a mail address. What one of them
    /// cannot take says something about the others at the same place, and nothing about those elsewhere.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match self.channel {
            Channel::Webhook => endpoint_of(&self.target).unwrap_or_else(|| self.target.clone()),
            Channel::Email => self.target.rsplit('@').next().unwrap_or_default().to_ascii_lowercase(),
        }
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notice({} to {})", self.channel, self.endpoint())
    }
}

fn endpoint_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    Some(format!("{}:{}", url.host()?, url.port_or_known_default()?))
}

/// What is wrong with the URL of a webhook.
#[must_use]
pub fn check_url(pointer: &str, url: &str) -> Option<FieldError> {
    let fault = |detail: &str| Some(FieldError::new(pointer, detail));
    if url.len() > MAX_URL {
        return Some(FieldError::new(pointer, format!("has more than {MAX_URL} bytes")));
    }
    let Ok(parsed) = Url::parse(url) else {
        return fault("must be a URL, such as `https://example.com/done`");
    };
    if !matches!(parsed.scheme(), "http" | "https") {
        return fault("must begin with `https://` or `http://`");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return fault("must not carry a user name or password: sign with `secret` instead");
    }
    let named = matches!(parsed.host(), Some(Host::Domain(name)) if !name.is_empty());
    if named || matches!(parsed.host(), Some(Host::Ipv4(_) | Host::Ipv6(_))) {
        None
    } else {
        fault("must name a host")
    }
}

/// What is wrong with a secret that webhooks are signed with.
#[must_use]
pub fn check_secret(pointer: &str, secret: &str) -> Option<FieldError> {
    (!(1..=MAX_SECRET).contains(&secret.len()))
        .then(|| FieldError::new(pointer, format!("must have 1 to {MAX_SECRET} bytes")))
}

/// What is wrong with a list of mail addresses.
#[must_use]
pub fn check_addresses(pointer: &str, addresses: &[String]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if addresses.len() > MAX_ADDRESSES {
        errors.push(FieldError::new(pointer, format!("names more than {MAX_ADDRESSES} addresses")));
    }
    for (index, address) in addresses.iter().enumerate() {
        if !is_address(address) {
            errors.push(FieldError::new(
                format!("{pointer}/{index}"),
                "must be a mail address, such as `anna@example.com`, without a name around it",
            ));
        }
    }
    errors
}

/// The plain form that nearly all addresses have. What it lets through cannot end a header or a command of SMTP.
fn is_address(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let local_ok = (1..=64).contains(&local.len())
        && local.split('.').all(|atom| !atom.is_empty())
        && local.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c));
    let labels = || domain.split('.');
    let domain_ok = labels().all(|label| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    address.len() <= MAX_ADDRESS && local_ok && domain_ok
}

impl RenderRequest {
    /// Whom the end of this render is owed to, always in the same order: a notice keeps its number.
    #[must_use]
    pub fn notices(&self) -> Vec<Notice> {
        let webhook = self.webhook.iter().map(|webhook| Notice {
            channel: Channel::Webhook,
            target: webhook.url.clone(),
            secret: webhook.secret.clone(),
            custom_data: webhook.custom_data.clone(),
        });
        let mails = self.notify.iter().flat_map(|notify| &notify.email).map(|address| Notice {
            channel: Channel::Email,
            target: address.clone(),
            secret: None,
            custom_data: None,
        });
        webhook.chain(mails).collect()
    }

    /// Makes it tell those whom its tenant tells by default, if it does not say itself whom: neither by a webhook nor by
    /// `notify`, which may be empty.
    pub fn tell_by_default(&mut self, defaults: &NoticeDefaults) {
        if self.webhook.is_some() || self.notify.is_some() {
            return;
        }
        let webhook = |url: &String| WebhookOptions { url: url.clone(), secret: None, custom_data: None };
        self.webhook = defaults.webhook_url.as_ref().map(webhook);
        self.notify = (!defaults.email.is_empty()).then(|| NotifyOptions { email: defaults.email.clone() });
    }

    /// The request as those who may look at the render are shown it: without the webhook, whose URL may be as good as a
    /// secret, and without the licence key.
    #[must_use]
    pub fn without_secrets(self) -> Self {
        Self { webhook: None, license_key: None, ..self }
    }

    /// Takes over from an earlier go at it what [`without_secrets`](Self::without_secrets) has kept from whoever asks
    /// for this one.
    pub fn with_secrets_of(&mut self, earlier: Self) {
        self.webhook = self.webhook.take().or(earlier.webhook);
        self.license_key = self.license_key.take().or(earlier.license_key);
    }

    pub(crate) fn check_notices(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(webhook) = &self.webhook {
            errors.extend(check_url("/webhook/url", &webhook.url));
            errors.extend(webhook.secret.as_ref().and_then(|secret| check_secret("/webhook/secret", secret)));
            let size =
                webhook.custom_data.as_ref().map_or(0, |data| Value::Object(data.clone()).to_string().len());
            if size > MAX_CUSTOM_DATA {
                errors.push(FieldError::new(
                    "/webhook/customData",
                    format!("has {size} bytes as JSON, and may have {MAX_CUSTOM_DATA}"),
                ));
            }
        }
        if let Some(notify) = &self.notify {
            errors.extend(check_addresses("/notify/email", &notify.email));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_the_place_and_not_the_path() {
        let notice = |channel, target: &str| Notice {
            channel,
            target: target.into(),
            secret: None,
            custom_data: None,
        };
        for (channel, target, endpoint) in [
            (Channel::Webhook, "https://Example.com/a?token=1", "example.com:443"),
            (Channel::Webhook, "http://[::1]:8080/", "[::1]:8080"),
            (Channel::Email, "anna@Example.COM", "example.com"),
        ] {
            assert_eq!(notice(channel, target).endpoint(), endpoint);
        }
    }

    #[test]
    fn what_is_said_of_a_webhook_in_a_log_is_no_secret() {
        let options = WebhookOptions {
            url: "https://chat.example/services/T0K3N".into(),
            secret: Some("s3cr3t".into()),
            custom_data: None,
        };
        let notice = Notice {
            channel: Channel::Webhook,
            target: options.url.clone(),
            secret: None,
            custom_data: None,
        };
        for said in [format!("{options:?}"), format!("{notice:?}")] {
            assert!(
                said.contains("chat.example:443") && !said.contains("T0K3N") && !said.contains("s3cr3t"),
                "{said}"
            );
        }
    }

    #[test]
    fn defaults_are_for_a_request_that_says_nothing_itself() {
        let defaults = NoticeDefaults {
            webhook_url: Some("https://a.example/".into()),
            email: vec!["anna@example.com".into()],
        };
        let told = |webhook: Option<&str>, email: Option<&[&str]>| -> Vec<String> {
            let mut request = RenderRequest {
                webhook: webhook.map(|url| WebhookOptions {
                    url: url.into(),
                    secret: None,
                    custom_data: None,
                }),
                notify: email
                    .map(|email| NotifyOptions { email: email.iter().map(|&one| one.into()).collect() }),
                ..RenderRequest::default()
            };
            request.tell_by_default(&defaults);
            request.notices().into_iter().map(|notice| notice.target).collect()
        };
        assert_eq!(told(None, None), ["https://a.example/", "anna@example.com"]);
        assert_eq!(told(Some("https://b.example/"), None), ["https://b.example/"]);
        assert_eq!(told(None, Some(&["ben@example.com"])), ["ben@example.com"]);
        assert_eq!(told(None, Some(&[])), [""; 0]);
        let mut request = RenderRequest::default();
        request.tell_by_default(&NoticeDefaults::default());
        assert_eq!(request, RenderRequest::default());
    }

    #[test]
    fn only_plain_addresses_are_taken() {
        for good in ["anna@example.com", "a.b+c@sub.example.co", "jürgen@exämple.de", "x@localhost"] {
            assert_eq!(check_addresses("", &[good.into()]), [], "{good}");
        }
        for bad in [
            "",
            "anna",
            "@example.com",
            "anna@",
            "a b@example.com",
            "Anna <anna@example.com>",
            "a@b\r\nRCPT TO:<c@d>",
            "a@b.c>",
            "a..b@example.com",
            "a@-b.example",
            "\"a\"@example.com",
            "a@b@c,d",
        ] {
            assert_eq!(check_addresses("", &[bad.into()]).len(), 1, "{bad}");
        }
    }
}
