//! What is asked for, and what comes of it.

use jiff::Timestamp;

use crate::ports::{IdempotencyKey, LeaseError, NewRender, Pausable};
use crate::render::Blocked;
use crate::request::QueueOptions;
use crate::{Failure, Kind, OnFailure, Outcome, Output, Render, RenderId, RenderRequest, TenantId};

/// Names the composition, so that a test that fails says which render it is about.
#[must_use]
pub fn render(composition: &str) -> NewRender {
    NewRender {
        kind: Kind::Media,
        site_version: "v1".into(),
        request: RenderRequest {
            composition: composition.into(),
            serve_url: "site".into(),
            ..RenderRequest::default()
        },
        default_max_attempts: 3,
    }
}

/// How a render is queued, in words.
pub trait Asks: Sized {
    /// Its options.
    fn queue(&mut self) -> &mut QueueOptions;

    /// After the earlier ones of that group.
    #[must_use]
    fn in_group(mut self, group: &str) -> Self {
        self.queue().group = Some(group.into());
        self
    }

    /// Higher goes first.
    #[must_use]
    fn with_priority(mut self, priority: i32) -> Self {
        self.queue().priority = Some(priority);
        self
    }

    /// Delayed.
    #[must_use]
    fn not_before(mut self, at: Timestamp) -> Self {
        self.queue().run_at = Some(at);
        self
    }

    /// As many at most.
    #[must_use]
    fn with_attempts(mut self, attempts: u32) -> Self {
        self.queue().max_attempts = Some(attempts);
        self
    }

    /// Its group does not go on when it fails.
    #[must_use]
    fn holding_its_group(mut self) -> Self {
        self.queue().on_failure = Some(OnFailure::Block);
        self
    }
}

impl Asks for NewRender {
    fn queue(&mut self) -> &mut QueueOptions {
        self.request.queue.get_or_insert_default()
    }
}

/// An idempotency key, for a body that is told from others by one byte.
#[must_use]
pub fn key(name: &str, body: u8) -> IdempotencyKey {
    IdempotencyKey { key: name.into(), body_hash: [body; 32] }
}

/// An output.
#[must_use]
pub fn succeeded() -> Outcome {
    Outcome::Succeeded(Output {
        key: "out/1.mp4".into(),
        size_in_bytes: 1_000,
        sha256: "00".repeat(32),
        content_type: "video/mp4".into(),
        frame_count: Some(150),
        width: Some(1920),
        height: Some(1080),
        duration_in_seconds: Some(5.0),
        cost_in_usd: None,
        deletion: None,
    })
}

/// A fault that another attempt may mend.
#[must_use]
pub fn passing() -> Outcome {
    Outcome::Failed(Failure::new("browser_crashed", "the browser crashed", true))
}

/// A fault that no attempt will mend.
#[must_use]
pub fn permanent() -> Outcome {
    Outcome::Failed(Failure::new("composition_not_found", "there is no such composition", false))
}

/// Whether the queue told the holder that its lease is lost.
pub fn is_lost<T>(result: Result<T, LeaseError>) -> bool {
    result.is_err_and(|error| matches!(error, LeaseError::Lost))
}

/// What stands before a render while that other one of its group has the turn.
#[must_use]
pub fn behind(render: &Render) -> Option<Blocked> {
    Some(Blocked::Group { render_id: render.id })
}

/// What stands before a render whose group that other one holds.
#[must_use]
pub fn held_by(render: &Render) -> Option<Blocked> {
    Some(Blocked::GroupHeld { render_id: render.id })
}

/// A render that the queue has never heard of.
#[must_use]
pub fn nobody() -> RenderId {
    RenderId::generate(Timestamp::UNIX_EPOCH, &mut fastrand::Rng::with_seed(0))
}

/// A tenant, to be paused.
#[must_use]
pub fn tenant(name: &str) -> Pausable {
    Pausable::Tenant(TenantId::new(name))
}

/// A group of ann's, to be paused.
#[must_use]
pub fn group(name: &str) -> Pausable {
    Pausable::Group(TenantId::new("ann"), name.into())
}
