//! An open store, every call of which is told before it is issued and after it was answered.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use lastframe_core::ports::{
    ControlError, Directory as _, Filter, IdempotencyKey, LeaseError, Queue as _, QueueError, SubmitError,
    Submitted,
};
use lastframe_core::site::SiteVersion;
use lastframe_core::{
    Clock as _, Failure, HandBack, LeaseToken, ManualClock, Outcome, Output, Progress, Render, RetryPolicy,
    Status, TenantId,
};
use lastframe_store::{Key, Keys, Options, Store};
use zeroize::Zeroizing;

use crate::history::{Answer, Call, End, Entry, Event, Leased, REPORTED, SITE, Seen, VERSION, Wanted};

/// How long a lease holds here.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// How retries wait here, and how soon a render is given up that its workers die with.
pub(crate) const RETRY: RetryPolicy =
    RetryPolicy { base: Duration::from_secs(2), cap: Duration::from_secs(60), max_lost: 3 };
/// Keys that secrets are sealed with here, in turns.
const KEYS: u8 = 16;

/// All of them; that one seals.
fn keys_from(number: u8) -> Keys {
    let key = |number: u8| Key::new(&Zeroizing::new([number % KEYS; 32]));
    Keys::new((number..number + KEYS).map(key).collect(), "the test's own")
}

/// All of them, for whoever only reads.
pub(crate) fn keys() -> Keys {
    keys_from(0)
}

type Sink = Box<dyn FnMut(&Entry) + Send>;

pub(crate) struct Session {
    pub(crate) store: Store,
    clock: Arc<ManualClock>,
    sink: Mutex<Sink>,
    calls: AtomicU32,
}

impl Session {
    /// Opens the store at the time `now`. Calls are numbered from `calls`.
    pub(crate) async fn open(
        folder: &Path,
        now: i64,
        seed: u64,
        calls: u32,
        sink: Sink,
    ) -> Result<Self, String> {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millisecond(now).unwrap()));
        let options =
            Options { lease: LEASE, retry: RETRY, seed: Some(seed), keys: keys(), ..Options::default() };
        let store = Store::open(folder, Arc::clone(&clock) as _, options).await.map_err(|e| causes(&e))?;
        Ok(Self { store, clock, sink: Mutex::new(sink), calls: AtomicU32::new(calls) })
    }

    /// Seals everything with another key, a few times, unless that fails.
    pub(crate) async fn rotate(&self) {
        for number in 1..4 {
            let rotated = self.store.seal_with(keys_from(number)).await;
            if rotated.is_err() || self.store.reseal().await.is_err() {
                return;
            }
        }
    }

    fn tell(&self, event: Event) {
        let mut sink = self.sink.lock().unwrap();
        sink(&Entry { at: self.now(), event });
    }

    pub(crate) async fn call(&self, call: Call) -> Answer {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        self.tell(Event::Asked(number, call.clone()));
        let answer = self.issue(call).await;
        self.tell(Event::Answered(number, answer.clone()));
        answer
    }

    async fn issue(&self, call: Call) -> Answer {
        let store = &self.store;
        match call {
            Call::Submit { tenant, key, renders } => {
                let renders = renders.iter().map(Wanted::new_render).collect();
                let key = key.map(|key| IdempotencyKey { key: key.name, body_hash: [key.body; 32] });
                match store.submit(&TenantId::new(tenant), renders, key).await {
                    Ok(Submitted { renders, replayed }) => {
                        Answer::Submitted { renders: renders.iter().map(seen).collect(), replayed }
                    }
                    Err(SubmitError::KeyReused) => Answer::KeyReused,
                    Err(error) => failed(&error),
                }
            }
            Call::Claim { worker } => match store.claim(&worker, Duration::ZERO).await {
                Ok(lease) => Answer::Claimed(
                    lease.map(|lease| Leased { render: seen(&lease.render), token: lease.token }),
                ),
                Err(error) => failed(&error),
            },
            Call::Extend { render, token } => {
                match store.extend(render, &token, Progress::START, None).await {
                    Ok(extended) => Answer::Extended { cancel_requested: extended.cancel_requested },
                    Err(error) => refused(&error),
                }
            }
            Call::Release { render, token, until } => {
                let why = until.map_or(HandBack::Draining, |at| HandBack::Throttled {
                    until: Timestamp::from_millisecond(at).unwrap(),
                });
                store.release(render, &token, why).await.map_or_else(|e| refused(&e), |()| Answer::Released)
            }
            Call::Finish { render, token, end } => {
                let finished = store.finish(render, &token, outcome(end, &token)).await;
                finished.map_or_else(|error| refused(&error), Answer::Finished)
            }
            Call::Cancel { render } => changed(store.cancel(render).await),
            Call::Retry { render } => changed(store.retry(render).await),
            Call::Pass { millis } => {
                self.clock.advance(Duration::from_millis(millis));
                store.sweep().await.map_or_else(|error| failed(&error), |()| Answer::Passed)
            }
        }
    }

    /// The clock, in milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// The number of the next call.
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Adds the site that all renders are of.
    pub(crate) async fn put_site(&self, tenant: &str) -> Result<(), QueueError> {
        self.store.put_site(&TenantId::new(tenant), site(self.clock.now())).await
    }

    pub(crate) async fn list(&self, status: Status, limit: u32) -> Vec<Render> {
        self.store.list(Filter { status: Some(status), limit, ..Filter::default() }).await.unwrap()
    }
}

fn seen(render: &Render) -> Seen {
    Seen {
        id: render.id,
        seq: render.seq,
        status: render.status,
        attempt: render.attempt,
        leases: render.leases,
    }
}

pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn failed(error: &dyn std::error::Error) -> Answer {
    Answer::Failed(causes(error))
}

fn refused(error: &LeaseError) -> Answer {
    match error {
        LeaseError::Lost => Answer::Lost,
        LeaseError::Queue(error) => failed(error),
    }
}

fn changed(result: Result<Render, ControlError>) -> Answer {
    match result {
        Ok(render) => Answer::Changed(seen(&render)),
        Err(ControlError::NotFound) => Answer::NotFound,
        Err(ControlError::Illegal(_)) => Answer::Illegal,
        Err(error) => failed(&error),
    }
}

/// The token is in it, so the record tells whose word was taken.
fn outcome(end: End, token: &LeaseToken) -> Outcome {
    match end {
        End::Succeeded => Outcome::Succeeded(Output {
            key: token.0.clone(),
            size_in_bytes: 1_000,
            sha256: String::new(),
            content_type: "video/mp4".into(),
            frame_count: None,
            width: None,
            height: None,
            duration_in_seconds: None,
            cost_in_usd: None,
            deletion: None,
        }),
        End::FailedForNow => Outcome::Failed(Failure::new(REPORTED, token.0.as_str(), true)),
        End::FailedForGood => Outcome::Failed(Failure::new(REPORTED, token.0.as_str(), false)),
        End::Cancelled => Outcome::Cancelled,
    }
}

fn site(now: Timestamp) -> SiteVersion {
    SiteVersion {
        name: SITE.into(),
        version: VERSION.into(),
        remotion_version: "4.0.527".into(),
        renderer: None,
        url: None,
        size_in_bytes: 1_000,
        compositions: Vec::new(),
        created_at: now,
    }
}
