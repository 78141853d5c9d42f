//! Which outputs nobody needs.

use std::io;
use std::path::Path;

use lastframe_core::ports::Queue;
use lastframe_core::{RenderId, Status};

use super::{beside, poster_of};

/// Those of a render's keys that no commit names, nor ever will. They must have been looked for before this is asked: one
/// that was there then is either of a render that is still being rendered, or was decided about.
pub(super) async fn leftovers(queue: &dyn Queue, id: RenderId, keys: Vec<String>) -> io::Result<Vec<String>> {
    let Some(known) = queue.get(id).await.map_err(io::Error::other)? else {
        // Not ours to judge: a database that was lost or restored must not take the videos with it.
        tracing::warn!(render.id = %id, "there are outputs of a render that the queue does not know; they are kept");
        return Ok(Vec::new());
    };
    if known.status == Status::Rendering {
        return Ok(Vec::new());
    }
    let is_left = |key: &String| {
        // One of a later lease than the queue knows of was made before the database was restored.
        let is_of_a_known_lease = lease(key).is_some_and(|lease| lease <= known.leases);
        is_of_a_known_lease && known.output.as_ref().is_none_or(|output| !belongs_to(key, &output.key))
    };
    Ok(keys.into_iter().filter(is_left).collect())
}

/// Whether it is the output, or its poster.
fn belongs_to(key: &str, output: &str) -> bool {
    key == output || [poster_of(output), beside(output)].into_iter().flatten().any(|poster| poster == key)
}

/// The lease under which an output was made.
fn lease(key: &str) -> Option<u32> {
    Path::new(key).file_name()?.to_str()?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_keeps_its_own_poster_and_no_other_attempts() {
        for output in ["render/2.mp4", "s3://bucket/render/2.mp4"] {
            assert!(belongs_to(output, output) && belongs_to("render/2.poster.jpg", output));
            assert!(!belongs_to("render/1.poster.jpg", output) && !belongs_to("render/1.mp4", output));
        }
        assert!(belongs_to("s3://bucket/render/2.poster.jpg", "s3://bucket/render/2.mp4"));
        assert!(!belongs_to("s3://bucket/render/1.poster.jpg", "s3://bucket/render/2.mp4"));
        assert_eq!((lease("render/12.mp4"), lease("render/12.poster.jpg")), (Some(12), Some(12)));
    }
}
