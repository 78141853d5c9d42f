//! A store at work: clients that call at random, and the one that sees everything through in the end.

use std::sync::Arc;
use std::time::Duration;

use lastframe_core::ports::Queue as _;
use lastframe_core::render::Blocked;
use lastframe_core::{LeaseToken, Render, RenderId, Status};

use crate::history::{Answer, Call, End, Key, Leased, Wanted};
use crate::session::Session;

/// More than any retry or delay waits.
const LONG: Duration = Duration::from_secs(61);

const TENANTS: [&str; 3] = ["ann", "bob", "cid"];
const GROUPS: [&str; 2] = ["g", "h"];
const CLIENTS: u64 = 8;
/// So many queued renders are enough to choose from.
const ENOUGH: u32 = 60;
/// Idempotency keys that come into use with each life.
const KEYS: u64 = 8;

impl Session {
    /// Calls at random, until the process is killed or nobody listens any more.
    pub(crate) async fn work(self: Arc<Self>, seed: u64, life: u64, stale: Vec<(RenderId, LeaseToken)>) {
        for tenant in TENANTS {
            self.put_site(tenant).await.unwrap();
        }
        let clients = (0..CLIENTS).map(|number| {
            let mut client = Client {
                session: Arc::clone(&self),
                rng: fastrand::Rng::with_seed(mix(mix(seed, life), number)),
                name: format!("{life}-{number}"),
                named: 0,
                life,
                seed,
                held: Vec::new(),
                over: stale.clone(),
            };
            tokio::spawn(async move {
                loop {
                    client.step().await;
                }
            })
        });
        futures_util::future::join_all(clients).await;
    }

