//! Mail: whether the mail server that is configured lets us in, and takes a mail if one is to be sent.

use std::sync::Arc;

use lastframe_core::SystemClock;

use super::Finding;
use crate::config::Config;
use crate::notify::email::Sender;

const WHAT: &str = "mail";

pub(super) async fn look(config: Option<&Config>, to: Option<&str>) -> Finding {
    let Some(config) = config else {
        return Finding::warn(WHAT, "unknown: the configuration cannot be read", "see config above");
    };
    let mend = "docs/notices.md#mail tells how it is set up";
    let Some(email) = &config.email else {
        return match to {
            Some(_) => Finding::fail(WHAT, "this server sends none", "set [email]: docs/notices.md#mail"),
            None => Finding::ok(WHAT, "none is sent: there is no email.host"),
        };
    };
    let public_url = config.public_url.as_deref().unwrap_or_default();
    let sender = match Sender::open(email, public_url, Arc::new(SystemClock::new())) {
        Ok(sender) => sender,
        Err(error) => return Finding::fail(WHAT, format!("{error:#}"), mend),
    };
    let found = match sender.check().await {
        Ok(found) => found,
        Err(error) => return Finding::fail(WHAT, format!("{error:#}"), mend),
    };
    let Some(to) = to else { return Finding::ok(WHAT, found) };
    match sender.send_test(to, public_url).await {
        Ok(()) => Finding::ok(WHAT, format!("{found}, and took a mail for {to}")),
        Err(error) => Finding::fail(WHAT, format!("{found}; {error:#}"), mend),
    }
}
