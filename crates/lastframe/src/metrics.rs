//! The figures that Prometheus reads at `/metrics`: their names, and nothing that counts. What happens comes by [`Observer`] from
//! the queue and the worker; what is so comes as [`Figures`] when somebody asks.
//!
//! No label has the name of a tenant, a group or a render: there may be any number of those, and a series for each would burden
//! whoever stores them. `lastframe tenant list` tells tenants apart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use jiff::Timestamp;
use lastframe_core::notice::Channel;
use lastframe_core::ports::{Backlog, Overview};
use lastframe_core::{Kind, Observer, Render};
use lastframe_worker::local::Sidecars;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// What the text is, as an HTTP header has it.
pub(crate) use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// Seconds that a write to the disk takes.
const OF_WRITES: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Seconds that a render takes.
const OF_RENDERS: [f64; 13] =
    [0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0];
/// Seconds that a render waits for its first worker.
const OF_WAITS: [f64; 12] =
    [0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];
/// Frames that one render makes in a second.
const OF_PACES: [f64; 10] = [0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 240.0];

/// A label with its value.
type Label<V = &'static str> = (&'static str, V);
type Amount = Gauge<f64, AtomicU64>;

/// What is so at a moment.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) now: Timestamp,
    pub(crate) overview: Overview,
    pub(crate) backlog: Backlog,
    pub(crate) sidecars: Sidecars,
    /// Bytes of the data folder's disk; none when the system does not say.
    pub(crate) free: Option<u64>,
    pub(crate) min_free: u64,
    pub(crate) streams: usize,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    renders: Family<[Label; 1], Gauge>,
    claimable: Gauge,
    ages: Family<[Label; 1], Amount>,
    paused: Gauge,
    accepted: Counter,
    submits: Histogram,
    claimed: Counter,
    claims: Histogram,
    waits: Histogram,
    attempts: Family<[Label; 1], Counter>,
    render_times: Family<[Label; 1], Histogram, fn() -> Histogram>,
    frames: Counter,
    paces: Histogram,
    busy: Gauge,
    sidecars: Counter,
    restarts: Counter,
    free: Amount,
    min_free: Amount,
    streams: Gauge,
    requests: Family<[Label<String>; 3], Counter>,
    deliveries: Family<[Label; 2], Counter>,
    pending: Gauge,
}

