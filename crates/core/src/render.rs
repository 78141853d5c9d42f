//! A render, its states, and the only function that moves it from one to another.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Names one requested video; never changes across attempts. A UUID of version 7, so ids sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenderId(Uuid);

impl RenderId {
    /// A new id for a render accepted at `now`.
    pub fn generate(now: Timestamp, rng: &mut fastrand::Rng) -> Self {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let mut random = [0; 10];
        rng.fill(&mut random);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

impl fmt::Display for RenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for RenderId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// Names who owns a render. Comes from the token, never from the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TenantId(String);

impl TenantId {
    /// Wraps a name that a verified token carried.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Defines a fieldless enum whose text is the same in JSON, in SQL and on the command line. The text is a `tt`, because
/// utoipa does not find the name in a `literal` that has gone through a macro.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:tt,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it in JSON, SQL, logs and on the command line.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    format!("`{text}` is not one of {}", known.join(", "))
                })
            }
        }
    };
}
pub(crate) use words;

words! {
    /// The state of a render. There is no other.
    Status {
        /// Waits: for its turn, for its time, or for somebody to lift a pause.
        Queued = "queued",
        /// Somebody holds its lease.
        Rendering = "rendering",
        /// Its output is complete, verified and committed.
        Succeeded = "succeeded",
        /// Ended without an output: a permanent fault, or no attempts left.
        Failed = "failed",
        /// Ended because somebody asked for it.
        Cancelled = "cancelled",
    }
}

words! {
    /// What a rendering render is busy with.
    Phase {
        /// Loading the site and working out the composition.
        Bundling = "bundling",
        /// Making frames.
        Rendering = "rendering",
        /// Joining frames and audio into the file.
        Stitching = "stitching",
        /// Verifying the file and bringing it where outputs live.
        Uploading = "uploading",
    }
}

words! {
    /// What is made: something that plays, or one picture.
    Kind {
        /// A video, a GIF or audio.
        Media = "media",
        /// One frame as a picture or PDF.
        Still = "still",
    }
}

/// What may happen to a render.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker takes its lease.
    Claim,
    /// The lease ends with nothing decided: a retryable fault, a lost lease, a hand-back.
    Requeue,
    /// The output is complete and verified.
    Succeed,
    /// A permanent fault, or a retryable one with no attempts left.
    Fail,
    /// Somebody asked for it to stop, and it did.
    Cancel,
    /// Somebody asked for another go at a render that ended without an output.
    Retry,
}

impl Event {
    const fn done(self) -> &'static str {
        match self {
            Self::Claim => "claimed",
            Self::Requeue => "queued again",
            Self::Succeed => "completed",
            Self::Fail => "failed",
            Self::Cancel => "cancelled",
            Self::Retry => "retried",
        }
    }
}

/// The event cannot happen to a render in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a render that is {status} cannot be {}", event.done())]
pub struct IllegalTransition {
    /// The state it is in.
    pub status: Status,
    /// What was tried.
    pub event: Event,
}

impl Status {
    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalTransition`] when the event cannot happen in this state.
    pub fn on(self, event: Event) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::Queued, Event::Claim) => Ok(Self::Rendering),
            (Self::Rendering, Event::Requeue) | (Self::Failed | Self::Cancelled, Event::Retry) => {
                Ok(Self::Queued)
            }
            (Self::Rendering, Event::Succeed) => Ok(Self::Succeeded),
            (Self::Rendering, Event::Fail) => Ok(Self::Failed),
            (Self::Queued | Self::Rendering, Event::Cancel) => Ok(Self::Cancelled),
            (status, event) => Err(IllegalTransition { status, event }),
        }
    }

    /// Whether nothing more happens unless somebody asks for it.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What it is busy with.
    pub phase: Phase,
    /// Frames that left the browser.
    pub frames_rendered: u32,
    /// Frames that this render will have; 0 until the composition is known.
    pub frame_count: u32,
    /// All of it, from 0 to 1.
    pub overall: f64,
}

impl Progress {
    /// Nothing done yet.
    pub const START: Self = Self { phase: Phase::Bundling, frames_rendered: 0, frame_count: 0, overall: 0.0 };
}

/// Why an attempt, or a whole render, ended without an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Failure {
    /// A word a program can match on, such as `composition_not_found` or `browser_crashed`.
    pub code: String,
    /// The name of the error, as JavaScript has it.
    pub name: String,
    /// What a person reads.
    pub message: String,
    /// Where in the site it happened, mapped back to its sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// Whether another attempt may mend it.
    pub retryable: bool,
}

impl Failure {
    /// Somebody asked for the render to stop, and it did.
    #[must_use]
    pub fn cancelled() -> Self {
        let cancelled = Self::new("cancelled", "the render was cancelled", false);
        Self { name: "CancelledError".into(), ..cancelled }
    }

    /// So many leases in a row were lost, and no further one is given.
    #[must_use]
    pub fn worker_lost(times: u32) -> Self {
        let message =
            format!("its worker died {times} times in a row while rendering it, so it is not tried again");
        Self::new("worker_lost", message, false)
    }

    /// A failure that Lastframe itself noticed.
    pub fn new(code: &str, message: impl Into<String>, retryable: bool) -> Self {
        Self {
            code: code.into(),
            name: "RenderError".into(),
            message: message.into(),
            stack: None,
            retryable,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// The finished file, as verified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Output {
    /// Where it lies: a path within the data folder's outputs, or a URL such as `s3://bucket/ID/1.mp4`. Every attempt has a
    /// key of its own.
    pub key: String,
    /// Bytes.
    pub size_in_bytes: u64,
    /// SHA-256 of the bytes, in hex; empty for files of before it was taken.
    #[serde(default)]
    pub sha256: String,
    /// Media type.
    pub content_type: String,
    /// Frames counted in the file; absent for audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_count: Option<u32>,
    /// Pixels; absent for audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels; absent for audio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Seconds; absent for stills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_in_seconds: Option<f64>,
    /// What rendering it has cost, in US dollars; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_in_usd: Option<f64>,
    /// When the file goes, or went; absent when it is kept for as long as the render is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
}

