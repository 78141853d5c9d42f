//! Forgetting renders that ended long ago, with their files.

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
    /// How long a render is kept once it has ended.
    pub(crate) keep: Duration,
}

impl Retention {
    /// Forgets, turn by turn, until told to stop.
    pub(crate) async fn run(self, close: CancellationToken) {
        let mut every = tokio::time::interval(EVERY);
        let mut kept = 0;
        loop {
            tokio::select! {
                () = close.cancelled() => return,
                _ = every.tick() => {}
            }
            // Whoever sets a retention for the first time may have years to forget; they do not wait for the clock.
            while !close.is_cancelled() {
                match self.turn(kept).await {
                    Ok(turn) => {
                        kept = turn.kept;
                        if turn.forgotten < AT_A_TIME {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "cannot forget what ended long ago"
                        );
                        break;
                    }
                }
            }
        }
    }

    /// Forgets some. `kept` is what the turn before had to keep: it comes up first again, and must not be all that
    /// this one sees.
    async fn turn(&self, kept: usize) -> Result<Turn, QueueError> {
        let keep = SignedDuration::try_from(self.keep).unwrap_or(SignedDuration::MAX);
        let Ok(horizon) = self.clock.now().checked_sub(keep) else { return Ok(Turn::default()) };
        let limit = u32::try_from(kept + AT_A_TIME).unwrap_or(u32::MAX);
        let ended = self.queue.ended_before(horizon, limit).await?;
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
        let forgotten = self.queue.forget(bare).await?;
        if forgotten > 0 {
            tracing::info!(renders = forgotten, "forgot renders that ended long ago");
        }
        Ok(Turn { forgotten, kept: ended.len() - forgotten })
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

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Turn {
    forgotten: usize,
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
        Failure, Kind, Lease, ManualClock, OnFailure, Outcome, Output, RenderId, RenderRequest, TenantId,
    };
    use lastframe_store::{Options, Store};

    use super::*;
    use crate::outputs::LocalOutputs;

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
                outputs: Arc::new(LocalOutputs::new(folder.path().join("outputs"))),
                logs: Logs::new(folder.path().join("logs"), Arc::clone(&clock) as _),
                clock: Arc::clone(&clock) as _,
                keep: 30 * DAY,
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
            let lease = self.claimed(QueueOptions::default()).await;
            let key = format!("{}/1.mp4", lease.render.id);
            write(&self.output(lease.render.id));
            let output = Output {
                key,
                size_in_bytes: 1,
                sha256: String::new(),
                content_type: "video/mp4".into(),
                frame_count: None,
                width: None,
                height: None,
                duration_in_seconds: None,
            };
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
        assert_eq!(world.retention.turn(0).await.unwrap(), Turn { forgotten: 1, kept: 0 });
        assert_eq!(world.there(old).await, (false, false, false));
        assert_eq!(world.there(young).await, (true, true, true));
    }

    #[tokio::test]
    async fn one_that_holds_its_group_is_kept_with_its_log_until_the_group_goes_on() {
        let world = World::new().await;
        let holder = world.holder("g").await;
        world.clock.advance(31 * DAY);
        assert_eq!(world.retention.turn(0).await.unwrap(), Turn { forgotten: 0, kept: 1 });
        assert_eq!(world.there(holder).await, (true, false, true));
        world.store.resume(Pausable::Group(world.tenant.clone(), "g".into())).await.unwrap();
        assert_eq!(world.retention.turn(1).await.unwrap(), Turn { forgotten: 1, kept: 0 });
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
        assert_eq!(world.retention.turn(0).await.unwrap(), Turn { forgotten: 1, kept: 1 });
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
        assert_eq!(first, Turn { forgotten: 0, kept: AT_A_TIME });
        let second = world.retention.turn(first.kept).await.unwrap();
        assert_eq!(second, Turn { forgotten: 1, kept: AT_A_TIME + 1 });
        assert_eq!(world.there(behind).await, (false, false, false));
    }
}