impl Metrics {
    /// For a server with so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        let mut registry = Registry::with_prefix("lastframe");
        let all = &mut registry;
        let version = Family::<[Label; 1], Gauge>::default();
        version.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        add(all, "build_info", "The version of Lastframe that runs", version);
        let there_are: Gauge = add(all, "workers", "Renders that may be made at once", Gauge::default());
        there_are.set(count(workers as u64));
        let render_times = Family::new_with_constructor((|| Histogram::new(OF_RENDERS)) as fn() -> Histogram);
        let metrics = Self {
            renders: add(all, "renders", "Renders by status", Family::default()),
            claimable: add(
                all,
                "renders_claimable",
                "Queued renders that nothing stands before but the lack of a worker",
                Gauge::default(),
            ),
            ages: add(
                all,
                "oldest_render_age_seconds",
                "How long the oldest claimable render has been due (queued), and the longest attempt is under way (rendering); 0 for none",
                Family::default(),
            ),
            paused: add(all, "queue_paused", "1 while the whole queue is paused", Gauge::default()),
            accepted: add(all, "renders_accepted", "Renders that were accepted", Counter::default()),
            submits: add(
                all,
                "submit_duration_seconds",
                "From a checked request until its renders are on disk",
                Histogram::new(OF_WRITES),
            ),
            claimed: add(all, "claims", "Leases that were given to workers", Counter::default()),
            claims: add(
                all,
                "claim_duration_seconds",
                "From asking for a render until its lease is on disk",
                Histogram::new(OF_WRITES),
            ),
            waits: add(
                all,
                "queue_wait_seconds",
                "From when a render was accepted, or was due, until its first lease",
                Histogram::new(OF_WAITS),
            ),
            attempts: add(all, "attempts", "Attempts that ended, by outcome", Family::default()),
            render_times: add(
                all,
                "render_duration_seconds",
                "From the lease to a whole file, of attempts that made one",
                render_times,
            ),
            frames: add(all, "frames_rendered", "Frames of the videos that were made", Counter::default()),
            paces: add(
                all,
                "render_frames_per_second",
                "Frames of a video by the seconds that its attempt took",
                Histogram::new(OF_PACES),
            ),
            busy: add(all, "workers_busy", "Attempts under way", Gauge::default()),
            sidecars: add(
                all,
                "sidecars_started",
                "Browsers that were started with their Node",
                Counter::default(),
            ),
            restarts: add(
                all,
                "sidecar_restarts",
                "Browsers that were given up because something was wrong, not for their age or for want of work",
                Counter::default(),
            ),
            free: add(all, "disk_free_bytes", "What the disk of the data folder has left", Amount::default()),
            min_free: add(
                all,
                "disk_min_free_bytes",
                "Below so much no render is accepted (storage.min_free)",
                Amount::default(),
            ),
            streams: add(all, "event_streams", "Clients that follow renders live", Gauge::default()),
            requests: add(
                all,
                "http_requests",
                "Requests that were answered, by route and class of status; `none` when the client left before",
                Family::default(),
            ),
            deliveries: add(
                all,
                "deliveries",
                "News of renders that were sent off, by channel and outcome",
                Family::default(),
            ),
            pending: add(
                all,
                "deliveries_pending",
                "News of renders that wait to be sent off, or to be sent again",
                Gauge::default(),
            ),
            registry,
        };
        // What is not there cannot be seen to rise.
        for outcome in ["succeeded", "failed", "cancelled", "handed_back", "lost"] {
            drop(metrics.attempts.get_or_create(&[("outcome", outcome)]));
        }
        for channel in Channel::ALL {
            for outcome in ["delivered", "retried", "failed"] {
                drop(
                    metrics.deliveries.get_or_create(&[("channel", channel.as_str()), ("outcome", outcome)]),
                );
            }
        }
        metrics
    }

    /// Counts a request that was answered; with no status when its client left before.
    pub(crate) fn answered(&self, method: &Method, route: &str, status: Option<StatusCode>) {
        // Clients may make up methods.
        let known = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ];
        let method = if known.contains(method) { method.as_str() } else { "other" };
        let status = status.map_or_else(|| "none".into(), |status| format!("{}xx", status.as_u16() / 100));
        let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status)];
        self.requests.get_or_create(&labels).inc();
    }

    /// All figures, in the text format of Prometheus.
    pub(crate) fn text(&self, figures: &Figures) -> String {
        let Figures { now, overview, backlog, sidecars, free, min_free, streams } = figures;
        let counts = &overview.counts;
        for (status, renders) in [
            ("queued", counts.queued),
            ("rendering", counts.rendering),
            ("succeeded", counts.succeeded),
            ("failed", counts.failed),
            ("cancelled", counts.cancelled),
        ] {
            self.renders.get_or_create(&[("status", status)]).set(count(renders));
        }
        let age = |since: Option<Timestamp>| {
            since.map_or(0.0, |since| now.duration_since(since).as_secs_f64().max(0.0))
        };
        self.ages.get_or_create(&[("status", "queued")]).set(age(backlog.waiting_since));
        self.ages.get_or_create(&[("status", "rendering")]).set(age(backlog.rendering_since));
        self.claimable.set(count(backlog.claimable));
        self.paused.set(overview.paused.into());
        self.sidecars.inner().store(sidecars.started, Ordering::Relaxed);
        self.restarts.inner().store(sidecars.given_up, Ordering::Relaxed);
        self.free.set(free.map_or(f64::NAN, |free| free as f64));
        self.min_free.set(*min_free as f64);
        self.streams.set(count(*streams as u64));
        let mut text = String::new();
        if let Err(error) = prometheus_text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "the figures cannot be written down");
        }
        text
    }
}

impl Observer for Metrics {
    fn accepted(&self, renders: usize, took: Duration) {
        self.accepted.inc_by(renders as u64);
        self.submits.observe(took.as_secs_f64());
    }

