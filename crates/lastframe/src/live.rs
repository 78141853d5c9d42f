//! Who follows renders live. One reader hears the queue's changes for all of them, and keeps the last ones in order, each render
//! once, where it changed last. A follower is no more than a place in that order: it buffers nothing, so one that is slow, or comes
//! back, finds each render that changed meanwhile once, as it is then.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use lastframe_core::ports::Queue;
use lastframe_core::{RenderId, TenantId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Renders whose last change is remembered, for followers that are slow or come back.
const REMEMBERED: usize = 16_384;
/// How long changes are still remembered when nobody follows any more.
const LINGER: Duration = Duration::from_secs(10 * 60);

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Topic {
    /// All renders.
    All,
    /// The renders of a tenant.
    Tenant(TenantId),
    /// One render.
    Render(RenderId),
}

/// What a follower hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// This render is not what it was.
    Changed(RenderId),
    /// It is not known what has changed: look at everything.
    Missed,
}

/// The changes, and who follows them.
#[derive(Debug)]
pub(crate) struct Live {
    queue: Arc<dyn Queue>,
    log: Mutex<Log>,
    seats: Arc<Semaphore>,
    most: usize,
}

impl Live {
    /// For so many followers at once.
    pub(crate) fn new(queue: Arc<dyn Queue>, most: usize) -> anyhow::Result<Self> {
        let most = most.min(Semaphore::MAX_PERMITS);
        let log = Mutex::new(Log::new(format!("{:016x}", getrandom::u64()?), REMEMBERED));
        Ok(Self { queue, log, seats: Arc::new(Semaphore::new(most)), most })
    }

    /// Hears the queue's changes until told to stop.
    pub(crate) async fn run(self: Arc<Self>, close: CancellationToken) {
        loop {
            let mut changes = self.queue.changes();
            // Nobody knows what came about before this was listened to.
            self.log().miss();
            loop {
                let change = tokio::select! {
                    () = close.cancelled() => return,
                    change = changes.next() => change,
                };
                let Some(change) = change else { break };
                self.note(change.render).await;
            }
        }
    }

    async fn note(&self, render: RenderId) {
        {
            let mut log = self.log();
            if log.is_left_alone() {
                return log.miss();
            }
            if let Some(tenant) = log.tenant(render) {
                return log.note(render, tenant);
            }
        }
        match self.queue.get(render).await {
            Ok(Some(found)) => self.log().note(render, found.tenant),
            // It was forgotten, long after it ended.
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, render.id = %render, "whoever follows renders must look anew: one cannot be read");
                self.log().miss();
            }
        }
    }

    /// Follows from the place where an earlier follower was, if that is still known, or from now on; none when there are as many
    /// followers as there may be.
    pub(crate) fn follow(self: &Arc<Self>, topic: Topic, place: Option<&str>) -> Option<Follower> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        let mut log = self.log();
        let resumed = place.and_then(|place| log.find(place));
        let place = resumed.unwrap_or(log.last);
        let wake = log.listen(topic.clone());
        drop(log);
        Some(Follower { live: Arc::clone(self), topic, place, resumed: resumed.is_some(), wake, _seat: seat })
    }

    /// How many follow.
    pub(crate) fn followers(&self) -> usize {
        self.most - self.seats.available_permits()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the changes.
#[derive(Debug)]
pub(crate) struct Follower {
    live: Arc<Live>,
    topic: Topic,
    place: u64,
    resumed: bool,
    wake: Arc<Notify>,
    _seat: OwnedSemaphorePermit,
}

impl Follower {
    /// Whether it goes on where another was.
    pub(crate) fn resumed(&self) -> bool {
        self.resumed
    }

    /// Where it is, for who comes back.
    pub(crate) fn place(&self) -> String {
        format!("{}-{}", self.live.log().life, self.place)
    }

    /// What is next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> News {
        loop {
            let wake = Arc::clone(&self.wake);
            let woken = wake.notified();
            tokio::pin!(woken);
            // Listening starts before looking, so nothing falls in between.
            woken.as_mut().enable();
            if let Some(news) = self.look() {
                return news;
            }
            woken.await;
        }
    }

    fn look(&mut self) -> Option<News> {
        let log = self.live.log();
        let (place, news) = log.after(&self.topic, self.place);
        self.place = place;
        news
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.live.log().leave(&self.topic);
    }
}

