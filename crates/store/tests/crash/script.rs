//! Histories made up by hand: whatever a script says happened is what was said and what is stored.

use lastframe_core::{Attempt, Failure, Kind, LeaseToken, Output, Render, RenderId, Status, TenantId};

use crate::check::check;
use crate::history::{Answer, Call, End, Entry, Event, Key, Leased, REPORTED, SITE, Seen, VERSION, Wanted};
use crate::record::{Record, Stored};
use crate::tally::Tally;

const TENANT: &str = "ann";

/// It knows no rules, so it can say what no store would do.
pub(crate) struct Script {
    pub(crate) history: Vec<Entry>,
    pub(crate) record: Record,
    now: i64,
    calls: u32,
    rng: fastrand::Rng,
}

pub(crate) fn wanted(name: &str) -> Wanted {
    Wanted {
        name: name.into(),
        group: None,
        priority: 0,
        run_at: None,
        max_attempts: 3,
        holds: false,
        size: 0,
    }
}

/// In the group that all these tests are about.
pub(crate) fn grouped(name: &str) -> Wanted {
    Wanted { group: Some("g".into()), ..wanted(name) }
}

pub(crate) fn key(body: u8) -> Option<Key> {
    Some(Key { name: "k".into(), body })
}

impl Script {
    pub(crate) fn new() -> Self {
        Self {
            history: Vec::new(),
            record: Record::new(),
            now: 1_000_000,
            calls: 0,
            rng: fastrand::Rng::with_seed(1),
        }
    }

    pub(crate) fn check(&self) -> Result<Tally, String> {
        check(&self.history, &self.record)
    }

    /// The checker finds nothing wrong.
    #[track_caller]
    pub(crate) fn is_explained(&self) {
        self.check().unwrap();
    }

    /// The checker finds fault, and this is what it says.
    #[track_caller]
    pub(crate) fn is_rejected(&self, because: &str) {
        let error = self.check().unwrap_err();
        assert!(error.contains(because), "{error}");
    }

    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    fn tell(&mut self, event: Event) {
        self.history.push(Entry { at: self.now, event });
    }

    pub(crate) fn ask(&mut self, call: Call) -> u32 {
        self.calls += 1;
        self.tell(Event::Asked(self.calls, call));
        self.calls
    }

    pub(crate) fn answer(&mut self, number: u32, answer: Answer) {
        self.tell(Event::Answered(number, answer));
    }

    pub(crate) fn say(&mut self, call: Call, answer: Answer) {
        let number = self.ask(call);
        self.answer(number, answer);
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        let number = self.ask(Call::Pass { millis });
        self.now += i64::try_from(millis).unwrap();
        self.answer(number, Answer::Passed);
    }

    /// The process dies. What becomes of its leases is for the script to say.
    pub(crate) fn die(&mut self) {
        self.tell(Event::Died);
    }

    pub(crate) fn stored(&mut self, name: &str) -> &mut Stored {
        self.record.iter_mut().find(|stored| stored.render.composition == name).unwrap()
    }

    pub(crate) fn id(&mut self, name: &str) -> RenderId {
        self.stored(name).render.id
    }

    fn seen(&mut self, name: &str) -> Seen {
        let render = &self.stored(name).render;
        Seen {
            id: render.id,
            seq: render.seq,
            status: render.status,
            attempt: render.attempt,
            leases: render.leases,
        }
    }

    /// Puts a render into the store that nobody was told of.
    pub(crate) fn store(&mut self, wanted: &Wanted) {
        let at = jiff::Timestamp::from_millisecond(self.now).unwrap();
        let render = Render {
            id: RenderId::generate(at, &mut self.rng),
            seq: 1 + i64::try_from(self.record.len()).unwrap(),
            tenant: TenantId::new(TENANT),
            group: wanted.group.clone(),
            kind: Kind::Media,
            site: SITE.into(),
            site_version: VERSION.into(),
            composition: wanted.name.clone(),
            status: Status::Queued,
            priority: wanted.priority,
            run_at: at,
            attempt: 0,
            max_attempts: wanted.max_attempts,
            leases: 0,
            created_at: at,
            started_at: None,
            attempt_started_at: None,
            finished_at: None,
            cancel_requested_at: None,
            progress: None,
            error: None,
            output: None,
        };
        self.record.push(Stored { render, request: wanted.request(), attempts: Vec::new() });
    }

    pub(crate) fn submit(&self, key: Option<Key>, renders: &[Wanted]) -> Call {
        Call::Submit { tenant: TENANT.into(), key, renders: renders.to_vec() }
    }

