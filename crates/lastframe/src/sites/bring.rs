//! Sites that were added elsewhere: what this machine needs of one is brought when the first render of it comes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lastframe_core::ports::{Job, Renderer, Run, RunEvent, Stop};
use lastframe_core::site::SiteVersion;
use lastframe_core::{Checkpoint, Failure};
use lastframe_worker::local::{Renderers, remote};
use tokio::sync::Mutex;

use super::content_hash;

/// Brings what a render needs of its site, then lets another renderer make it.
#[derive(Clone, Debug)]
pub(crate) struct Bringing {
    /// Where the files of versions lie.
    pub(crate) folder: PathBuf,
    /// Where they lie before they are whole; on the same disk.
    pub(crate) incoming: PathBuf,
    pub(crate) renderers: Arc<Renderers>,
    pub(crate) http: reqwest::Client,
    pub(crate) then: Arc<dyn Renderer>,
    /// Renders of one site often come together.
    pub(crate) one_at_a_time: Arc<Mutex<()>>,
}

impl Bringing {
    async fn bring(&self, site: &SiteVersion) -> Result<(), Failure> {
        if self.renderers.find(&site.remotion_version, None).is_none() {
            // Another machine may have what this one lacks.
            let lacking =
                |error: &dyn std::error::Error| Failure::new("renderer_missing", error.to_string(), true);
            self.renderers.obtain(&site.remotion_version).await.map_err(|error| lacking(&error))?;
        }
        let _one = self.one_at_a_time.lock().await;
        let target = self.folder.join(&site.version);
        if target.is_dir() {
            return Ok(());
        }
        let Some(url) = &site.url else {
            let message = format!(
                "the site `{}` was uploaded to a server, and its files are not on this machine: deploy it to a bucket, and \
                 add it by its URL",
                site.name
            );
            return Err(Failure::new("site_elsewhere", message, false));
        };
        let files = remote::fetch(&self.http, url, remote::MOST).await?;
        let incoming = self.incoming.clone();
        let kept = tokio::task::spawn_blocking(move || -> io::Result<_> {
            let folder = tempfile::tempdir_in(incoming)?;
            for (name, content) in remote::FILES.iter().zip(&files) {
                std::fs::write(folder.path().join(name), content)?;
            }
            let version = content_hash(folder.path())?;
            Ok((folder, version))
        });
        let kept = kept.await.map_err(io::Error::other).and_then(|kept| kept);
        let (folder, version) = kept.map_err(|error| unkept(&error))?;
        if version != site.version {
            return Err(remote::changed(url));
        }
        tracing::info!(site = site.name, version, "brought what is kept of a site");
        std::fs::rename(folder.path(), &target).map_err(|error| unkept(&error))
    }
}

/// The disk did not take it.
fn unkept(error: &io::Error) -> Failure {
    Failure::new("internal", format!("a site could not be kept on this machine: {error}"), true)
}

#[async_trait]
impl Renderer for Bringing {
    async fn start(&self, job: Job, checkpoint: Option<Checkpoint>) -> Box<dyn Run> {
        Box::new(Brought { bringing: self.clone(), state: State::Waiting(Box::new(job), checkpoint) })
    }
}

/// A run that begins when what it needs is here.
struct Brought {
    bringing: Bringing,
    state: State,
}

enum State {
    Waiting(Box<Job>, Option<Checkpoint>),
    Running(Box<dyn Run>),
    Over,
}

#[async_trait]
impl Run for Brought {
    async fn next(&mut self) -> RunEvent {
        if let State::Waiting(job, _) = &self.state {
            let brought = self.bringing.bring(&job.site).await;
            // A renderer starts at once: nothing can come in between.
            match (std::mem::replace(&mut self.state, State::Over), brought) {
                (State::Waiting(job, checkpoint), Ok(())) => {
                    self.state = State::Running(self.bringing.then.start(*job, checkpoint).await);
                }
                (_, Err(failure)) => return RunEvent::Failed(failure),
                _ => {}
            }
        }
        match &mut self.state {
            State::Running(run) => run.next().await,
            _ => std::future::pending().await,
        }
    }

    async fn stop(self: Box<Self>, why: Stop) {
        if let State::Running(run) = self.state {
            run.stop(why).await;
        }
    }
}