/// The last changes, numbered.
#[derive(Debug)]
struct Log {
    /// Tells the numbers of this life of the server from those of others.
    life: String,
    most: usize,
    /// The number of the last change.
    last: u64,
    /// Changes up to this one may not be here any more.
    forgotten: u64,
    /// Each render once, with its last change.
    changes: BTreeMap<u64, (RenderId, TenantId)>,
    of_tenant: BTreeMap<(TenantId, u64), RenderId>,
    of_render: HashMap<RenderId, u64>,
    /// What somebody follows now.
    topics: HashMap<Topic, Followed>,
    left_alone_since: Instant,
}

#[derive(Debug, Default)]
struct Followed {
    followers: usize,
    /// The last change of it that is not here any more.
    forgotten: u64,
    wake: Arc<Notify>,
}

impl Log {
    fn new(life: String, most: usize) -> Self {
        Self {
            life,
            most,
            last: 0,
            forgotten: 0,
            changes: BTreeMap::new(),
            of_tenant: BTreeMap::new(),
            of_render: HashMap::new(),
            topics: HashMap::new(),
            left_alone_since: Instant::now(),
        }
    }

    fn is_left_alone(&self) -> bool {
        self.topics.is_empty() && self.left_alone_since.elapsed() >= LINGER
    }

    fn tenant(&self, render: RenderId) -> Option<TenantId> {
        let (_, tenant) = self.changes.get(self.of_render.get(&render)?)?;
        Some(tenant.clone())
    }

    fn note(&mut self, render: RenderId, tenant: TenantId) {
        self.last += 1;
        let number = self.last;
        if let Some(earlier) = self.of_render.insert(render, number) {
            self.changes.remove(&earlier);
            self.of_tenant.remove(&(tenant.clone(), earlier));
        }
        self.of_tenant.insert((tenant.clone(), number), render);
        let topics = [Topic::All, Topic::Tenant(tenant.clone()), Topic::Render(render)];
        self.changes.insert(number, (render, tenant));
        if self.changes.len() > self.most {
            self.forget_first();
        }
        for topic in topics {
            if let Some(followed) = self.topics.get(&topic) {
                followed.wake.notify_waiters();
            }
        }
    }

    fn forget_first(&mut self) {
        let Some((number, (render, tenant))) = self.changes.pop_first() else { return };
        self.forgotten = number;
        self.of_render.remove(&render);
        for topic in [Topic::All, Topic::Tenant(tenant.clone()), Topic::Render(render)] {
            if let Some(followed) = self.topics.get_mut(&topic) {
                followed.forgotten = number;
            }
        }
        self.of_tenant.remove(&(tenant, number));
    }

    /// Something has changed, and it is not known what.
    fn miss(&mut self) {
        self.last += 1;
        self.forgotten = self.last;
        self.changes.clear();
        self.of_tenant.clear();
        self.of_render.clear();
        for followed in self.topics.values_mut() {
            followed.forgotten = self.last;
            followed.wake.notify_waiters();
        }
    }

    /// The number of a place that somebody was at, if all that came after it is here.
    fn find(&self, place: &str) -> Option<u64> {
        let (life, number) = place.split_once('-')?;
        let number = number.parse().ok()?;
        (life == self.life && (self.forgotten..=self.last).contains(&number)).then_some(number)
    }

    /// What is next for who is at that place, and the place after it.
    fn after(&self, topic: &Topic, place: u64) -> (u64, Option<News>) {
        if self.topics.get(topic).is_some_and(|followed| followed.forgotten > place) {
            return (self.last, Some(News::Missed));
        }
        let next = match topic {
            Topic::All => {
                self.changes.range(place + 1..).next().map(|(number, (render, _))| (*number, *render))
            }
            Topic::Tenant(tenant) => {
                let range = (tenant.clone(), place + 1)..=(tenant.clone(), u64::MAX);
                self.of_tenant.range(range).next().map(|((_, number), render)| (*number, *render))
            }
            Topic::Render(render) => {
                self.of_render.get(render).filter(|number| **number > place).map(|number| (*number, *render))
            }
        };
        // Where nothing is next, nothing before the last change will ever be.
        next.map_or((self.last, None), |(number, render)| (number, Some(News::Changed(render))))
    }

