//! The functions there are, and which one a render goes to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lastframe_core::RenderRequest;
use tokio::time::Instant;

use super::remote::Remote;
use super::trace::Address;

/// How long a function that is throttled is spared, at first; it doubles.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A function renders can go to.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) address: Address,
    /// The Remotion it was deployed with; none when its name does not tell.
    pub(crate) version: Option<String>,
    /// The longest that one invocation takes.
    pub(crate) timeout: Duration,
    pub(crate) remote: Arc<dyn Remote>,
    under_way: AtomicUsize,
    resting: Mutex<Rest>,
}

#[derive(Debug, Default)]
struct Rest {
    until: Option<Instant>,
    times: u32,
}

impl Place {
    pub(crate) fn new(
        address: Address,
        version: Option<String>,
        timeout: Duration,
        remote: Arc<dyn Remote>,
    ) -> Self {
        let (under_way, resting) = (AtomicUsize::new(0), Mutex::default());
        Self { address, version, timeout, remote, under_way, resting }
    }

    fn rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is throttled: nobody is sent here for a while.
    pub(crate) fn throttled(&self) {
        let mut rest = self.rest();
        let step = FIRST_REST.saturating_mul(1 << rest.times.min(10)).min(LONGEST_REST);
        rest.times += 1;
        // Servers that were throttled together must not come back together.
        rest.until = Some(Instant::now() + step.mul_f64(0.5 + fastrand::f64() / 2.0));
    }

    /// It has started something.
    pub(crate) fn accepted(&self) {
        *self.rest() = Rest::default();
    }

    /// Counts a render that is under way here, until it is dropped.
    pub(crate) fn occupy(self: &Arc<Self>) -> Seat {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Seat(Arc::clone(self))
    }
}

/// A render under way at a place.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Place>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All functions, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Fleet(pub(crate) Vec<Arc<Place>>);

/// Where a render goes.
#[derive(Debug)]
pub(crate) enum Choice {
    /// There.
    Place(Arc<Place>),
    /// Nowhere before then: all that fit are throttled.
    Later(Instant),
    /// Nowhere, for this reason.
    Nowhere(String),
}

impl Fleet {
    /// Where a render of a site of that version of Remotion goes: to the function that has the fewest under way.
    pub(crate) fn choose(&self, request: &RenderRequest, version: &str) -> Choice {
        let asked = |place: &Place| {
            request.region.as_ref().is_none_or(|region| *region == place.address.region)
                && request.function_name.as_ref().is_none_or(|name| *name == place.address.function)
        };
        let asked: Vec<_> = self.0.iter().filter(|place| asked(place)).collect();
        if asked.is_empty() {
            return Choice::Nowhere(format!("no function that is configured has {}", wanted(request)));
        }
        let fits = |place: &Place| place.version.as_deref().is_none_or(|deployed| deployed == version);
        let fitting: Vec<_> = asked.iter().filter(|place| fits(place)).collect();
        if fitting.is_empty() {
            let deployed: Vec<_> = asked.iter().filter_map(|place| place.version.as_deref()).collect();
            return Choice::Nowhere(format!(
                "the site was bundled with Remotion {version}, and the functions are of {}: deploy a function of {version} \
                 beside them, or add the site again with the Remotion of a function",
                deployed.join(", ")
            ));
        }
        let now = Instant::now();
        let awake = fitting.iter().filter(|place| place.rest().until.is_none_or(|until| until <= now));
        match awake.min_by_key(|place| place.under_way.load(Ordering::Relaxed)) {
            Some(place) => Choice::Place(Arc::clone(place)),
            None => {
                let first = fitting.iter().filter_map(|place| place.rest().until).min();
                Choice::Later(first.unwrap_or(now))
            }
        }
    }

    /// The function of an earlier attempt, if it is still configured.
    pub(crate) fn at(&self, address: &Address) -> Option<Arc<Place>> {
        let same = |place: &&Arc<Place>| {
            let Address { account, region, function, bucket: _ } = &place.address;
            (account, region, function) == (&address.account, &address.region, &address.function)
        };
        self.0.iter().find(same).cloned()
    }
}

fn wanted(request: &RenderRequest) -> String {
    let part = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} `{value}`"));
    let parts = [part("the name", &request.function_name), part("the region", &request.region)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" in ")
}
