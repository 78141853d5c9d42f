//! One attempt, from top to bottom, of a lease that somebody claimed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lastframe_core::disposition::disposition;
use lastframe_core::ports::{Job, LeaseError, Run, RunEvent, Stop};
use lastframe_core::{
    Deletion, Failure, HandBack, Lease, Outcome, Output, Phase, Progress, Status, error_chain,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Worker;
use crate::heartbeat::{Heartbeat, Interrupt, Keeping, Vitals};

/// How long a storage that did not take an output is left alone, at first; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How a run came to its end by itself.
enum Ended {
    Finished { file: PathBuf, poster: Option<PathBuf>, output: Output },
    Stored { output: Output },
    Failed(Failure),
    Throttled { until: jiff::Timestamp },
}

/// What an attempt has put among the outputs, and what becomes of it if the render does not succeed with it.
#[derive(Clone, Copy)]
enum Left<'a> {
    Nothing,
    /// Under a key that no other attempt has.
    Own(&'a str),
    /// Another attempt may attach to what made it, and end with the same key.
    Shared(&'a str),
}

/// Sees the attempt through. Whatever happens is recorded in the queue, or the lease was lost and nothing may be.
pub(crate) async fn attempt(worker: &Worker, lease: Lease, hand_back: &CancellationToken) {
    tracing::info!(
        render.site = lease.render.site,
        render.composition = lease.render.composition,
        "attempt started"
    );
    let timeout = lease.request.queue.as_ref().and_then(|queue| queue.timeout_in_seconds);
    let timeout = timeout.map_or(worker.options.timeout, |seconds| Duration::from_secs(seconds.into()));
    let started = Instant::now();
    let keeping = Keeping::default();
    let mut heartbeat = Heartbeat {
        queue: worker.queue.as_ref(),
        lease: &lease,
        every: worker.options.heartbeat,
        deadline: started + timeout,
        hand_back,
        keeping: &keeping,
        held_at: started,
    };
    let (vitals, watched) = watch::channel(Vitals { progress: Progress::START, checkpoint: None });

    let job = match job(worker, &lease).await {
        Ok(job) => job,
        Err(failure) => return conclude(worker, &lease, Outcome::Failed(failure), Left::Nothing).await,
    };
    let mut run = worker.renderer.start(job, lease.checkpoint.clone()).await;
    let ended = match heartbeat.during(&watched, follow(run.as_mut(), &vitals, &keeping)).await {
        Ok(ended) => ended,
        Err(interrupt) => {
            return interrupted(worker, &mut heartbeat, &watched, run, interrupt, timeout).await;
        }
    };
    match ended {
        Ended::Finished { file, poster, mut output } => {
            worker.observer.rendered(lease.render.kind, started.elapsed(), output.frame_count);
            vitals.send_modify(|vitals| vitals.progress = vitals.progress.in_phase(Phase::Uploading));
            output.key = worker.outputs.key(&output_name(&lease, &file));
            output.deletion = lease.request.delete_after.map(|after| Deletion::AfterDays(after.days()));
            let key = output.key.clone();
            match heartbeat.during(&watched, store(worker, &lease, output, &file, poster.as_deref())).await {
                Ok(Ok(output)) => {
                    // The file is taken; what made it is free for the next render before this one counts as done.
                    run.stop(Stop::Detach).await;
                    conclude(worker, &lease, Outcome::Succeeded(output), Left::Own(&key)).await;
                }
                Ok(Err(error)) => {
                    let message = format!("the output could not be stored: {}", error_chain(&error));
                    let failure = Failure::new("output_not_stored", message, passes(&error));
                    conclude(worker, &lease, Outcome::Failed(failure), Left::Own(&key)).await;
                }
                Err(interrupt) => {
                    interrupted(worker, &mut heartbeat, &watched, run, interrupt, timeout).await;
                    discard(worker, &key).await;
                }
            }
        }
        Ended::Stored { mut output } => {
            output.deletion = lease.request.delete_after.map(|after| Deletion::AfterDays(after.days()));
            let key = output.key.clone();
            conclude(worker, &lease, Outcome::Succeeded(output), Left::Shared(&key)).await;
        }
        Ended::Failed(failure) => conclude(worker, &lease, Outcome::Failed(failure), Left::Nothing).await,
        Ended::Throttled { until } => give_back(worker, &lease, HandBack::Throttled { until }).await,
    }
}

/// Looks up what the lease does not carry.
async fn job(worker: &Worker, lease: &Lease) -> Result<Job, Failure> {
    let render = &lease.render;
    let site = worker.directory.site_version(&render.tenant, &render.site, &render.site_version).await;
    match site {
        Ok(Some(site)) => Ok(Job {
            tenant: render.tenant.clone(),
            render: render.id,
            attempt: render.leases,
            kind: render.kind,
            site,
            request: lease.request.clone(),
        }),
        Ok(None) => {
            Err(Failure::new("site_not_found", format!("the site `{}` was removed", render.site), false))
        }
        Err(error) => {
            let message =
                format!("the site `{}` could not be looked up: {}", render.site, error_chain(&error));
            Err(Failure::new("internal", message, true))
        }
    }
}

async fn follow(run: &mut dyn Run, vitals: &watch::Sender<Vitals>, keeping: &Keeping) -> Ended {
    loop {
        match run.next().await {
            RunEvent::Progress(progress) => vitals.send_modify(|vitals| vitals.progress = progress),
            RunEvent::Checkpoint(checkpoint) => {
                vitals.send_modify(|vitals| vitals.checkpoint = Some(checkpoint));
                keeping.keep().await;
            }
            RunEvent::Finished { file, poster, output } => return Ended::Finished { file, poster, output },
            RunEvent::Stored { output } => return Ended::Stored { output },
            RunEvent::Failed(failure) => return Ended::Failed(failure),
            RunEvent::Throttled { until } => return Ended::Throttled { until },
        }
    }
}

/// Every attempt has a name of its own, so one that lost its lease cannot overwrite the one that has it.
fn output_name(lease: &Lease, file: &Path) -> String {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or("bin");
    format!("{}/{}.{extension}", lease.render.id, lease.render.leases)
}

/// Puts the file among the outputs, and gives what is known of it. It is finished: a storage that is away for a while must
/// not cost the frames.
async fn store(
    worker: &Worker,
    lease: &Lease,
    mut output: Output,
    file: &Path,
    poster: Option<&Path>,
) -> io::Result<Output> {
    output.sha256 = sha256(file.to_owned()).await?;
    let disposition = disposition(&lease.request, &output.key, false);
    let give_up = Instant::now() + worker.options.patience;
    let mut wait = FIRST_WAIT;
    loop {
        match worker.outputs.put(&output, &disposition, file).await {
            Ok(()) => break,
            Err(error) if passes(&error) && Instant::now() + wait < give_up => {
                tracing::warn!(error = error_chain(&error), "cannot store the output; trying again");
                tokio::time::sleep(wait).await;
                wait = (2 * wait).min(LONGEST_WAIT);
            }
            Err(error) => return Err(error),
        }
    }
    // The video is there: for want of its picture nobody renders it again.
    if let Some(poster) = poster
        && let Err(error) = worker.outputs.put_poster(&output.key, poster).await
    {
        tracing::warn!(%error, "cannot store the poster of an output");
    }
    Ok(output)
}

/// Whether a fault of the storage may pass by itself.
fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, NotFound, PermissionDenied};
    !matches!(error.kind(), InvalidInput | NotFound | PermissionDenied)
}

