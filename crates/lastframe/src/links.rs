//! Links to outputs that need no token: who has one can fetch the file, until it expires.
//!
//! A link is signed over the render, the key of its output and the end of its time, so it stands for that very file.

use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use lastframe_core::{Output, RenderId, percent};
use serde::Deserialize;
use sha2::Sha256;

use crate::data::DataFolder;

/// The file of the keys in the data folder.
const KEYS: &str = "link-key";
/// Bytes of a key.
const KEY_LENGTH: usize = 32;

/// Makes links, and tells good ones from others.
#[derive(Clone)]
pub(crate) struct Links {
    /// The first one signs; each is good.
    keys: Arc<[Hmac<Sha256>]>,
    public_url: Arc<str>,
}

/// A key for links, as a line of text.
///
/// # Errors
/// When there is no randomness.
pub fn new_key() -> anyhow::Result<String> {
    let mut key = [0; KEY_LENGTH];
    getrandom::fill(&mut key).context("no random numbers")?;
    Ok(format!("{}\n", BASE64_URL_SAFE_NO_PAD.encode(key)))
}

/// What a link says beside its render.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ticket {
    /// Seconds since 1970.
    expires: String,
    signature: String,
    /// The name to save the file under.
    #[serde(default, rename = "as")]
    pub(crate) name: Option<String>,
}

/// Why a link is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// This server has not made it, or not for the file that is there.
    Wrong,
    /// It was good.
    Expired,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Links")
    }
}

impl Links {
    /// Reads the keys of a data folder, making one if there is none. A key is a line; another one put before it signs from
    /// the next start on, and the links of both are good. `public_url` has no slash at its end.
    pub(crate) fn open(data: &DataFolder, public_url: Arc<str>) -> anyhow::Result<Self> {
        let text = data.secret(KEYS, new_key)?;
        Self::read(&text, public_url)
    }

    /// With the keys in that text, each a line.
    pub(crate) fn read(text: &str, public_url: Arc<str>) -> anyhow::Result<Self> {
        let key = |line: &str| {
            let key = BASE64_URL_SAFE_NO_PAD.decode(line).ok().filter(|key| key.len() == KEY_LENGTH);
            key.and_then(|key| Hmac::new_from_slice(&key).ok())
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Option<Vec<_>> = lines.map(key).collect();
        let keys = keys.filter(|keys| !keys.is_empty()).with_context(|| {
            format!(
                "{KEYS} must have lines of {KEY_LENGTH} bytes in Base64 (the URL-safe one, without padding)"
            )
        })?;
        Ok(Self { keys: keys.into(), public_url })
    }

    /// A link to the output, good until `expires`. Under `name`, if there is one, it is saved.
    pub(crate) fn sign(
        &self,
        render: RenderId,
        output: &Output,
        expires: Timestamp,
        name: Option<&str>,
    ) -> String {
        let expires = expires.as_second().to_string();
        let signature = self.keys[0].clone().chain_update(message(render, output, &expires, name)).finalize();
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.into_bytes());
        let name = name.map(|name| format!("&as={}", percent::encode(name))).unwrap_or_default();
        format!("{}/o/{render}?expires={expires}&signature={signature}{name}", self.public_url)
    }

    /// Until when the link is good. A link to nothing is refused in the same time and words as a wrong one.
    pub(crate) fn verify(
        &self,
        render: RenderId,
        output: Option<&Output>,
        ticket: &Ticket,
        now: Timestamp,
    ) -> Result<Timestamp, Refused> {
        let nothing = Output::default();
        let message = message(render, output.unwrap_or(&nothing), &ticket.expires, ticket.name.as_deref());
        let signature = BASE64_URL_SAFE_NO_PAD.decode(&ticket.signature).map_err(|_| Refused::Wrong)?;
        let is_good =
            |key: &Hmac<Sha256>| key.clone().chain_update(&message).verify_slice(&signature).is_ok();
        if !self.keys.iter().any(is_good) || output.is_none() {
            return Err(Refused::Wrong);
        }
        let expires = ticket.expires.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let expires = expires.ok_or(Refused::Wrong)?;
        if now < expires { Ok(expires) } else { Err(Refused::Expired) }
    }
}

