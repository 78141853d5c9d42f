//! Everything that happens to a render while somebody holds its lease, and when nobody does any more.

use std::time::Duration;

use lastframe_core::ports::{LeaseError, QueueError};
use lastframe_core::{
    Checkpoint, Event, Extended, Failure, HandBack, LeaseToken, Outcome, Output, Progress, RenderId,
    RetryPolicy, Status,
};
use rusqlite::{OptionalExtension, params};

use crate::integrity;
use crate::line;
use crate::row::to_json;
use crate::seal::Place;
use crate::writer::{Tx, storage};

/// A rendering render, as far as ending its attempt needs it.
struct Held {
    seq: i64,
    id: RenderId,
    tenant: i64,
    group: Option<String>,
    attempt: u32,
    max_attempts: u32,
    lost: u32,
    blocks: bool,
    cancel_requested: bool,
}

const HELD: &str = "SELECT intact, seq, id, tenant_id, group_name, attempt, max_attempts, lost, on_failure = 'block', \
    cancel_requested_at IS NOT NULL FROM render WHERE status = 'rendering'";

fn held(row: &rusqlite::Row<'_>) -> rusqlite::Result<Held> {
    integrity::check(row, 0, || "a render".into())?;
    Ok(Held {
        seq: row.get(1)?,
        id: crate::row::parsed(row, 2)?,
        tenant: row.get(3)?,
        group: row.get(4)?,
        attempt: row.get(5)?,
        max_attempts: row.get(6)?,
        lost: row.get(7)?,
        blocks: row.get(8)?,
        cancel_requested: row.get(9)?,
    })
}

/// The render, if `token` is the fence of the lease it is under.
fn fenced(tx: &Tx<'_>, render: RenderId, token: &LeaseToken) -> Result<Held, LeaseError> {
    tx.db
        .prepare_cached(&format!("{HELD} AND id = ?1 AND lease_token = ?2"))
        .and_then(|mut sql| sql.query_row(params![render.to_string(), token.0], held).optional())
        .map_err(storage)?
        .ok_or(LeaseError::Lost)
}

