//! Finding a render whose start was not answered, by the name that its output will have.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use lastframe_core::Kind;

use super::fleet::Place;
use super::remote::{At, State};
use super::trace::Trace;

/// So long after its time a function is taken for dead, as Remotion does.
pub(crate) const OVERTIME: Duration = Duration::from_secs(20);
/// Clocks of AWS and ours may differ by so much.
pub(crate) const SKEW: Duration = Duration::from_secs(60);

/// What a look into the bucket found of a start.
pub(crate) enum Sighting {
    Found(String),
    /// There is one that does not say yet which it is.
    Perhaps,
    Nothing,
}

/// Where a render of that start is.
pub(crate) fn at<'a>(trace: &'a Trace, render_id: &'a str, kind: Kind) -> At<'a> {
    At { bucket: &trace.address.bucket, render_id, out_name: &trace.out_name, kind }
}

/// Looks into the bucket once for a start that was intended, and would have happened by `settled_at`.
pub(crate) async fn looked_for(
    place: &Place,
    trace: &Trace,
    kind: Kind,
    now: Timestamp,
    settled_at: Timestamp,
) -> io::Result<Sighting> {
    let since = trace.intended_at - SKEW;
    let recent = place.remote.recent(&trace.address.bucket, since, &trace.out_name).await?;
    if let Some(it) = recent.iter().find(|recent| recent.has_output) {
        return Ok(Sighting::Found(it.render_id.clone()));
    }
    let mut perhaps = false;
    for candidate in recent {
        let Some(seen) = place.remote.look(at(trace, &candidate.render_id, kind)).await? else { continue };
        match &seen.out_name {
            Some(name) if *name == trace.out_name => return Ok(Sighting::Found(candidate.render_id)),
            Some(_) => {}
            // One that failed before it had a name has cost next to nothing.
            None => {
                let then = since..=settled_at + SKEW;
                // One whose time is over will never say.
                let alive = seen.state == State::Running && now <= seen.gives_up_at + OVERTIME;
                perhaps |= alive && then.contains(&seen.launched_at);
            }
        }
    }
    Ok(if perhaps { Sighting::Perhaps } else { Sighting::Nothing })
}
