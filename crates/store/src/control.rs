//! What people ask of a render after it was accepted.

use jiff::Timestamp;
use lastframe_core::ports::{ControlError, QueueError};
use lastframe_core::{Deletion, Event, Failure, Output, Render, RenderId, Status};
use rusqlite::params;

use crate::lease::{RECORD_DAMAGED, forget_checkpoint};
use crate::line;
use crate::outbox;
use crate::read;
use crate::row::{AT_ONCE, to_json};
use crate::submit::tenant_id;
use crate::writer::{Tx, storage};

pub(crate) fn cancel(tx: &mut Tx<'_>, id: RenderId) -> Result<Render, ControlError> {
    let render = read::get(tx.db, id)?.ok_or(ControlError::NotFound)?;
    let status = render.status.on(Event::Cancel)?;
    if render.status == Status::Rendering {
        // Its holder ends it, or the sweep when the holder is gone: the state changes only then.
        tx.db
            .prepare_cached(
                "UPDATE render SET cancel_requested_at = coalesce(cancel_requested_at, ?2) WHERE seq = ?1",
            )
            .and_then(|mut sql| sql.execute(params![render.seq, tx.now]))
            .map_err(storage)?;
    } else {
        let error = to_json(&Failure::cancelled())?;
        tx.db
            .prepare_cached(
                "UPDATE render SET status = ?2, gate = NULL, backoff_until = NULL, cancel_requested_at = ?3,
                    finished_at = ?3, error = ?4
                 WHERE seq = ?1",
            )
            .and_then(|mut sql| sql.execute(params![render.seq, status.as_str(), tx.now, error]))
            .and_then(|_| forget_checkpoint(tx, render.seq))
            .map_err(storage)?;
        resettle(tx, &render)?;
    }
    tx.changed(id);
    Ok(read::expect(tx.db, id)?)
}

/// Retries those of the renders that have failed and are still failed.
pub(crate) fn redrive(tx: &mut Tx<'_>, ids: &[RenderId]) -> Result<Vec<RenderId>, ControlError> {
    let mut redriven = Vec::new();
    for id in ids {
        // Somebody may have retried or removed it since it was found.
        if read::get(tx.db, *id)?
            .is_some_and(|render| render.status == Status::Failed && !is_condemned(&render))
        {
            retry(tx, *id)?;
            redriven.push(*id);
        }
    }
    Ok(redriven)
}

/// Records that their outputs are deleted.
pub(crate) fn outputs_deleted(tx: &mut Tx<'_>, ids: &[RenderId]) -> Result<(), QueueError> {
    let at = Timestamp::from_millisecond(tx.now).map_err(storage)?;
    for id in ids {
        let Some(render) = read::get(tx.db, *id)? else { continue };
        let Some(output) = render.output else { continue };
        let output = to_json(&Output { deletion: Some(Deletion::Done(at)), ..output })?;
        tx.db
            .prepare_cached("UPDATE render SET output = ?2 WHERE seq = ?1")
            .and_then(|mut sql| sql.execute(params![render.seq, output]))
            .map_err(storage)?;
        tx.changed(*id);
    }
    Ok(())
}

/// Removes those of the renders that are terminal and owe nothing, and all that is known of them.
pub(crate) fn forget(tx: &mut Tx<'_>, ids: &[RenderId]) -> Result<usize, QueueError> {
    let mut forgotten = 0;
    for id in ids {
        let Some(render) = read::get(tx.db, *id)?.filter(|render| render.status.is_terminal()) else {
            continue;
        };
        // One that failed and holds its group is still waited for.
        let holds: bool = tx
            .db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM render_group JOIN tenant ON tenant.id = tenant_id
                WHERE tenant.name = ?1 AND render_group.name = ?2 AND held_by = ?3)",
            )
            .and_then(|mut sql| {
                sql.query_row(params![render.tenant.as_str(), render.group, render.seq], |row| row.get(0))
            })
            .map_err(storage)?;
        // And what is owed to somebody is not dropped.
        if holds || outbox::owes(tx.db, render.seq).map_err(storage)? {
            continue;
        }
        outbox::forget(tx, render.seq).map_err(storage)?;
        for sql in [
            "DELETE FROM request WHERE seq = ?1",
            "DELETE FROM checkpoint WHERE seq = ?1",
            "DELETE FROM attempt WHERE seq = ?1",
            "DELETE FROM render WHERE seq = ?1",
        ] {
            tx.db.prepare_cached(sql).and_then(|mut sql| sql.execute([render.seq])).map_err(storage)?;
        }
        tx.changed(*id);
        forgotten += 1;
    }
    Ok(forgotten)
}

pub(crate) fn retry(tx: &mut Tx<'_>, id: RenderId) -> Result<Render, ControlError> {
    let render = read::get(tx.db, id)?.ok_or(ControlError::NotFound)?;
    let status = render.status.on(Event::Retry)?;
    if is_condemned(&render) {
        return Err(QueueError::Damaged { what: format!("render {id}") }.into());
    }
    let tenant = tenant_id(tx, &render.tenant)?;
    tx.db
        .prepare_cached(
            "UPDATE render SET status = ?2, gate = 2, attempt = 0, lost = 0, run_at = ?3, backoff_until = NULL, error = NULL, progress = NULL,
                cancel_requested_at = NULL, finished_at = NULL, attempt_started_at = NULL
             WHERE seq = ?1",
        )
        .and_then(|mut sql| sql.execute(params![render.seq, status.as_str(), AT_ONCE]))
        .and_then(|_| {
            tx.db
                .prepare_cached("UPDATE render_group SET held_by = NULL WHERE tenant_id = ?1 AND name = ?2 AND held_by = ?3")?
                .execute(params![tenant, render.group, render.seq])
        })
        .and_then(|_| line::enqueue(tx, render.seq, tenant, render.group.as_deref()))
        .map_err(storage)?;
    tx.changed(id);
    Ok(read::expect(tx.db, id)?)
}

fn resettle(tx: &mut Tx<'_>, render: &Render) -> Result<(), QueueError> {
    let Some(group) = &render.group else { return Ok(()) };
    let tenant = tenant_id(tx, &render.tenant)?;
    line::settle(tx, tenant, group).map_err(storage)
}

fn is_condemned(render: &Render) -> bool {
    render.error.as_ref().is_some_and(|error| error.code == RECORD_DAMAGED)
}
