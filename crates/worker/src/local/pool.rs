//! Sidecars kept warm, so that the next render of the same tenant and site finds its browser open.
//!
//! A sidecar is never shared across tenants or sites: what one composition leaves in a browser, another must not find.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lastframe_core::TenantId;
use lastframe_core::ports::Job;
use lastframe_core::site::SiteVersion;
use tokio::time::Instant;

use super::sidecar::{Sidecar, SidecarError, Site};
use super::walls::{Users, Walls};
use super::{BROWSER, Options, SCRIPT, Sidecars};

#[derive(Debug)]
pub(super) struct Pool {
    options: Options,
    walls: Walls,
    users: Users,
    /// Oldest first.
    idle: Mutex<Vec<Idle>>,
    started: AtomicU64,
    given_up: AtomicU64,
    seats: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Idle {
    tenant: TenantId,
    version: String,
    since: Instant,
    sidecar: Sidecar,
}

/// A share of the machine, while a render runs.
#[derive(Debug)]
pub(super) struct Seat {
    taken: Arc<AtomicUsize>,
    cores: usize,
}

impl Seat {
    /// Frames that a render makes at once: alone it may use every core; among others, its share.
    pub(super) fn frames_at_once(&self) -> usize {
        (self.cores / self.taken.load(Ordering::Relaxed).max(1)).max(1)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub(super) fn new(options: Options) -> std::io::Result<Self> {
        let walls = Walls::find(&options)?;
        walls.announce();
        for (name, text, mode) in
            [(SCRIPT, include_str!("sidecar.mjs"), 0o644), (BROWSER, include_str!("browser.sh"), 0o755)]
        {
            let file = options.work.join(name);
            std::fs::write(&file, text)?;
            std::fs::set_permissions(&file, Permissions::from_mode(mode))?;
        }
        Ok(Self {
            users: Users::new(options.first_user),
            options,
            walls,
            idle: Mutex::default(),
            started: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            seats: Arc::default(),
        })
    }

    pub(super) fn take_seat(&self) -> Seat {
        self.seats.fetch_add(1, Ordering::Relaxed);
        Seat { taken: Arc::clone(&self.seats), cores: self.options.cores }
    }

    /// A warm sidecar for the job, or a new one.
    pub(super) async fn checkout(&self, job: &Job) -> Result<Sidecar, SidecarError> {
        loop {
            let (found, in_the_way) = {
                let mut idle = self.idle();
                match idle
                    .iter()
                    .position(|idle| idle.tenant == job.tenant && idle.version == job.site.version)
                {
                    Some(index) => (Some(idle.remove(index).sidecar), None),
                    // Room for the new one: the one that has waited longest goes.
                    None if idle.len() >= self.options.concurrency => (None, Some(idle.remove(0).sidecar)),
                    None => (None, None),
                }
            };
            if let Some(sidecar) = in_the_way {
                sidecar.stop().await;
            }
            let Some(mut sidecar) = found else {
                let (renderer, bundle) =
                    (self.renderer(&job.site)?, self.options.sites.join(&job.site.version));
                let site = Site { renderer: &renderer, bundle: &bundle, url: job.site.url.as_deref() };
                return self.start(site).await;
            };
            if sidecar.catch_up() {
                return Ok(sidecar);
            }
            self.give_up(sidecar).await;
        }
    }

    /// Looked for when a job starts, so that a data folder can be moved and a project be brought up to date.
    fn renderer(&self, site: &SiteVersion) -> Result<PathBuf, SidecarError> {
        let found =
            self.options.renderers.find(&site.remotion_version, site.renderer.as_deref().map(Path::new));
        found.ok_or_else(|| SidecarError::NoRenderer(site.remotion_version.clone()))
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.options.http
    }

    /// A new sidecar, which can reach that site and no other.
    pub(super) async fn start(&self, site: Site<'_>) -> Result<Sidecar, SidecarError> {
        // Behind a link lies what Node loads, and what the walls must show.
        let renderer = site.renderer.canonicalize();
        let site = Site { renderer: renderer.as_deref().unwrap_or(site.renderer), ..site };
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let folder = self.options.work.join(number.to_string());
        let user = self.walls.user(&self.users);
        let started = Sidecar::start(&self.options, &self.walls, user, folder, site).await;
        if started.is_err() {
            self.given_up.fetch_add(1, Ordering::Relaxed);
        }
        started
    }

    /// Ends a sidecar that is not to be trusted any more.
    pub(super) async fn give_up(&self, sidecar: Sidecar) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
        sidecar.stop().await;
    }

    pub(super) fn count(&self) -> Sidecars {
        Sidecars {
            started: self.started.load(Ordering::Relaxed),
            given_up: self.given_up.load(Ordering::Relaxed),
        }
    }

    pub(super) fn walls(&self) -> &Walls {
        &self.walls
    }

    /// What a sidecar may hold, in bytes.
    pub(super) fn max_memory(&self) -> u64 {
        self.options.max_memory
    }

    /// Takes a sidecar back after a job, and keeps it if it is still good.
    pub(super) async fn checkin(&self, job: &Job, mut sidecar: Sidecar) {
        sidecar.renders += 1;
        let recycle = &self.options.recycle;
        let worn = sidecar.renders >= recycle.renders
            || sidecar.age() >= recycle.age
            || sidecar.memory() >= recycle.memory;
        let cleared = sidecar.scratch().clear(&format!("{}-{}", job.render, job.attempt));
        if cleared.is_err() || !sidecar.catch_up() {
            return self.give_up(sidecar).await;
        }
        if worn {
            return sidecar.stop().await;
        }
        let idle = Idle {
            tenant: job.tenant.clone(),
            version: job.site.version.clone(),
            since: Instant::now(),
            sidecar,
        };
        self.idle().push(idle);
    }

    pub(super) async fn stop_idle(&self) {
        let limit = self.options.recycle.idle;
        self.stop_where(|idle| idle.since.elapsed() >= limit).await;
    }

    pub(super) async fn stop(&self) {
        self.stop_where(|_| true).await;
    }

    async fn stop_where(&self, condition: impl Fn(&Idle) -> bool) {
        let stopped: Vec<_> = self.idle().extract_if(.., |idle| condition(idle)).collect();
        for idle in stopped {
            idle.sidecar.stop().await;
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