    fn listen(&mut self, topic: Topic) -> Arc<Notify> {
        let followed = self.topics.entry(topic).or_default();
        followed.followers += 1;
        Arc::clone(&followed.wake)
    }

    fn leave(&mut self, topic: &Topic) {
        let Some(followed) = self.topics.get_mut(topic) else { return };
        followed.followers -= 1;
        if followed.followers == 0 {
            self.topics.remove(topic);
            self.left_alone_since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(number: u64) -> RenderId {
        RenderId::generate(jiff::Timestamp::UNIX_EPOCH, &mut fastrand::Rng::with_seed(number))
    }

    fn ann() -> TenantId {
        TenantId::new("ann")
    }

    fn bob() -> TenantId {
        TenantId::new("bob")
    }

    /// All that is told to who was at that place, up to now.
    fn told(log: &Log, topic: &Topic, mut place: u64) -> Vec<News> {
        let mut told = Vec::new();
        while let (next, Some(news)) = log.after(topic, place) {
            told.push(news);
            place = next;
        }
        told
    }

    fn log(most: usize) -> Log {
        Log::new("life".into(), most)
    }

    #[test]
    fn who_was_away_finds_each_render_once_where_it_changed_last() {
        let mut log = log(10);
        for number in [1, 2, 1, 3, 1] {
            log.note(render(number), ann());
        }
        log.note(render(4), bob());
        let changed = |numbers: &[u64]| -> Vec<_> {
            numbers.iter().map(|number| News::Changed(render(*number))).collect()
        };
        let anns = Topic::Tenant(ann());
        assert_eq!(told(&log, &anns, 0), changed(&[2, 3, 1]));
        assert_eq!(told(&log, &Topic::Tenant(bob()), 0), changed(&[4]));
        assert_eq!(told(&log, &Topic::All, 0), changed(&[2, 3, 1, 4]));
        assert_eq!(told(&log, &Topic::All, 4), changed(&[1, 4]));
        assert_eq!(told(&log, &Topic::Render(render(1)), 3), changed(&[1]));
        assert_eq!(told(&log, &anns, log.last), []);
        assert_eq!(log.changes.len(), 4);
    }

    #[test]
    fn who_was_away_for_too_long_or_comes_from_another_life_starts_afresh() {
        let mut log = log(2);
        assert_eq!(log.find("life-0"), Some(0));
        for number in 1..=3 {
            log.note(render(number), ann());
        }
        assert_eq!((log.find("life-0"), log.find("life-1"), log.find("life-3")), (None, Some(1), Some(3)));
        for place in ["life-4", "other-2", "life", "life--1", "life-", ""] {
            assert_eq!(log.find(place), None, "{place}");
        }
        assert_eq!((log.changes.len(), log.of_tenant.len(), log.of_render.len()), (2, 2, 2));
    }

    #[test]
    fn one_that_is_too_slow_is_told_so_once_and_others_are_not() {
        let mut log = log(2);
        let [anns, bobs] = [Topic::Tenant(ann()), Topic::Tenant(bob())];
        log.listen(anns.clone());
        log.listen(bobs.clone());
        log.note(render(9), bob());
        for number in 1..=4 {
            log.note(render(number), ann());
        }
        assert_eq!(told(&log, &anns, 0), [News::Missed]);
        // What is gone of his he has read.
        assert_eq!(told(&log, &bobs, 1), []);
        assert_eq!(told(&log, &anns, 3), [News::Changed(render(3)), News::Changed(render(4))]);
    }

    #[test]
    fn when_nobody_knows_what_changed_everybody_looks_anew() {
        let mut log = log(2);
        let topics = [Topic::All, Topic::Tenant(ann()), Topic::Render(render(1))];
        topics.iter().for_each(|topic| drop(log.listen(topic.clone())));
        log.note(render(1), ann());
        log.miss();
        for topic in &topics {
            assert_eq!(told(&log, topic, 1), [News::Missed]);
            log.leave(topic);
        }
        assert!(log.topics.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_follows_for_long_is_not_looked_at() {
        let mut log = log(2);
        log.listen(Topic::All);
        tokio::time::advance(LINGER).await;
        assert!(!log.is_left_alone());
        log.leave(&Topic::All);
        assert!(!log.is_left_alone(), "it may come back");
        tokio::time::advance(LINGER).await;
        assert!(log.is_left_alone());
    }
}
