//! Mail by Amazon SES, in the name of the function's role.

use aws_config::SdkConfig;
use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_sdk_sesv2::primitives::Blob;
use aws_sdk_sesv2::types::{Destination, EmailContent, RawMessage};
use lastframe::cloud::{Address, Fault, Post};

/// The longest of what SES said that is kept, in characters.
const SAID: usize = 300;

/// Hands mails to SES.
#[derive(Clone, Debug)]
pub struct Ses {
    client: Client,
}

impl Ses {
    /// Asks nothing yet.
    #[must_use]
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { client: Client::new(sdk) }
    }
}

#[async_trait::async_trait]
impl Post for Ses {
    async fn send(&self, from: &Address, to: &Address, mail: &[u8]) -> Result<u16, Fault> {
        let impossible = |error: aws_sdk_sesv2::error::BuildError| Fault::Refused {
            code: None,
            said: format!("no mail can be made of this: {error}"),
        };
        let raw = RawMessage::builder().data(Blob::new(mail)).build().map_err(impossible)?;
        let asked = self
            .client
            .send_email()
            .from_email_address(from.to_string())
            .destination(Destination::builder().to_addresses(to.to_string()).build())
            .content(EmailContent::builder().raw(raw).build());
        match asked.send().await {
            Ok(_) => Ok(200),
            Err(error) => {
                let code = error.raw_response().map(|answer| answer.status().as_u16());
                let said = match error.code() {
                    Some(kind) => format!("SES answers {kind}: {}", error.message().unwrap_or_default()),
                    None => format!("SES cannot be asked: {}", DisplayErrorContext(&error)),
                };
                let said = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID).collect();
                Err(judged(error.code(), error.message().unwrap_or_default(), code, said))
            }
        }
    }
}

/// Whom it is from, and what the account may, is the operator's affair and may be put right; whom it is for, and what it is, are
/// the mail's own.
fn judged(kind: Option<&str>, message: &str, code: Option<u16>, said: String) -> Fault {
    // An account in the sandbox may send to verified addresses alone, and may leave it.
    let of_mail = match kind {
        Some("BadRequestException") => true,
        Some("MessageRejected") => !message.contains("not verified"),
        _ => false,
    };
    if of_mail { Fault::Refused { code, said } } else { Fault::Passing { code, said } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_mail_can_be_blamed_for_is_final() {
        let refused = |kind, message| {
            matches!(judged(Some(kind), message, Some(400), String::new()), Fault::Refused { .. })
        };
        assert!(refused("BadRequestException", "Missing final '@domain'"));
        assert!(refused("MessageRejected", "The message contains a virus."));
        assert!(!refused("MessageRejected", "Email address is not verified."));
        for passing in
            ["TooManyRequestsException", "AccountSuspendedException", "SendingPausedException", "AccessDenied"]
        {
            assert!(!refused(passing, ""), "{passing}");
        }
        assert!(matches!(judged(None, "", None, String::new()), Fault::Passing { code: None, .. }));
    }
}
