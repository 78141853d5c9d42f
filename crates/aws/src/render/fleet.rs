//! The functions there are, and which one a render goes to.

use std::ops::Deref;
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
    /// The number of its AWS account's keys; the usual credentials when absent.
    pub(crate) account: Option<u32>,
    pub(crate) region: String,
    pub(crate) function: String,
    /// The bucket that is configured for it.
    pub(crate) bucket: Option<String>,
    /// The Remotion it was deployed with; none when its name does not tell.
    pub(crate) version: Option<String>,
    /// The longest that one invocation takes.
    pub(crate) timeout: Duration,
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) load: Load,
}

/// What a function has to do.
#[derive(Debug, Default)]
pub(crate) struct Load {
    under_way: AtomicUsize,
    resting: Mutex<Rest>,
}

#[derive(Debug, Default)]
struct Rest {
    until: Option<Instant>,
    times: u32,
}

impl Place {
    /// Where renders in that bucket of it are.
    pub(crate) fn address(&self, bucket: String) -> Address {
        let (region, function) = (self.region.clone(), self.function.clone());
        Address { account: self.account, region, function, bucket }
    }

    fn rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.load.resting.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.load.under_way.fetch_add(1, Ordering::Relaxed);
        Seat(Arc::clone(self))
    }
}

/// A render under way at a place, or about to be.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Place>);

impl Deref for Seat {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.load.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All functions, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Fleet(pub(crate) Vec<Arc<Place>>);

/// Where a render goes.
#[derive(Debug)]
pub(crate) enum Choice {
    /// There, where it counts from now on: others choose while it is being started.
    Seat(Seat),
    /// Nowhere before then: all that fit are throttled.
    Later(Instant),
    /// Nowhere, for this reason.
    Nowhere(String),
}

impl Fleet {
    /// Where a render of a site of that version of Remotion goes: to the function that has the fewest under way.
    pub(crate) fn choose(&self, request: &RenderRequest, version: &str) -> Choice {
        let asked = |place: &Place| {
            request.region.as_ref().is_none_or(|region| *region == place.region)
                && request.function_name.as_ref().is_none_or(|name| *name == place.function)
                && request
                    .force_bucket_name
                    .as_ref()
                    .is_none_or(|bucket| Some(bucket) == place.bucket.as_ref())
                && request.renderer_function_name.as_ref().is_none_or(|name| self.reaches(place, name))
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
        match awake.min_by_key(|place| place.load.under_way.load(Ordering::Relaxed)) {
            Some(place) => Choice::Seat(place.occupy()),
            None => {
                let first = fitting.iter().filter_map(|place| place.rest().until).min();
                Choice::Later(first.unwrap_or(now))
            }
        }
    }

    /// Whether the function at a place can call the one of that name, which must be in the same region of the same account.
    fn reaches(&self, place: &Place, name: &str) -> bool {
        let beside = |other: &Arc<Place>| other.account == place.account && other.region == place.region;
        self.0.iter().any(|other| beside(other) && other.function == name)
    }

    /// The function of an earlier attempt, if it is still configured.
    pub(crate) fn at(&self, address: &Address) -> Option<Arc<Place>> {
        let same = |place: &&Arc<Place>| {
            let Address { account, region, function, bucket: _ } = address;
            (account, region, function) == (&place.account, &place.region, &place.function)
        };
        self.0.iter().find(same).cloned()
    }
}

fn wanted(request: &RenderRequest) -> String {
    let part = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} `{value}`"));
    let parts = [
        part("the name", &request.function_name),
        part("the region", &request.region),
        part("the bucket", &request.force_bucket_name),
        part("beside it the function", &request.renderer_function_name),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}
