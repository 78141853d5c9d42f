//! Forgetting renders that ended long ago, with their files; and deleting outputs that were asked to go before that.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use lastframe_core::ports::{Outputs, Queue, QueueError};
use lastframe_core::{Clock, Render, Status};
use lastframe_worker::logs::Logs;
use tokio_util::sync::CancellationToken;

/// How often there is a turn.
const EVERY: Duration = Duration::from_secs(60);
/// Renders of one turn.
const AT_A_TIME: usize = 100;

/// What is forgotten, and when.
#[derive(Debug)]
pub(crate) struct Retention {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) outputs: Arc<dyn Outputs>,
    pub(crate) logs: Logs,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long a render is kept once it has ended; for ever when absent.
    pub(crate) keep: Option<Duration>,
}

impl Retention {
    /// Forgets and deletes, turn by turn, until told to stop.
    pub(crate) async fn run(self, close: CancellationToken) {
        // Whatever is broken off goes on at the next start: the files go before what leads to them.
        tokio::select! {
            () = close.cancelled() => {}
            () = self.turns() => {}
        }
    }

    async fn turns(&self) {
        let mut every = tokio::time::interval(EVERY);
        let mut kept = Kept::default();
        loop {
            every.tick().await;
            self.pass(&mut kept).await;
        }
    }

    /// Forgets and deletes all there is to forget and delete now. It may be broken off at any time.
    pub(crate) async fn pass(&self, kept: &mut Kept) {
        // Whoever sets a retention for the first time may have years to forget; they do not wait for the clock.
        while let Some(turn) = said(self.turn(kept.renders).await, "cannot forget what ended long ago") {
            kept.renders = turn.kept;
            if turn.done < AT_A_TIME {
                break;
            }
        }
        while let Some(turn) =
            said(self.delete_due(kept.outputs).await, "cannot delete outputs that are due")
        {
            kept.outputs = turn.kept;
            if turn.done < AT_A_TIME {
                break;
            }
        }
    }

    /// Forgets some. `kept` is what the turn before had to keep: it comes up first again, and must not be all that
    /// this one sees.
    async fn turn(&self, kept: usize) -> Result<Turn, QueueError> {
        let Some(keep) = self.keep else { return Ok(Turn::default()) };
        let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        let Ok(horizon) = self.clock.now().checked_sub(keep) else { return Ok(Turn::default()) };
        let ended = self.queue.ended_before(horizon, at_most(kept)).await?;
        let (mut bare, mut failed) = (Vec::new(), None);
        for render in &ended {
            if self.holds_its_group(render).await? {
                continue;
            }
            match self.delete_files(render).await {
                Ok(()) => bare.push(render.id),
                Err(error) => failed = Some((render.id, error)),
            }
        }
        if let Some((id, error)) = failed {
            tracing::error!(render.id = %id, %error, "cannot delete the files of a render that is to be forgotten");
        }
        // The files first: a crash in between leaves the record that leads to them.
        let done = self.queue.forget(bare).await?;
        if done > 0 {
            tracing::info!(renders = done, "forgot renders that ended long ago");
        }
        Ok(Turn { done, kept: ended.len() - done })
    }

    /// Deletes some outputs that were to be kept for so long and no longer. `kept` as above.
    async fn delete_due(&self, kept: usize) -> Result<Turn, QueueError> {
        let due = self.queue.outputs_due(self.clock.now(), at_most(kept)).await?;
        let mut deleted = Vec::new();
        for render in &due {
            let Some(output) = &render.output else { continue };
            match self.outputs.delete(&output.key).await {
                Ok(()) => deleted.push(render.id),
                Err(error) => {
                    tracing::error!(render.id = %render.id, %error, "cannot delete an output that is due");
                }
            }
        }
        let done = deleted.len();
        if done > 0 {
            self.queue.outputs_deleted(deleted).await?;
            tracing::info!(outputs = done, "deleted outputs that were due");
        }
        Ok(Turn { done, kept: due.len() - done })
    }

    /// Whether somebody has yet to decide about it; its log may say what.
    async fn holds_its_group(&self, render: &Render) -> Result<bool, QueueError> {
        let (Status::Failed, Some(name)) = (render.status, &render.group) else { return Ok(false) };
        let group = self.queue.group(&render.tenant, name).await?;
        Ok(group.is_some_and(|group| group.held_by == Some(render.id)))
    }