/// What is signed. Only the name, which comes last, may hold any character.
fn message(render: RenderId, output: &Output, expires: &str, name: Option<&str>) -> Vec<u8> {
    let mut message = format!("lastframe link\0{render}\0{}\0{expires}\0", output.key);
    if let Some(name) = name {
        message.push('=');
        message.push_str(name);
    }
    message.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lastframe_core::{Clock as _, ManualClock};

    use super::*;

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const OTHER: &str = "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn links(keys: &str) -> Links {
        Links::read(keys, "https://renders.example".into()).unwrap()
    }

    fn render(number: u64) -> RenderId {
        RenderId::generate(Timestamp::UNIX_EPOCH, &mut fastrand::Rng::with_seed(number))
    }

    fn output(key: &str) -> Output {
        Output { key: key.into(), ..Output::default() }
    }

    fn ticket(url: &str) -> Option<Ticket> {
        let url: axum::http::Uri = url.parse().ok()?;
        axum::extract::Query::try_from_uri(&url).ok().map(|axum::extract::Query(ticket)| ticket)
    }

    #[test]
    fn a_link_is_good_until_its_time_is_over_and_for_the_output_it_was_made_for() {
        let clock = ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap());
        let (links, id, made) = (links(KEY), render(1), output("a/1.mp4"));
        let hour = Duration::from_secs(3_600);
        let expires = clock.now() + hour;
        let url = links.sign(id, &made, expires, Some("my film.mp4"));
        let ticket = ticket(&url).unwrap();
        assert_eq!(ticket.name.as_deref(), Some("my film.mp4"));
        let verify = |id, output: Option<&Output>| links.verify(id, output, &ticket, clock.now());
        assert_eq!(verify(id, Some(&made)), Ok(expires));
        assert_eq!(verify(render(2), Some(&made)), Err(Refused::Wrong));
        assert_eq!(verify(id, Some(&output("a/2.mp4"))), Err(Refused::Wrong));
        assert_eq!(verify(id, None), Err(Refused::Wrong));
        clock.advance(hour - Duration::from_millis(1));
        assert_eq!(verify(id, Some(&made)), Ok(expires));
        clock.advance(Duration::from_millis(1));
        assert_eq!(verify(id, Some(&made)), Err(Refused::Expired));
        assert_eq!(verify(render(2), Some(&made)), Err(Refused::Wrong), "it never was good for that one");
    }

    #[test]
    fn no_byte_of_a_link_can_be_changed_left_out_or_added() {
        let now = Timestamp::UNIX_EPOCH;
        let (links, id, made) = (links(KEY), render(1), output("a/1.mp4"));
        let url = links.sign(id, &made, now + Duration::from_secs(3_600), Some("ä.mp4"));
        let is_good = |url: &str| {
            let path = url.strip_prefix("https://renders.example/o/").and_then(|url| url.split_once('?'));
            // What the route does with its path.
            let asked =
                path.and_then(|(path, _)| path.parse::<RenderId>().ok().filter(|id| id.to_string() == path));
            asked.zip(ticket(url)).is_some_and(|(asked, ticket)| {
                links.verify(asked, (asked == id).then_some(&made), &ticket, now).is_ok()
            })
        };
        assert!(is_good(&url));
        for index in 0..url.len() {
            for change in [1, 2, 4, 8, 16, 32, 64] {
                let mut changed = url.clone().into_bytes();
                changed[index] ^= change;
                // The encoding of a name may be written otherwise, and is the same name: %c3 is %C3.
                let is_hex = index > url.find("&as=%").unwrap() && change == 32;
                if let Ok(changed) = String::from_utf8(changed) {
                    assert!(is_hex || !is_good(&changed), "{changed}");
                }
            }
            let (before, after) = url.split_at(index);
            assert!(!is_good(&format!("{before}{}", &after[1..])), "without byte {index}");
            assert!(!is_good(&format!("{before}0{after}")), "with a byte before {index}");
        }
    }

    #[test]
    fn a_new_key_signs_and_the_old_ones_links_are_good_until_it_is_taken_away() {
        let now = Timestamp::UNIX_EPOCH;
        let (id, made, expires) = (render(1), output("a/1.mp4"), now + Duration::from_secs(60));
        let both = links(&format!("{OTHER}\n{KEY}\n"));
        let old = ticket(&links(KEY).sign(id, &made, expires, None)).unwrap();
        let new = ticket(&both.sign(id, &made, expires, None)).unwrap();
        for (keys, old_is_good, new_is_good) in
            [(&both, true, true), (&links(OTHER), false, true), (&links(KEY), true, false)]
        {
            assert_eq!(keys.verify(id, Some(&made), &old, now).is_ok(), old_is_good);
            assert_eq!(keys.verify(id, Some(&made), &new, now).is_ok(), new_is_good);
        }
        for wrong in ["", "short", &format!("{KEY}\nnot a key")] {
            assert!(Links::read(wrong, "".into()).is_err(), "{wrong}");
        }
    }
}
