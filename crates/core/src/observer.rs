//! What a queue and a worker tell of what they do, for whoever counts it.

use std::fmt;
use std::time::Duration;

use crate::render::{Kind, Render};

/// Hears what happens. It is called in the middle of the work, so it should return at once. Each method does nothing unless it
/// is written.
pub trait Observer: fmt::Debug + Send + Sync {
    /// So many renders were accepted together; `took` is from the question until they were on disk.
    fn accepted(&self, _renders: usize, _took: Duration) {}

    /// A lease of this render was given; `took` is from the question until that was on disk, without the wait for a render.
    fn claimed(&self, _render: &Render, _took: Duration) {}

    /// The queue has recorded the end of an attempt: `succeeded`, `failed`, `cancelled`, `handed_back` or `lost`.
    fn attempt_recorded(&self, _outcome: &'static str) {}

    /// A worker has begun with an attempt.
    fn worker_busy(&self) {}

    /// A worker is free again.
    fn worker_free(&self) {}

    /// A file was made and found to be whole; `took` is from the lease on. Of moving pictures, the frames are known.
    fn rendered(&self, _kind: Kind, _took: Duration, _frames: Option<u32>) {}

    /// News of a render were sent off by a channel such as `webhook`: `delivered`, `retried` or `failed` for good.
    fn delivered(&self, _channel: &'static str, _outcome: &'static str) {}

    /// So many news wait to be sent off, or to be sent again.
    fn deliveries_pending(&self, _pending: u64) {}
}

/// Nobody counts.
impl Observer for () {}