/// The digest that tells, for as long as the output lives, whether its bytes are still what was verified. In hex.
async fn sha256(file: PathBuf) -> io::Result<String> {
    tokio::task::spawn_blocking(move || {
        let mut digest = Sha256::new();
        io::copy(&mut File::open(file)?, &mut digest)?;
        Ok(format!("{:x}", digest.finalize()))
    })
    .await
    .map_err(io::Error::other)?
}

async fn interrupted(
    worker: &Worker,
    heartbeat: &mut Heartbeat<'_>,
    vitals: &watch::Receiver<Vitals>,
    run: Box<dyn Run>,
    interrupt: Interrupt,
    timeout: Duration,
) {
    let lease = heartbeat.lease;
    match interrupt {
        Interrupt::Lost => {
            tracing::warn!("the lease is lost; stopping");
            run.stop(Stop::Detach).await;
        }
        Interrupt::Draining => {
            run.stop(Stop::Detach).await;
            give_back(worker, lease, HandBack::Draining).await;
        }
        Interrupt::Cancelled => {
            heartbeat.while_stopping(vitals, run.stop(Stop::Cancel)).await;
            conclude(worker, lease, Outcome::Cancelled, Left::Nothing).await;
        }
        Interrupt::TimedOut => {
            heartbeat.while_stopping(vitals, run.stop(Stop::Cancel)).await;
            let message = format!("took longer than {} s (queue.timeoutInSeconds)", timeout.as_secs());
            let failure = Failure::new("render_timeout", message, true);
            conclude(worker, lease, Outcome::Failed(failure), Left::Nothing).await;
        }
    }
}

/// Records how the attempt ended.
async fn conclude(worker: &Worker, lease: &Lease, outcome: Outcome, left: Left<'_>) {
    let failure = if let Outcome::Failed(failure) = &outcome { Some(failure.clone()) } else { None };
    match finish(worker, lease, outcome).await {
        Ok(status) => {
            match failure {
                Some(failure) => {
                    // The first line: the rest may be an encoder's whole life, and stands in the attempt's own log.
                    let message = failure.message.lines().next().unwrap_or_default();
                    tracing::warn!(code = failure.code, ?message, render.status = %status, "attempt failed");
                }
                None => tracing::info!(render.status = %status, "attempt ended"),
            }
            if let Left::Own(key) | Left::Shared(key) = left
                && status != Status::Succeeded
            {
                discard(worker, key).await;
            }
        }
        Err(error) => {
            tracing::error!(error = error_chain(&error), "the end of the attempt could not be recorded");
            // An answer can be lost after its commit: only what the queue denies to have is thrown away.
            if let Left::Own(key) = left
                && let Ok(Some(render)) = worker.queue.get(lease.render.id).await
                && render.output.is_none_or(|output| output.key != key)
            {
                discard(worker, key).await;
            }
        }
    }
}

/// Tries for as long as the lease holds: a finished video is worth some patience.
async fn finish(worker: &Worker, lease: &Lease, outcome: Outcome) -> Result<Status, LeaseError> {
    let give_up = Instant::now() + lease.duration;
    loop {
        match worker.queue.finish(lease.render.id, &lease.token, outcome.clone()).await {
            Err(LeaseError::Queue(error)) if Instant::now() < give_up => {
                tracing::warn!(
                    error = error_chain(&error),
                    "cannot record the end of the attempt; trying again"
                );
                tokio::time::sleep(worker.options.heartbeat).await;
            }
            answer => return answer,
        }
    }
}

async fn give_back(worker: &Worker, lease: &Lease, why: HandBack) {
    tracing::info!(?why, "handing back");
    if let Err(error) = worker.queue.release(lease.render.id, &lease.token, why).await {
        tracing::warn!(error = error_chain(&error), "could not hand back; the lease will expire");
    }
}

async fn discard(worker: &Worker, key: &str) {
    if let Err(error) = worker.outputs.delete(key).await {
        tracing::warn!(%error, key, "could not remove an output that nobody needs");
    }
}
