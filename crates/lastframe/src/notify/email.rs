//! Mail: what a render's end looks like in somebody's inbox, and getting it there.
//!
//! [`letter`] is what is said, [`html`] how it looks, [`post`] takes it, and [`smtp`] is the way to a mail server.

mod advice;
mod html;
mod letter;
mod post;
mod smtp;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use async_trait::async_trait;
use axum::body::Bytes;
use jiff::{SignedDuration, Timestamp};
use lastframe_core::outbox::Due;
use lastframe_core::ports::Outputs;
use lastframe_core::{Clock, Deletion, Status};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, Message, MultiPart, SinglePart};
use lettre::{Address, address::AddressError};
use url::{Host, Url};

use self::letter::{Letter, Link};
pub use self::post::{Fault, Post};
use self::smtp::Smtp;
use super::{Courier, Told, name};
use crate::config::Email;
use crate::links::Links;

/// Tells by mail.
#[derive(Debug)]
pub(crate) struct Mailer<P = Smtp> {
    pub(crate) sender: Sender<P>,
    /// Has the posters.
    pub(crate) outputs: Arc<dyn Outputs>,
    pub(crate) links: Links,
    /// How long a link in a mail is good.
    pub(crate) link_life: Duration,
}

/// Sends letters in the name of the server.
#[derive(Debug)]
pub(crate) struct Sender<P = Smtp> {
    post: P,
    from: Mailbox,
    reply_to: Option<Mailbox>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl<P: Post> Courier for Mailer<P> {
    async fn deliver(&self, due: &Due) -> Told {
        let (link, poster) = (self.link(due), self.poster(due).await);
        let letter = Letter::new(due, link);
        match self.sender.send(&due.notice.target, &name(&due.delivery), &letter, poster).await {
            Ok(code) => Told::Delivered { code: Some(code) },
            Err(Fault::Passing { code, said }) => Told::Retry { code, error: said, after: None },
            Err(Fault::Refused { code, said }) => Told::Refused { code, error: said },
        }
    }
}

impl<P: Post> Mailer<P> {
    /// None where there is no file, or it is gone before anybody could follow.
    fn link(&self, due: &Due) -> Option<Link> {
        let output = due.ended.output.as_ref().filter(|_| due.ended.status == Status::Succeeded)?;
        let now = self.sender.clock.now();
        let until = now + self.link_life;
        let until = match output.deletion {
            None => until,
            Some(Deletion::AfterDays(days)) => {
                let kept = SignedDuration::from_hours(24 * i64::from(days));
                until.min(due.ended.finished_at.checked_add(kept).unwrap_or(Timestamp::MAX))
            }
            Some(Deletion::Done(_)) => return None,
        };
        (until > now).then(|| Link { url: self.links.sign(due.delivery.render, output, until, None), until })
    }

    /// A mail without its picture is better than none.
    async fn poster(&self, due: &Due) -> Option<Bytes> {
        let output = due.ended.output.as_ref().filter(|_| due.ended.status == Status::Succeeded)?;
        let poster = self.outputs.poster(&output.key).await;
        poster
            .inspect_err(|error| {
                tracing::warn!(%error, render.id = %due.delivery.render, "cannot read a poster for a mail");
            })
            .ok()?
    }
}

impl Sender<Smtp> {
    /// Connects to nothing yet. `public_url` says who we are to a mail server that asks.
    ///
    /// # Errors
    /// When the password or the certificates cannot be read.
    pub(crate) fn open(config: &Email, public_url: &str, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let url = Url::parse(public_url).ok();
        let host = url.as_ref().and_then(Url::domain).unwrap_or_default();
        Ok(Self {
            post: Smtp::open(config, host)?,
            from: config.from.clone(),
            reply_to: config.reply_to.clone(),
            clock,
        })
    }

    /// Does all that comes before a mail, and sends none. Says what it found.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) async fn check(&self) -> anyhow::Result<String> {
        Ok(self.post.check().await?)
    }
}

impl<P: Post> Sender<P> {
    /// Sends by what takes its mails.
    pub(crate) fn new(post: P, from: Mailbox, reply_to: Option<Mailbox>, clock: Arc<dyn Clock>) -> Self {
        Self { post, from, reply_to, clock }
    }

    /// Sends a mail that says that mail can be sent.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) async fn send_test(&self, to: &str, public_url: &str) -> anyhow::Result<()> {
        let now = self.clock.now();
        let letter = Letter::test(public_url, now);
        self.send(to, &format!("test-{}", now.as_nanosecond()), &letter, None).await?;
        Ok(())
    }

    /// `id` names the mail for ever: who gets it twice may see that it is the same one.
    async fn send(&self, to: &str, id: &str, letter: &Letter, poster: Option<Bytes>) -> Result<u16, Fault> {
        let impossible = |error: anyhow::Error| Fault::Refused { code: None, said: format!("{error:#}") };
        let to = recipient(to).context("this is no mail address").map_err(impossible)?;
        let message = self
            .message(&to, id, letter, poster)
            .context("no mail can be made of this")
            .map_err(impossible)?;
        self.post.send(&self.from.email, &to, &message.formatted()).await
    }

    fn message(
        &self,
        to: &Address,
        id: &str,
        letter: &Letter,
        poster: Option<Bytes>,
    ) -> anyhow::Result<Message> {
        // So that no robot answers, and no answering machine.
        let header =
            |name, value: &str| HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned());
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(letter.subject.as_str())
            .date(SystemTime::from(self.clock.now()))
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            .raw_header(header("Auto-Submitted", "auto-generated"))
            .raw_header(header("X-Auto-Response-Suppress", "All"));
        if let Some(reply_to) = &self.reply_to {
            message = message.reply_to(reply_to.clone());
        }
        let page = SinglePart::html(html::html(letter, poster.is_some()));
        let body = MultiPart::alternative().singlepart(SinglePart::plain(letter.text()));
        let body = match poster {
            None => body.singlepart(page),
            Some(poster) => {
                let jpeg = ContentType::parse("image/jpeg")?;
                let poster = Attachment::new_inline(html::POSTER.to_owned()).body(poster.to_vec(), jpeg);
                body.multipart(MultiPart::related().singlepart(page).singlepart(poster))
            }
        };
        Ok(message.multipart(body)?)
    }
}

/// The address as mail servers have it: its domain in ASCII.
fn recipient(address: &str) -> Result<Address, AddressError> {
    let (user, domain) = address.rsplit_once('@').ok_or(AddressError::MissingParts)?;
    let ascii = Host::parse(domain).map_err(|_| AddressError::InvalidDomain)?;
    Address::new(user, ascii.to_string())
}

#[cfg(test)]
mod tests;
