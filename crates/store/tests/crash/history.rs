//! What was asked of the store and what it answered, in the order in which it was said.

use lastframe_core::notice::WebhookOptions;
use lastframe_core::ports::NewRender;
use lastframe_core::props::Props;
use lastframe_core::request::QueueOptions;
use lastframe_core::{Kind, LeaseToken, OnFailure, RenderId, RenderRequest, Status};
use serde::{Deserialize, Serialize};

/// The only site there is, in its only version.
pub(crate) const SITE: &str = "site";
pub(crate) const VERSION: &str = "v1";
/// The code of every failure that a worker reports. Its message is the lease's token, and so is an output's key.
pub(crate) const REPORTED: &str = "browser_crashed";

/// One thing that was said, and what the clock showed then, in milliseconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) at: i64,
    pub(crate) event: Event,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// About to be issued. Calls are numbered over all lives of the store.
    Asked(u32, Call),
    Answered(u32, Answer),
    /// From now on the disk keeps this rule; see `disk.c`.
    Ruled(String),
    /// The process is no more. Nobody heard the answers to what it had asked.
    Died,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    Submit {
        tenant: String,
        key: Option<Key>,
        renders: Vec<Wanted>,
    },
    /// Every claim has a worker of its own, so the attempts tell which claim each lease came of.
    Claim {
        worker: String,
    },
    Extend {
        render: RenderId,
        token: LeaseToken,
    },
    Release {
        render: RenderId,
        token: LeaseToken,
        until: Option<i64>,
    },
    Finish {
        render: RenderId,
        token: LeaseToken,
        end: End,
    },
    Cancel {
        render: RenderId,
    },
    Retry {
        render: RenderId,
    },
    /// Time passes, and the sweep notices.
    Pass {
        millis: u64,
    },
}

/// An idempotency key, and which of the bodies that were sent under it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) body: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    Succeeded,
    FailedForNow,
    FailedForGood,
    Cancelled,
}

/// A render as asked for. `name` is its composition, and no other render of its tenant has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) group: Option<String>,
    pub(crate) priority: i32,
    pub(crate) run_at: Option<i64>,
    pub(crate) max_attempts: u32,
    /// It holds its group when it fails.
    pub(crate) holds: bool,
    /// Bytes of its props.
    pub(crate) size: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Submitted {
        renders: Vec<Seen>,
        replayed: bool,
    },
    Claimed(Option<Leased>),
    Extended {
        cancel_requested: bool,
    },
    Released,
    Finished(Status),
    Changed(Seen),
    Passed,
    /// The lease is lost.
    Lost,
    KeyReused,
    /// The render's state does not allow it.
    Illegal,
    NotFound,
    /// The storage failed.
    Failed(String),
}

impl Answer {
    /// A word for it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Submitted { replayed: false, .. } => "submitted",
            Self::Submitted { replayed: true, .. } => "replayed",
            Self::Claimed(Some(_)) => "claimed",
            Self::Claimed(None) => "claimed nothing",
            Self::Extended { .. } => "extended",
            Self::Released => "released",
            Self::Finished(_) => "finished",
            Self::Changed(_) => "changed",
            Self::Passed => "passed",
            Self::Lost => "lost",
            Self::KeyReused => "key reused",
            Self::Illegal => "illegal",
            Self::NotFound => "not found",
            Self::Failed(_) => "failed",
        }
    }

    /// Whether the answer proves that something was written. An extension or a cancel may leave a render as it was.
    pub(crate) fn proves_a_write(&self) -> bool {
        match self {
            Self::Submitted { replayed, .. } => !replayed,
            Self::Claimed(leased) => leased.is_some(),
            Self::Changed(seen) => seen.status != Status::Rendering,
            Self::Released | Self::Finished(_) => true,
            _ => false,
        }
    }
}

/// A render as an answer tells of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) id: RenderId,
    pub(crate) seq: i64,
    pub(crate) status: Status,
    pub(crate) attempt: u32,
    pub(crate) leases: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leased {
    pub(crate) render: Seen,
    pub(crate) token: LeaseToken,
}

impl Wanted {
    /// What is sent for it. The props are as long as wanted and differ from those of any other.
    pub(crate) fn request(&self) -> RenderRequest {
        let mut text = self.name.clone();
        while text.len() < self.size {
            text.push_str(&self.name);
        }
        let props: Props = serde_json::from_str(&serde_json::json!({ "text": text }).to_string()).unwrap();
        RenderRequest {
            composition: self.name.clone(),
            serve_url: SITE.into(),
            input_props: Some(props),
            webhook: Some(WebhookOptions {
                url: format!("https://{}.example/", self.group.as_deref().unwrap_or("ends")),
                secret: None,
                custom_data: None,
            }),
            queue: Some(QueueOptions {
                group: self.group.clone(),
                priority: Some(self.priority),
                run_at: self.run_at.map(|at| jiff::Timestamp::from_millisecond(at).unwrap()),
                max_attempts: Some(self.max_attempts),
                on_failure: Some(if self.holds { OnFailure::Block } else { OnFailure::Continue }),
                ..QueueOptions::default()
            }),
            ..RenderRequest::default()
        }
    }

    pub(crate) fn new_render(&self) -> NewRender {
        NewRender {
            kind: Kind::Media,
            site_version: VERSION.into(),
            request: self.request(),
            default_max_attempts: 1,
        }
    }
}