    /// Sees everything through that is left.
    pub(crate) async fn drain(&self) {
        for number in 0.. {
            let worker = format!("last-{}-{number}", self.calls());
            match self.call(Call::Claim { worker }).await {
                Answer::Claimed(Some(Leased { render, token })) => {
                    self.call(Call::Finish { render: render.id, token, end: End::Succeeded }).await;
                }
                Answer::Claimed(None) => {
                    let left = self.list(Status::Queued, u32::MAX).await;
                    if left.is_empty() {
                        assert!(self.list(Status::Rendering, 1).await.is_empty(), "a lease was left");
                        return;
                    }
                    assert!(number < 100_000, "some never come to an end: {left:?}");
                    self.lift(&left).await;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Clears away what keeps them from being claimed.
    async fn lift(&self, left: &[Render]) {
        for render in left {
            let position = self.store.position(render.id).await.unwrap().unwrap();
            if let Some(Blocked::GroupHeld { render_id }) = position.blocked_by {
                self.call(Call::Retry { render: render_id }).await;
                return;
            }
        }
        self.call(Call::Pass { millis: u64::try_from(LONG.as_millis()).unwrap() }).await;
    }
}

struct Client {
    session: Arc<Session>,
    rng: fastrand::Rng,
    name: String,
    /// What it has given a name of its own.
    named: u32,
    life: u64,
    seed: u64,
    held: Vec<(RenderId, LeaseToken)>,
    /// Leases that are over.
    over: Vec<(RenderId, LeaseToken)>,
}

impl Client {
    async fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..22 => self.submit().await,
            22..48 => self.claim().await,
            48..58 => self.extend().await,
            58..82 => self.finish().await,
            82..86 => self.release().await,
            86..90 => self.cancel().await,
            90..94 => self.retry().await,
            94..96 => self.come_late().await,
            _ => {
                let millis = self.rng.u64(0..8_000);
                self.session.call(Call::Pass { millis }).await;
            }
        }
    }

    fn name(&mut self) -> String {
        self.named += 1;
        format!("{}-{}", self.name, self.named)
    }

    async fn submit(&mut self) {
        let enough = self.session.list(Status::Queued, ENOUGH).await.len() >= ENOUGH as usize;
        if enough && self.rng.u32(0..4) > 0 {
            return self.claim().await;
        }
        let call = if self.rng.u32(0..10) < 4 {
            let newest = (self.life + 1) * KEYS;
            let key = self.rng.u64(newest.saturating_sub(3 * KEYS)..newest);
            keyed(self.seed, key, u8::from(self.rng.u32(0..8) == 0))
        } else {
            let name = self.name();
            let now = self.session.now();
            let run_at = (self.rng.u32(0..5) == 0).then(|| now + self.rng.i64(0..20_000));
            submit(&mut self.rng, None, &name, run_at)
        };
        self.session.call(call).await;
    }

    async fn claim(&mut self) {
        let worker = self.name();
        if let Answer::Claimed(Some(leased)) = self.session.call(Call::Claim { worker }).await {
            self.held.push((leased.render.id, leased.token));
        }
    }

    async fn extend(&mut self) {
        let Some((render, token)) = self.rng.choice(&self.held).cloned() else { return };
        self.session.call(Call::Extend { render, token }).await;
    }

    /// A lease that it lets go of.
    fn let_go(&mut self) -> Option<(RenderId, LeaseToken)> {
        let held =
            (!self.held.is_empty()).then(|| self.held.swap_remove(self.rng.usize(..self.held.len())))?;
        self.over.push(held.clone());
        Some(held)
    }

    async fn finish(&mut self) {
        let Some((render, token)) = self.let_go() else { return };
        let end = match self.rng.u32(0..20) {
            0..12 => End::Succeeded,
            12..17 => End::FailedForNow,
            17..19 => End::FailedForGood,
            _ => End::Cancelled,
        };
        self.session.call(Call::Finish { render, token, end }).await;
    }

    async fn release(&mut self) {
        let Some((render, token)) = self.let_go() else { return };
        let now = self.session.now();
        let until = self.rng.bool().then(|| now + self.rng.i64(0..20_000));
        self.session.call(Call::Release { render, token, until }).await;
    }

    /// One of the newest renders in that state.
    async fn any_in(&mut self, status: Status) -> Option<RenderId> {
        let found = self.session.list(status, 20).await;
        self.rng.choice(&found).map(|render| render.id)
    }

    async fn cancel(&mut self) {
        let status = if self.rng.bool() { Status::Queued } else { Status::Rendering };
        let Some(render) = self.any_in(status).await else { return };
        self.session.call(Call::Cancel { render }).await;
    }

    async fn retry(&mut self) {
        let status = if self.rng.u32(0..4) == 0 { Status::Cancelled } else { Status::Failed };
        let Some(render) = self.any_in(status).await else { return };
        self.session.call(Call::Retry { render }).await;
    }

    /// Under a lease that is over, whether or not it knows.
    async fn come_late(&mut self) {
        let Some((render, token)) = self.rng.choice(&self.over).cloned() else { return };
        let call = match self.rng.u32(0..3) {
            0 => Call::Extend { render, token },
            1 => Call::Release { render, token, until: None },
            _ => Call::Finish { render, token, end: End::Succeeded },
        };
        self.session.call(call).await;
    }
}

/// What is sent under a key is the same each time, whoever sends it.
fn keyed(seed: u64, key: u64, body: u8) -> Call {
    let mut rng = fastrand::Rng::with_seed(mix(seed, key));
    let key = Key { name: format!("k{key}"), body };
    let name = format!("{}-{body}", key.name);
    submit(&mut rng, Some(key), &name, None)
}

fn submit(rng: &mut fastrand::Rng, key: Option<Key>, name: &str, run_at: Option<i64>) -> Call {
    let tenant = TENANTS[rng.usize(..TENANTS.len())].to_owned();
    let count = rng.usize(1..=5);
    let mut wanted = |place| Wanted {
        name: format!("{name}-{place}"),
        group: (rng.u32(0..10) < 6).then(|| GROUPS[rng.usize(..GROUPS.len())].to_owned()),
        priority: rng.i32(-1..=1),
        run_at,
        max_attempts: rng.u32(1..=3),
        holds: rng.u32(0..10) < 3,
        // Mostly small; some take pages of their own, so that the log is folded in now and then.
        size: if rng.u32(0..4) == 0 { rng.usize(0..40_000) } else { rng.usize(0..200) },
    };
    let renders = (0..count).map(&mut wanted).collect();
    Call::Submit { tenant, key, renders }
}

/// One seed of two.
pub(crate) fn mix(seed: u64, with: u64) -> u64 {
    fastrand::Rng::with_seed(seed ^ with.wrapping_mul(0x9E37_79B9_7F4A_7C15)).u64(..)
}