impl Output {
    /// When the file was deleted; none while it should be there.
    #[must_use]
    pub fn deleted_at(&self) -> Option<Timestamp> {
        match self.deletion {
            Some(Deletion::Done(at)) => Some(at),
            _ => None,
        }
    }
}

/// What becomes of an output that goes before its render's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Deletion {
    /// It goes so many days after the render's end.
    AfterDays(u32),
    /// It went then.
    Done(Timestamp),
}

/// Why a queued render is not being claimed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Blocked {
    /// Its time has not come: `runAt`, or the back-off after a retryable fault.
    Delayed {
        /// When it may start.
        run_at: Timestamp,
    },
    /// An earlier render of its group is not terminal yet.
    Group {
        /// The render that has the turn.
        render_id: RenderId,
    },
    /// Its group is paused.
    GroupPaused,
    /// All renders of its tenant are paused.
    TenantPaused,
    /// The whole queue is paused.
    QueuePaused,
    /// Its tenant has as many renders under way as it may.
    TenantLimit,
    /// A render of its group failed under `onFailure: block`, and nobody has retried or skipped it.
    GroupHeld {
        /// The render that failed.
        render_id: RenderId,
    },
}

/// One lease of a render, as remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attempt {
    /// Counts the leases of this render from 1.
    pub number: u32,
    /// Who held the lease.
    pub worker: String,
    /// When it was claimed.
    pub started_at: Timestamp,
    /// When it ended; absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// `succeeded`, `failed`, `cancelled`, `handed_back` or `lost`; absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why it ended, when it went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// A render, as the queue knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Render {
    /// Its name.
    pub id: RenderId,
    /// Its place in the order of acceptance; a retry keeps it.
    pub seq: i64,
    /// Who owns it.
    pub tenant: TenantId,
    /// Its ordering key, if it has one.
    pub group: Option<String>,
    /// What is made.
    pub kind: Kind,
    /// The site's name or URL as asked for.
    pub site: String,
    /// The version the name stood for when the render was accepted.
    pub site_version: String,
    /// The composition.
    pub composition: String,
    /// Its state.
    pub status: Status,
    /// Higher goes first within the tenant.
    pub priority: i32,
    /// Not before.
    pub run_at: Timestamp,
    /// The current attempt, counted against `max_attempts`; hand-backs and lost leases do not count.
    pub attempt: u32,
    /// How many attempts it may have.
    pub max_attempts: u32,
    /// How often it was leased.
    pub leases: u32,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was first leased.
    pub started_at: Option<Timestamp>,
    /// When the lease it has now began.
    pub attempt_started_at: Option<Timestamp>,
    /// When it became terminal.
    pub finished_at: Option<Timestamp>,
    /// When somebody asked a rendering render to stop.
    pub cancel_requested_at: Option<Timestamp>,
    /// How far the current or last attempt came.
    pub progress: Option<Progress>,
    /// Why it failed, or why its last attempt did.
    pub error: Option<Failure>,
    /// Its file, once it succeeded.
    pub output: Option<Output>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_transitions_exist() {
        use Event::*;
        use Status::*;
        let legal = [
            (Queued, Claim, Rendering),
            (Queued, Cancel, Cancelled),
            (Rendering, Requeue, Queued),
            (Rendering, Succeed, Succeeded),
            (Rendering, Fail, Failed),
            (Rendering, Cancel, Cancelled),
            (Failed, Retry, Queued),
            (Cancelled, Retry, Queued),
        ];
        for &status in Status::ALL {
            for event in [Claim, Requeue, Succeed, Fail, Cancel, Retry] {
                let expected = legal.iter().find(|(s, e, _)| (*s, *e) == (status, event)).map(|(.., to)| *to);
                assert_eq!(status.on(event).ok(), expected, "{status} on {event:?}");
            }
        }
    }

    #[test]
    fn ids_of_later_renders_sort_after_those_of_earlier_ones() {
        let mut rng = fastrand::Rng::with_seed(1);
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        let (a, b) = (RenderId::generate(at(1_000), &mut rng), RenderId::generate(at(1_001), &mut rng));
        assert!(a < b && a.to_string() < b.to_string());
        assert_eq!(a.to_string().parse(), Ok(a));
    }
}