    async fn delete_files(&self, render: &Render) -> io::Result<()> {
        if let Some(output) = &render.output {
            self.outputs.delete(&output.key).await?;
        }
        match tokio::fs::remove_dir_all(self.logs.folder(render.id)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn at_most(kept: usize) -> u32 {
    u32::try_from(kept + AT_A_TIME).unwrap_or(u32::MAX)
}

/// What was done, or else a line in the log; there is another turn.
fn said(turn: Result<Turn, QueueError>, what: &str) -> Option<Turn> {
    turn.inspect_err(|error| tracing::error!(error = error as &dyn std::error::Error, "{what}")).ok()
}

/// What the pass before saw and left: it comes up first again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    renders: usize,
    outputs: usize,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Turn {
    /// Renders forgotten, or outputs deleted.
    done: usize,
    /// What it saw and left, because it holds its group or its files resist.
    kept: usize,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lastframe_core::ports::{Directory as _, NewRender, Pausable};
    use lastframe_core::request::QueueOptions;
    use lastframe_core::site::SiteVersion;
    use lastframe_core::{
        Deletion, Failure, Kind, Lease, ManualClock, OnFailure, Outcome, Output, RenderId, RenderRequest,
        TenantId,
    };
    use lastframe_store::{Options, Store};

    use super::*;
    use crate::config::Storage;
    use crate::outputs::Places;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    struct World {
        folder: tempfile::TempDir,
        clock: Arc<ManualClock>,
        store: Arc<Store>,
        retention: Retention,
        tenant: TenantId,
    }

    impl World {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap()));
            let options = Options { seed: Some(1), ..Options::default() };
            let store = Store::open(folder.path(), Arc::clone(&clock) as _, options).await.unwrap();
            let store = Arc::new(store);
            let tenant = TenantId::new("ann");
            let site = SiteVersion {
                name: "site".into(),
                version: "v1".into(),
                remotion_version: "4.0.527".into(),
                renderer: None,
                url: None,
                size_in_bytes: 1,
                compositions: Vec::new(),
                created_at: clock.now(),
            };
            store.put_site(&tenant, site).await.unwrap();
            let retention = Retention {
                queue: Arc::clone(&store) as _,
                outputs: Arc::new(Places::open(folder.path().join("outputs"), &Storage::default()).unwrap()),
                logs: Logs::new(folder.path().join("logs"), Arc::clone(&clock) as _),
                clock: Arc::clone(&clock) as _,
                keep: Some(30 * DAY),
            };
            Self { folder, clock, store, retention, tenant }
        }

        async fn claimed(&self, queue: QueueOptions) -> Lease {
            let request =
                RenderRequest { serve_url: "site".into(), queue: Some(queue), ..RenderRequest::default() };
            let new =
                NewRender { kind: Kind::Media, site_version: "v1".into(), request, default_max_attempts: 1 };
            self.store.submit(&self.tenant, vec![new], None).await.unwrap();
            let lease = self.store.claim("worker", Duration::ZERO).await.unwrap().unwrap();
            write(&self.retention.logs.path(lease.render.id, 1));
            lease
        }

        /// A render that succeeded, with its output and its log.
        async fn made(&self) -> RenderId {
            self.made_for(None).await
        }

        /// The same, with an output that goes so many days later.
        async fn made_for(&self, days: Option<u32>) -> RenderId {
            let lease = self.claimed(QueueOptions::default()).await;
            let key = format!("{}/1.mp4", lease.render.id);
            write(&self.output(lease.render.id));
            let deletion = days.map(Deletion::AfterDays);
            let output = Output { key, size_in_bytes: 1, deletion, ..Output::default() };
            self.store.finish(lease.render.id, &lease.token, Outcome::Succeeded(output)).await.unwrap();
            lease.render.id
        }

        /// A render that failed and holds its group.
        async fn holder(&self, group: &str) -> RenderId {
            let queue = QueueOptions {
                group: Some(group.into()),
                on_failure: Some(OnFailure::Block),
                ..QueueOptions::default()
            };
            let lease = self.claimed(queue).await;
            let failed = Outcome::Failed(Failure::new("component_error", "boom", false));
            self.store.finish(lease.render.id, &lease.token, failed).await.unwrap();
            lease.render.id
        }

        fn output(&self, id: RenderId) -> std::path::PathBuf {
            self.folder.path().join("outputs").join(id.to_string()).join("1.mp4")
        }

        /// Whether there are the record, the output and the log.
        async fn there(&self, id: RenderId) -> (bool, bool, bool) {
            let record = self.store.get(id).await.unwrap().is_some();
            (record, self.output(id).exists(), self.retention.logs.folder(id).exists())
        }
    }

