//! The language of Lastframe: what a render is, which states it has, who may work on it, and the ports the
//! other rooms implement.
//!
//! Nothing here does I/O or knows an async runtime. Reading order: [`render`], [`request`], [`lease`], [`ports`].

pub mod accounts;
pub mod batch;
pub mod capabilities;
pub mod clock;
#[cfg(feature = "test-util")]
pub mod conformance;
pub mod disposition;
pub mod frame_range;
pub mod hex;
mod lambda;
pub mod lease;
pub mod limits;
pub mod net;
pub mod notice;
pub mod observer;
pub mod outbox;
pub mod percent;
pub mod ports;
pub mod props;
pub mod render;
pub mod request;
pub mod site;
pub mod verify;

pub use accounts::{Scope, Scopes};
pub use clock::{Clock, ManualClock, SystemClock};
pub use lease::{Checkpoint, Extended, HandBack, Lease, LeaseToken, Outcome, RetryPolicy};
pub use limits::Limits;
pub use observer::Observer;
pub use render::{
    Attempt, Blocked, Deletion, Event, Failure, Kind, Output, Phase, Progress, Render, RenderId, Status,
    TenantId,
};
pub use request::{FieldError, OnFailure, Privacy, QueueOptions, RenderRequest, RendererName};

/// An error with its causes, on one line.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
