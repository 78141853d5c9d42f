//! Who follows renders live. One reader hears the queue's changes for all of them, and keeps the last ones in order, each render
//! once, where it changed last. A follower is no more than a place in that order: it buffers nothing, so one that is slow, or comes
//! back, finds each render that changed meanwhile once, as it is then.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use lastframe_core::ports::Queue;
use lastframe_core::{RenderId, TenantId};
use tokio::sync::Notify;
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
    /// Followers that there may be at once.
    most: usize,
}

/// Why somebody cannot follow: as many do as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// Of all tenants together.
    #[error("{0} streams are open, and there may be no more (http.max_streams)")]
    ForAll(usize),
    /// Of this tenant.
    #[error(
        "{0} streams of your tenant are open, and none may have more than half of all (http.max_streams)"
    )]
    ForTenant(usize),
}

impl Live {
    /// For so many followers at once.
    pub(crate) fn new(queue: Arc<dyn Queue>, most: usize) -> anyhow::Result<Self> {
        let log = Mutex::new(Log::new(format!("{:016x}", getrandom::u64()?), REMEMBERED));
        Ok(Self { queue, log, most })
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

    /// Follows from the place where an earlier follower was, if that is still known, or from now on.
    ///
    /// # Errors
    /// When there are as many followers as there may be, or as many of this tenant.
    pub(crate) fn follow(
        self: &Arc<Self>,
        who: &TenantId,
        topic: Topic,
        place: Option<&str>,
    ) -> Result<Follower, Full> {
        let mut log = self.log();
        log.crowd.seat(who, self.most)?;
        let resumed = place.and_then(|place| log.find(place));
        let place = resumed.unwrap_or(log.last);
        let wake = log.listen(topic.clone());
        drop(log);
        Ok(Follower {
            live: Arc::clone(self),
            who: who.clone(),
            topic,
            place,
            resumed: resumed.is_some(),
            wake,
        })
    }

    /// How many follow.
    pub(crate) fn followers(&self) -> usize {
        self.log().crowd.all
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the changes.
#[derive(Debug)]
pub(crate) struct Follower {
    live: Arc<Live>,
    who: TenantId,
    topic: Topic,
    place: u64,
    resumed: bool,
    wake: Arc<Notify>,
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
        let mut log = self.live.log();
        log.leave(&self.topic);
        log.crowd.leave(&self.who);
    }
}

/// How many follow, and of which tenant they are.
#[derive(Debug, Default)]
struct Crowd {
    all: usize,
    of_tenant: HashMap<TenantId, usize>,
}

impl Crowd {
    /// Half of the room is the most that one tenant may take: the other half stays for the others.
    fn seat(&mut self, tenant: &TenantId, most: usize) -> Result<(), Full> {
        if self.all >= most {
            return Err(Full::ForAll(most));
        }
        let share = most.div_ceil(2);
        if self.of_tenant.get(tenant).is_some_and(|own| *own >= share) {
            return Err(Full::ForTenant(share));
        }
        self.all += 1;
        *self.of_tenant.entry(tenant.clone()).or_default() += 1;
        Ok(())
    }

    fn leave(&mut self, tenant: &TenantId) {
        let Some(own) = self.of_tenant.get_mut(tenant) else { return };
        self.all -= 1;
        *own -= 1;
        if *own == 0 {
            self.of_tenant.remove(tenant);
        }
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
    crowd: Crowd,
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
            crowd: Crowd::default(),
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

    #[test]
    fn no_tenant_can_take_the_room_of_the_others() {
        let (mut crowd, carl) = (Crowd::default(), TenantId::new("carl"));
        let seated = [ann(), ann(), ann(), bob(), bob(), carl].map(|tenant| crowd.seat(&tenant, 4));
        let (ok, of_ann, of_all) = (Ok(()), Err(Full::ForTenant(2)), Err(Full::ForAll(4)));
        assert_eq!(seated, [ok, ok, of_ann, ok, ok, of_all]);
        crowd.leave(&ann());
        assert_eq!((crowd.seat(&bob(), 4), crowd.seat(&ann(), 4)), (of_ann, ok));
        [ann(), ann(), bob(), bob()].iter().for_each(|tenant| crowd.leave(tenant));
        assert_eq!((crowd.all, crowd.of_tenant.len()), (0, 0));
        assert_eq!(crowd.seat(&ann(), 1), ok, "the only one there may be");
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
