//! What people ask of a render after it was accepted.

use lastframe_core::ports::{ControlError, QueueError};
use lastframe_core::{Event, Render, RenderId, Status};
use rusqlite::params;

use crate::lease::cancelled;
use crate::line;
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
        let error = to_json(&cancelled())?;
        tx.db
            .prepare_cached(
                "UPDATE render SET status = ?2, gate = NULL, cancel_requested_at = ?3, finished_at = ?3, error = ?4
                 WHERE seq = ?1",
            )
            .and_then(|mut sql| sql.execute(params![render.seq, status.as_str(), tx.now, error]))
            .map_err(storage)?;
        resettle(tx, &render)?;
    }
    tx.changed(id);
    Ok(read::expect(tx.db, id)?)
}

pub(crate) fn retry(tx: &mut Tx<'_>, id: RenderId) -> Result<Render, ControlError> {
    let render = read::get(tx.db, id)?.ok_or(ControlError::NotFound)?;
    let status = render.status.on(Event::Retry)?;
    let tenant = tenant_id(tx, &render.tenant).map_err(storage)?;
    tx.db
        .prepare_cached(
            "UPDATE render SET status = ?2, gate = 2, attempt = 0, lost = 0, run_at = ?3, error = NULL, progress = NULL,
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
    let tenant = tenant_id(tx, &render.tenant).map_err(storage)?;
    line::settle(tx, tenant, group).map_err(storage)
}