    fn claimed(&self, render: &Render, took: Duration) {
        self.claimed.inc();
        self.claims.observe(took.as_secs_f64());
        if let Some(started) = render.started_at.filter(|_| render.leases == 1) {
            self.waits.observe(started.duration_since(render.run_at).as_secs_f64().max(0.0));
        }
    }

    fn attempt_recorded(&self, outcome: &'static str) {
        self.attempts.get_or_create(&[("outcome", outcome)]).inc();
    }

    fn worker_busy(&self) {
        self.busy.inc();
    }

    fn worker_free(&self) {
        self.busy.dec();
    }

    fn rendered(&self, kind: Kind, took: Duration, frames: Option<u32>) {
        let seconds = took.as_secs_f64();
        self.render_times.get_or_create(&[("kind", kind.as_str())]).observe(seconds);
        if let Some(frames) = frames.filter(|_| kind == Kind::Media) {
            self.frames.inc_by(frames.into());
            if seconds > 0.0 {
                self.paces.observe(f64::from(frames) / seconds);
            }
        }
    }

    fn delivered(&self, channel: &'static str, outcome: &'static str) {
        self.deliveries.get_or_create(&[("channel", channel), ("outcome", outcome)]).inc();
    }

    fn deliveries_pending(&self, pending: u64) {
        self.pending.set(count(pending));
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use lastframe_core::ports::Counts;

    use super::*;

    fn figures() -> Figures {
        let now = Timestamp::from_second(1_000).unwrap();
        Figures {
            now,
            overview: Overview { paused: true, counts: Counts { queued: 3, ..Counts::default() } },
            backlog: Backlog {
                claimable: 2,
                waiting_since: Some(Timestamp::from_second(940).unwrap()),
                // The clock was put back meanwhile.
                rendering_since: Some(Timestamp::from_second(1_001).unwrap()),
            },
            sidecars: Sidecars { started: 5, given_up: 1 },
            free: Some(7),
            min_free: 1,
            streams: 4,
        }
    }

    #[test]
    fn what_is_so_and_what_has_happened_stand_in_the_text() {
        let metrics = Metrics::new(2);
        metrics.accepted(3, Duration::from_millis(4));
        metrics.attempt_recorded("lost");
        metrics.rendered(Kind::Media, Duration::from_secs(2), Some(60));
        metrics.rendered(Kind::Still, Duration::from_secs(1), Some(1));
        metrics.worker_busy();
        metrics.delivered("webhook", "failed");
        metrics.deliveries_pending(8);
        metrics.answered(&Method::GET, "/v1/renders/{id}", Some(StatusCode::NOT_FOUND));
        metrics.answered(&Method::from_bytes(b"MADEUP").unwrap(), "/", None);
        let text = metrics.text(&figures());
        for line in [
            "lastframe_renders{status=\"queued\"} 3",
            "lastframe_renders_claimable 2",
            "lastframe_oldest_render_age_seconds{status=\"queued\"} 60.0",
            "lastframe_oldest_render_age_seconds{status=\"rendering\"} 0.0",
            "lastframe_queue_paused 1",
            "lastframe_renders_accepted_total 3",
            "lastframe_submit_duration_seconds_bucket{le=\"0.005\"} 1",
            "lastframe_attempts_total{outcome=\"lost\"} 1",
            "lastframe_attempts_total{outcome=\"failed\"} 0",
            "lastframe_render_duration_seconds_count{kind=\"still\"} 1",
            "lastframe_frames_rendered_total 60",
            "lastframe_render_frames_per_second_sum 30.0",
            "lastframe_workers 2",
            "lastframe_workers_busy 1",
            "lastframe_sidecars_started_total 5",
            "lastframe_sidecar_restarts_total 1",
            "lastframe_disk_free_bytes 7.0",
            "lastframe_event_streams 4",
            "lastframe_http_requests_total{method=\"GET\",route=\"/v1/renders/{id}\",status=\"4xx\"} 1",
            "lastframe_http_requests_total{method=\"other\",route=\"/\",status=\"none\"} 1",
            "lastframe_deliveries_pending 8",
            "lastframe_deliveries_total{channel=\"webhook\",outcome=\"failed\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
