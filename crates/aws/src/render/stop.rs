//! Ending a render before its time.

use std::time::Duration;

use tokio::time::Instant;

use super::course::{Course, QUICKEST_LOOK};
use super::fleet::Place;
use super::remote::{Seen, State};
use super::search::at;
use super::trace::Trace;

/// How long a render that was asked to stop is waited for.
const LAST_BREATH: Duration = Duration::from_secs(45);

impl Course {
    /// Nothing of it may go on: neither what is known to be started nor what may have been.
    pub(super) async fn cancel(&mut self) {
        let Some(trace) = self.trace.clone().filter(|trace| !trace.over) else { return };
        let Some(place) = self.fleet.at(&trace.address) else { return };
        let render_id = match &trace.render_id {
            Some(render_id) => Some(render_id.clone()),
            None => {
                self.tell.deafen();
                let longest = self.habits.settle + LAST_BREATH;
                match tokio::time::timeout(longest, self.find(&place, &trace)).await {
                    Ok(found) => found.unwrap_or_default(),
                    Err(_) => None,
                }
            }
        };
        if let Some(render_id) = render_id {
            self.stop_it(&place, &trace, &render_id).await;
        }
    }

    /// Stops it on Lambda, waits until it has stopped, and removes what it has left.
    pub(super) async fn stop_it(&mut self, place: &Place, trace: &Trace, render_id: &str) {
        let at = at(trace, render_id, self.job.kind);
        let give_up = Instant::now() + LAST_BREATH;
        let mut asked = false;
        while Instant::now() < give_up {
            if !asked {
                match place.remote.cancel(at).await {
                    Ok(()) => asked = true,
                    Err(error) => {
                        self.log.line("worker", &format!("cannot cancel {render_id}: {error}; trying again"));
                    }
                }
            }
            match place.remote.look(at).await {
                Ok(Some(Seen { state: State::Running, .. })) => {}
                Ok(_) if asked => {
                    self.log.line("worker", &format!("{render_id} has stopped"));
                    if let Err(error) = place.remote.delete(at).await {
                        self.log.line("worker", &format!("its files are still there: {error}"));
                    }
                    return;
                }
                Ok(_) => return,
                Err(error) => self.log.line("worker", &format!("cannot see whether it has stopped: {error}")),
            }
            tokio::time::sleep(QUICKEST_LOOK).await;
        }
        self.log.line(
            "worker",
            "it has not said that it stopped; its functions end by themselves when their time is over",
        );
        tracing::warn!(render.id = %self.job.render, lambda.render = render_id, "a render on Lambda did not confirm that it was cancelled");
    }
}
