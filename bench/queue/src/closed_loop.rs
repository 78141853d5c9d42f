//! Callers that each wait for an answer before they ask again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// One of those who ask.
pub(crate) trait Caller: Send + 'static {
    /// Asks once, and waits for the answer.
    fn call(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// When to stop: whatever comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until {
    pub(crate) passed: Duration,
    pub(crate) calls: usize,
}

/// What was measured, with what it takes to add more of the same.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    latencies: Vec<Duration>,
    warm_up: usize,
    passed: Duration,
    cpu: Duration,
}

/// A summary of [`Measured`].
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Measured ones.
    calls: usize,
    /// With those of the warm-up.
    answered: usize,
    seconds: f64,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of this process, all threads, for each call.
    cpu_us: f64,
    /// The share of one core that this process took.
    cores: f64,
}

/// Lets every caller ask `warm_up` times, then measures all of them together.
pub(crate) async fn run<C: Caller>(
    callers: Vec<C>,
    warm_up: usize,
    until: Until,
) -> anyhow::Result<Measured> {
    let mut measured = Measured { warm_up: warm_up * callers.len(), ..Measured::default() };
    let started = Arc::new(Barrier::new(callers.len() + 1));
    let taken = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        let (started, taken) = (Arc::clone(&started), Arc::clone(&taken));
        tasks.spawn(async move {
            let mut warm = Ok(());
            for _ in 0..warm_up {
                warm = caller.call().await;
                if warm.is_err() {
                    break;
                }
            }
            // Reached even after a fault, or the others would wait for ever.
            started.wait().await;
            warm?;
            let start = Instant::now();
            let mut latencies = Vec::new();
            while start.elapsed() < until.passed && taken.fetch_add(1, Ordering::Relaxed) < until.calls {
                let asked = Instant::now();
                caller.call().await?;
                latencies.push(asked.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    started.wait().await;
    let (start, cpu) = (Instant::now(), cpu_time()?);
    while let Some(ended) = tasks.join_next().await {
        measured.latencies.extend(ended??);
    }
    measured.passed = start.elapsed();
    measured.cpu = cpu_time()?.saturating_sub(cpu);
    Ok(measured)
}

impl Measured {
    pub(crate) fn passed(&self) -> Duration {
        self.passed
    }

    pub(crate) fn answered(&self) -> usize {
        self.latencies.len() + self.warm_up
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.latencies.extend(more.latencies);
        self.warm_up += more.warm_up;
        self.passed += more.passed;
        self.cpu += more.cpu;
    }

    pub(crate) fn figures(mut self) -> Figures {
        self.latencies.sort_unstable();
        let (calls, seconds) = (self.latencies.len(), self.passed.as_secs_f64());
        Figures {
            calls,
            answered: calls + self.warm_up,
            seconds,
            per_second: calls as f64 / seconds,
            p50_ms: percentile_ms(&self.latencies, 50),
            p99_ms: percentile_ms(&self.latencies, 99),
            cpu_us: self.cpu.as_secs_f64() * 1e6 / calls as f64,
            cores: self.cpu.as_secs_f64() / seconds,
        }
    }
}

/// Of sorted times; the nearest one there is.
fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

/// What this process has taken so far, user and system.
fn cpu_time() -> anyhow::Result<Duration> {
    // The run time of each thread in nanoseconds; `stat` would count in hundredths of a second.
    let mut total = Duration::ZERO;
    for thread in std::fs::read_dir("/proc/self/task")? {
        // A thread may end while this reads.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        total += Duration::from_nanos(text.split(' ').next().unwrap_or_default().parse()?);
    }
    Ok(total)
}