    fn write(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    #[tokio::test]
    async fn a_render_goes_with_its_files_when_its_time_is_over_and_not_before() {
        let world = World::new().await;
        let old = world.made().await;
        world.clock.advance(DAY);
        let young = world.made().await;
        world.clock.advance(29 * DAY);
        assert_eq!(world.retention.turn(0).await.unwrap(), Turn::default(), "not a moment too soon");
        world.clock.advance(Duration::from_millis(1));
        assert_eq!(world.retention.turn(0).await.unwrap(), Turn { done: 1, kept: 0 });
        assert_eq!(world.there(old).await, (false, false, false));
        assert_eq!(world.there(young).await, (true, true, true));
    }

    #[tokio::test]
    async fn one_that_holds_its_group_is_kept_with_its_log_until_the_group_goes_on() {
        let world = World::new().await;
        let holder = world.holder("g").await;
        world.clock.advance(31 * DAY);
        assert_eq!(world.retention.turn(0).await.unwrap(), Turn { done: 0, kept: 1 });
        assert_eq!(world.there(holder).await, (true, false, true));
        world.store.resume(Pausable::Group(world.tenant.clone(), "g".into())).await.unwrap();
        assert_eq!(world.retention.turn(1).await.unwrap(), Turn { done: 1, kept: 0 });
        assert_eq!(world.there(holder).await, (false, false, false));
    }

    #[tokio::test]
    async fn files_that_resist_keep_their_record_and_nothing_else() {
        let world = World::new().await;
        let (stuck, other) = (world.made().await, world.made().await);
        // A folder in the place of a file cannot be deleted as one, whoever runs the test.
        std::fs::remove_file(world.output(stuck)).unwrap();
        std::fs::create_dir(world.output(stuck)).unwrap();
        world.clock.advance(31 * DAY);
        assert_eq!(world.retention.turn(0).await.unwrap(), Turn { done: 1, kept: 1 });
        assert_eq!(world.there(stuck).await, (true, true, true));
        assert_eq!(world.there(other).await, (false, false, false));
    }

    #[tokio::test]
    async fn renders_that_must_be_kept_do_not_hide_those_behind_them() {
        let world = World::new().await;
        for index in 0..=AT_A_TIME {
            world.holder(&index.to_string()).await;
        }
        world.clock.advance(Duration::from_millis(1));
        let behind = world.made().await;
        world.clock.advance(31 * DAY);
        let first = world.retention.turn(0).await.unwrap();
        assert_eq!(first, Turn { done: 0, kept: AT_A_TIME });
        let second = world.retention.turn(first.kept).await.unwrap();
        assert_eq!(second, Turn { done: 1, kept: AT_A_TIME + 1 });
        assert_eq!(world.there(behind).await, (false, false, false));
    }

    #[tokio::test]
    async fn an_output_goes_when_it_was_asked_to_and_the_record_with_its_log_stays() {
        let world = World::new().await;
        let (day, week, kept) =
            (world.made_for(Some(1)).await, world.made_for(Some(7)).await, world.made().await);
        world.clock.advance(DAY - Duration::from_millis(1));
        assert_eq!(world.retention.delete_due(0).await.unwrap(), Turn::default(), "not a moment too soon");
        world.clock.advance(Duration::from_millis(1));
        assert_eq!(world.retention.delete_due(0).await.unwrap(), Turn { done: 1, kept: 0 });
        assert_eq!(world.there(day).await, (true, false, true));
        assert_eq!(world.there(week).await, (true, true, true));
        let output = world.store.get(day).await.unwrap().unwrap().output.unwrap();
        assert_eq!(output.deleted_at(), Some(world.clock.now()));
        world.clock.advance(30 * DAY);
        assert_eq!(world.retention.delete_due(0).await.unwrap(), Turn { done: 1, kept: 0 });
        assert_eq!(world.there(kept).await, (true, true, true));
        // What is forgotten later has no output to be deleted again.
        assert_eq!(world.retention.turn(0).await.unwrap(), Turn { done: 3, kept: 0 });
    }

    #[tokio::test]
    async fn an_output_that_resists_stays_due_and_hides_no_other() {
        let world = World::new().await;
        let stuck = world.made_for(Some(1)).await;
        std::fs::remove_file(world.output(stuck)).unwrap();
        std::fs::create_dir(world.output(stuck)).unwrap();
        world.clock.advance(Duration::from_millis(1));
        let other = world.made_for(Some(1)).await;
        world.clock.advance(DAY);
        assert_eq!(world.retention.delete_due(0).await.unwrap(), Turn { done: 1, kept: 1 });
        assert_eq!(world.there(stuck).await, (true, true, true));
        assert_eq!(world.there(other).await, (true, false, true));
        std::fs::remove_dir(world.output(stuck)).unwrap();
        assert_eq!(world.retention.delete_due(1).await.unwrap(), Turn { done: 1, kept: 0 });
    }
}