pub(crate) fn extend(
    tx: &mut Tx<'_>,
    render: RenderId,
    token: &LeaseToken,
    duration: Duration,
    progress: Progress,
    checkpoint: Option<&Checkpoint>,
) -> Result<Extended, LeaseError> {
    // From when it is written, and not from when it was asked for: behind a writer that was held up, nobody's lease ends.
    let deadline = tx.deadline(duration);
    let progress = to_json(&progress)?;
    let (cancel_requested, seq): (_, i64) = tx
        .db
        .prepare_cached(
            "UPDATE render SET lease_deadline = ?3, progress = ?4
             WHERE id = ?1 AND lease_token = ?2 AND status = 'rendering' RETURNING cancel_requested_at IS NOT NULL, seq",
        )
        .and_then(|mut sql| {
            let told = params![render.to_string(), token.0, deadline, progress];
            sql.query_row(told, |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(storage)?
        .ok_or(LeaseError::Lost)?;
    if let Some(checkpoint) = checkpoint {
        let place = Place::new("checkpoint.body", &[&render.to_string()]);
        let body = tx.ring.keys().seal(&place, to_json(checkpoint)?)?;
        let sql = "INSERT INTO checkpoint (seq, body) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET body = excluded.body";
        tx.db.prepare_cached(sql).and_then(|mut sql| sql.execute(params![seq, body])).map_err(storage)?;
    }
    tx.changed(render);
    Ok(Extended { cancel_requested })
}

pub(crate) fn release(
    tx: &mut Tx<'_>,
    render: RenderId,
    token: &LeaseToken,
    why: &HandBack,
) -> Result<(), LeaseError> {
    let held = fenced(tx, render, token)?;
    if held.cancel_requested {
        end(tx, &held, Event::Cancel, None, Some(&Failure::cancelled()))?;
        return Ok(());
    }
    let backoff = match why {
        HandBack::Draining => 0,
        HandBack::Throttled { until } => until.as_millisecond() - tx.now,
    };
    requeue(tx, &held, "handed_back", None, backoff, Uncounted::HandBack)?;
    Ok(())
}

pub(crate) fn finish(
    tx: &mut Tx<'_>,
    render: RenderId,
    token: &LeaseToken,
    outcome: &Outcome,
    policy: RetryPolicy,
) -> Result<Status, LeaseError> {
    let held = fenced(tx, render, token)?;
    let status = match outcome {
        Outcome::Succeeded(output) => end(tx, &held, Event::Succeed, Some(output), None)?,
        Outcome::Cancelled => end(tx, &held, Event::Cancel, None, Some(&Failure::cancelled()))?,
        // Asked to stop, and it broke instead of stopping: what was asked for has come about.
        Outcome::Failed(_) if held.cancel_requested => {
            end(tx, &held, Event::Cancel, None, Some(&Failure::cancelled()))?
        }
        Outcome::Failed(failure) if failure.retryable && held.attempt < held.max_attempts => {
            let delay = policy.delay(&failure.code, held.attempt, tx.rng);
            let backoff = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX / 2);
            requeue(tx, &held, "failed", Some(failure), backoff, Uncounted::No)?
        }
        Outcome::Failed(failure) => end(tx, &held, Event::Fail, None, Some(failure))?,
    };
    Ok(status)
}

/// The holder is dead or as good as dead.
pub(crate) fn lose(tx: &mut Tx<'_>, seq: i64, policy: RetryPolicy) -> Result<(), QueueError> {
    let held = tx
        .db
        .prepare_cached(&format!("{HELD} AND seq = ?1"))
        .and_then(|mut sql| sql.query_row([seq], held).optional())
        .map_err(storage)?;
    let Some(held) = held else { return Ok(()) };
    if held.cancel_requested {
        end(tx, &held, Event::Cancel, None, Some(&Failure::cancelled()))?;
    } else if held.lost + 1 >= policy.max_lost {
        let failure = Failure::worker_lost(held.lost + 1);
        end(tx, &held, Event::Fail, None, Some(&failure))?;
    } else {
        requeue(tx, &held, "lost", None, 0, Uncounted::Lost)?;
    }
    Ok(())
}

/// The code of a render that [`condemn`] has ended. It cannot be retried: what it asked for is not known for sure.
pub(crate) const RECORD_DAMAGED: &str = "record_damaged";

/// Ends a render whose record is damaged: what it says cannot be followed, and left where it is it would be in the way.
pub(crate) fn condemn(tx: &mut Tx<'_>, seq: i64) -> Result<(), QueueError> {
    let failure = Failure::new(
        RECORD_DAMAGED,
        "its record was damaged on disk, so it is not rendered: submit it again (`lastframe check` looks for more damage)",
        false,
    );
    let error = to_json(&failure)?;
    // What it says of its id and its group may be what is damaged.
    let group: Option<(i64, String)> = tx
        .db
        .prepare_cached("SELECT tenant_id, name FROM render_group WHERE head = ?1")
        .and_then(|mut sql| sql.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .map_err(storage)?;
    let (id, holds) = tx
        .db
        .prepare_cached(
            "UPDATE render SET status = 'failed', gate = NULL, lease_token = NULL, lease_deadline = NULL,
                progress = NULL, checkpoint = NULL, output = NULL, error = ?2, finished_at = ?3
             WHERE seq = ?1 RETURNING id, on_failure = 'block'",
        )
        .and_then(|mut sql| {
            sql.query_row(params![seq, error, tx.now], |row| {
                Ok((String::from_utf8_lossy(row.get_ref(0)?.as_bytes()?).into_owned(), row.get(1)?))
            })
        })
        .map_err(storage)?;
    forget_checkpoint(tx, seq).map_err(storage)?;
    tracing::error!(render.id = id, "the record of a render is damaged; it is failed");
    if let Some((tenant, group)) = &group {
        line::leave(tx, seq, *tenant, group, holds).map_err(storage)?;
    }
    tx.claimable();
    if let Ok(id) = crate::row::id(&id) {
        tx.changed(id);
    }
    Ok(())
}

/// Whether the attempt that ends is taken off the count again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Uncounted {
    No,
    HandBack,
    Lost,
}

fn requeue(
    tx: &mut Tx<'_>,
    held: &Held,
    outcome: &'static str,
    failure: Option<&Failure>,
    backoff: i64,
    uncounted: Uncounted,
) -> Result<Status, QueueError> {
    let status = moved(Event::Requeue)?;
    close_attempt(tx, held.seq, outcome, failure)?;
    let error = failure.map(to_json).transpose()?;
    // A hand-back says nothing about whether the render kills its workers, so it leaves that count as it is.
    let lost = match uncounted {
        Uncounted::No => 0,
        Uncounted::HandBack => held.lost,
        Uncounted::Lost => held.lost + 1,
    };
    let backoff_until = (backoff > 0).then(|| tx.monotonic.saturating_add(backoff));
    tx.db
        .prepare_cached(
            "UPDATE render SET status = 'queued', gate = 2, lease_token = NULL, lease_deadline = NULL,
                attempt = attempt - ?2, lost = ?3, backoff_until = ?4, error = coalesce(?5, error), progress = NULL,
                attempt_started_at = NULL
             WHERE seq = ?1",
        )
        .and_then(|mut sql| sql.execute(params![held.seq, uncounted != Uncounted::No, lost, backoff_until, error]))
        .and_then(|_| line::enqueue(tx, held.seq, held.tenant, held.group.as_deref()))
        .map_err(storage)?;
    tx.changed(held.id);
    Ok(status)
}

fn end(
    tx: &mut Tx<'_>,
    held: &Held,
    event: Event,
    output: Option<&Output>,
    failure: Option<&Failure>,
) -> Result<Status, QueueError> {
    let status = moved(event)?;
    close_attempt(tx, held.seq, status.as_str(), failure)?;
    let output = output.map(to_json).transpose()?;
    let error = failure.map(to_json).transpose()?;
    let holds = held.blocks && status == Status::Failed;
    let mut written = || -> rusqlite::Result<()> {
        tx.db
            .prepare_cached(
                "UPDATE render SET status = ?2, lease_token = NULL, lease_deadline = NULL, lost = 0,
                    output = ?3, error = ?4, finished_at = ?5
                 WHERE seq = ?1",
            )?
            .execute(params![held.seq, status.as_str(), output, error, tx.now])?;
        forget_checkpoint(tx, held.seq)?;
        match &held.group {
            Some(group) => line::leave(tx, held.seq, held.tenant, group, holds),
            None => Ok(()),
        }
    };
    written().map_err(storage)?;
    tx.changed(held.id);
    Ok(status)
}

/// What an attempt left for the next is of no use once there is no next one.
pub(crate) fn forget_checkpoint(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    tx.db.prepare_cached("DELETE FROM checkpoint WHERE seq = ?1")?.execute([seq])?;
    Ok(())
}

fn close_attempt(
    tx: &mut Tx<'_>,
    seq: i64,
    outcome: &'static str,
    failure: Option<&Failure>,
) -> Result<(), QueueError> {
    let error = failure.map(to_json).transpose()?;
    tx.db
        .prepare_cached(
            "UPDATE attempt SET ended_at = ?2, outcome = ?3, error = ?4
             WHERE seq = ?1 AND number = (SELECT leases FROM render WHERE seq = ?1)",
        )
        .and_then(|mut sql| sql.execute(params![seq, tx.now, outcome, error]))
        .map_err(storage)?;
    tx.attempt_ended(outcome);
    // A tenant at its limit of renders at once has room again.
    tx.claimable();
    Ok(())
}

fn moved(event: Event) -> Result<Status, QueueError> {
    Status::Rendering.on(event).map_err(storage)
}