    pub(crate) fn accept(&mut self, renders: &[Wanted]) {
        renders.iter().for_each(|wanted| self.store(wanted));
        self.accepted(None, renders, false);
    }

    /// Says that they are accepted, and stores nothing.
    pub(crate) fn accepted(&mut self, key: Option<Key>, renders: &[Wanted], replayed: bool) {
        let seen = renders.iter().map(|wanted| self.seen(&wanted.name)).collect();
        self.say(self.submit(key, renders), Answer::Submitted { renders: seen, replayed });
    }

    /// Stores a lease that nobody was told of, and returns its worker.
    pub(crate) fn lease(&mut self, name: &str) -> String {
        let started_at = jiff::Timestamp::from_millisecond(self.now).unwrap();
        let Stored { render, attempts, .. } = self.stored(name);
        render.status = Status::Rendering;
        render.attempt += 1;
        render.leases += 1;
        let worker = format!("{name}{}", render.leases);
        attempts.push(Attempt {
            number: render.leases,
            worker: worker.clone(),
            started_at,
            ended_at: None,
            outcome: None,
            error: None,
        });
        worker
    }

    pub(crate) fn claim(&mut self, name: &str) -> LeaseToken {
        let token = LeaseToken(format!("{name}{}", self.stored(name).render.leases + 1));
        self.claim_under(name, token.clone());
        token
    }

    pub(crate) fn claim_under(&mut self, name: &str, token: LeaseToken) {
        let worker = self.lease(name);
        let render = self.seen(name);
        self.say(Call::Claim { worker }, Answer::Claimed(Some(Leased { render, token })));
    }

    /// Notes how the last lease ended and what that left.
    pub(crate) fn ended(&mut self, name: &str, outcome: &str, status: Status) {
        let Stored { render, attempts, .. } = self.stored(name);
        render.status = status;
        let attempt = attempts.last_mut().unwrap();
        attempt.outcome = Some(outcome.into());
        if outcome == "failed" {
            attempt.error = Some(Failure::new(REPORTED, attempt.worker.clone(), true));
        }
        if status == Status::Succeeded {
            render.output = Some(Output {
                key: attempt.worker.clone(),
                size_in_bytes: 1,
                sha256: String::new(),
                content_type: "video/mp4".into(),
                frame_count: None,
                width: None,
                height: None,
                duration_in_seconds: None,
                cost_in_usd: None,
                deletion: None,
            });
        }
    }

    /// The lease ended with its process, or its time.
    pub(crate) fn lost(&mut self, name: &str) {
        self.ended(name, "lost", Status::Queued);
        self.stored(name).render.attempt -= 1;
    }

    pub(crate) fn finishing(&mut self, name: &str, token: &LeaseToken, end: End) -> Call {
        Call::Finish { render: self.id(name), token: token.clone(), end }
    }

    /// Says that it is finished, and stores nothing.
    pub(crate) fn finished(&mut self, name: &str, token: &LeaseToken, end: End, status: Status) {
        let call = self.finishing(name, token, end);
        self.say(call, Answer::Finished(status));
    }

    pub(crate) fn succeed(&mut self, name: &str, token: &LeaseToken) {
        self.ended(name, "succeeded", Status::Succeeded);
        self.finished(name, token, End::Succeeded, Status::Succeeded);
    }

    pub(crate) fn fail_for_good(&mut self, name: &str, token: &LeaseToken) {
        self.ended(name, "failed", Status::Failed);
        self.finished(name, token, End::FailedForGood, Status::Failed);
    }

    pub(crate) fn fail_for_now(&mut self, name: &str, token: &LeaseToken) {
        self.ended(name, "failed", Status::Queued);
        self.finished(name, token, End::FailedForNow, Status::Queued);
    }

    pub(crate) fn release(&mut self, name: &str, token: &LeaseToken) {
        self.ended(name, "handed_back", Status::Queued);
        self.stored(name).render.attempt -= 1;
        let render = self.id(name);
        self.say(Call::Release { render, token: token.clone(), until: None }, Answer::Released);
    }

    /// Says what became of the render, which is what is stored.
    pub(crate) fn cancelled(&mut self, name: &str) {
        let seen = self.seen(name);
        self.say(Call::Cancel { render: seen.id }, Answer::Changed(seen));
    }

    pub(crate) fn cancel_queued(&mut self, name: &str) {
        self.stored(name).render.status = Status::Cancelled;
        self.cancelled(name);
    }

    pub(crate) fn retry(&mut self, name: &str) {
        let render = &mut self.stored(name).render;
        (render.status, render.attempt) = (Status::Queued, 0);
        let seen = self.seen(name);
        self.say(Call::Retry { render: seen.id }, Answer::Changed(seen));
    }
}
