//! A long random life of a queue, looked at from behind after every step.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use lastframe_core::ports::{ControlError, Queue as _};
use lastframe_core::render::{Blocked, Event};
use lastframe_core::{Clock as _, HandBack, Lease, Outcome, Progress, RenderId, Status};
use rusqlite::Connection;

use crate::world::{Asks as _, LEASE, LONG, World, is_lost, passing, permanent, render, succeeded};

const STEPS: usize = 2_000;
const TENANTS: [&str; 3] = ["ann", "bob", "cid"];
const GROUPS: [&str; 2] = ["g", "h"];
const EVENTS: [Event; 6] =
    [Event::Claim, Event::Requeue, Event::Succeed, Event::Fail, Event::Cancel, Event::Retry];

/// A group of a tenant.
type Line = (String, String);

/// A render as its row has it.
struct Row {
    seq: i64,
    id: RenderId,
    tenant: String,
    line: Option<Line>,
    status: Status,
    gate: Option<i64>,
    run_at: i64,
    priority: i32,
    holds: bool,
}

fn rows(sql: &Connection) -> Vec<Row> {
    let query =
        "SELECT seq, render.id, tenant.name, group_name, status, gate, run_at, priority, on_failure = 'block'
        FROM render JOIN tenant ON tenant.id = tenant_id ORDER BY seq";
    let mut query = sql.prepare_cached(query).unwrap();
    let rows = query.query_map([], |row| {
        let tenant: String = row.get(2)?;
        let group: Option<String> = row.get(3)?;
        Ok(Row {
            seq: row.get(0)?,
            id: row.get::<_, String>(1)?.parse().unwrap(),
            line: group.map(|group| (tenant.clone(), group)),
            tenant,
            status: row.get::<_, String>(4)?.parse().unwrap(),
            gate: row.get(5)?,
            run_at: row.get(6)?,
            priority: row.get(7)?,
            holds: row.get(8)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// What the schema keeps count of, by tenant.
fn counters(sql: &Connection) -> BTreeMap<String, [i64; 6]> {
    let query = "SELECT name, ready, queued, rendering, succeeded, failed, cancelled FROM tenant";
    let mut query = sql.prepare_cached(query).unwrap();
    let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<_> {
        Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?]))
    };
    query.query_map([], read).unwrap().map(Result::unwrap).collect()
}

/// The groups that exist, each with its head and who holds it.
fn lines(sql: &Connection) -> BTreeMap<Line, (Option<i64>, Option<i64>)> {
    let query = "SELECT tenant.name, render_group.name, head, held_by
        FROM render_group JOIN tenant ON tenant.id = tenant_id";
    let mut query = sql.prepare_cached(query).unwrap();
    let read = |row: &rusqlite::Row<'_>| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?)));
    query.query_map([], read).unwrap().map(Result::unwrap).collect()
}

struct Walk {
    world: World,
    sql: Connection,
    rng: fastrand::Rng,
    /// Leases that hold, each until a time on the monotonic clock.
    held: Vec<(Lease, Duration)>,
    /// Leases that are over.
    over: Vec<Lease>,
    /// The states after the step before.
    statuses: HashMap<RenderId, Status>,
    /// The renders that hold their groups.
    holders: BTreeMap<Line, RenderId>,
    retried: HashSet<RenderId>,
    /// The last render of each group that started for the first time.
    started: HashMap<Line, i64>,
    /// How often each thing was done.
    done: BTreeMap<&'static str, usize>,
}

impl Walk {
    async fn new(seed: u64) -> Self {
        let world = World::new().await;
        Self {
            sql: world.sql(),
            world,
            rng: fastrand::Rng::with_seed(seed),
            held: Vec::new(),
            over: Vec::new(),
            statuses: HashMap::new(),
            holders: BTreeMap::new(),
            retried: HashSet::new(),
            started: HashMap::new(),
            done: BTreeMap::new(),
        }
    }

    async fn step(&mut self) {
        let done = match self.rng.u32(0..100) {
            0..12 => self.submit().await,
            12..40 => self.claim().await,
            40..50 => self.extend().await,
            50..76 => self.finish().await,
            76..80 => self.release().await,
            80..84 => self.cancel().await,
            84..89 => self.retry().await,
            89..92 => self.come_late().await,
            92..99 => self.pass().await,
            _ => self.die().await,
        };
        *self.done.entry(done).or_default() += 1;
        self.check().await;
    }

    async fn submit(&mut self) -> &'static str {
        let rng = &mut self.rng;
        let tenant = TENANTS[rng.usize(..TENANTS.len())];
        let renders = (0..rng.usize(1..=3)).map(|_| {
            let mut asked = render("a").with_priority(rng.i32(-1..=1)).with_attempts(rng.u32(1..=3));
            if rng.u32(0..10) < 7 {
                asked = asked.in_group(GROUPS[rng.usize(..GROUPS.len())]);
            }
            if rng.u32(0..10) < 2 {
                asked = asked.not_before(self.world.now() + Duration::from_secs(rng.u64(0..60)));
            }
            if rng.u32(0..10) < 2 {
                asked = asked.holding_its_group();
            }
            asked
        });
        let renders = renders.collect();
        self.world.submit(&lastframe_core::TenantId::new(tenant), renders, None).await.unwrap();
        "submit"
    }

    async fn claim(&mut self) -> &'static str {
        let mut open: Vec<_> = rows(&self.sql).into_iter().filter(|row| row.gate == Some(0)).collect();
        let Some(lease) = self.world.take().await else {
            assert!(open.is_empty(), "{} open renders cannot be claimed", open.len());
            return "claim in vain";
        };
        open.retain(|row| row.tenant == lease.render.tenant.as_str());
        open.sort_by_key(|row| (-row.priority, row.seq));
        assert_eq!(lease.render.id, open[0].id, "not its tenant's next");
        if let Some(line) = &open[0].line
            && lease.render.leases == 1
            && !self.retried.contains(&lease.render.id)
        {
            let before = self.started.insert(line.clone(), lease.render.seq);
            assert!(before < Some(lease.render.seq), "{line:?} out of order");
        }
        let until = self.world.clock.monotonic() + LEASE;
        self.held.push((lease, until));
        "claim"
    }

    /// The index of a lease that holds.
    fn any_held(&mut self) -> Option<usize> {
        (!self.held.is_empty()).then(|| self.rng.usize(..self.held.len()))
    }

    async fn extend(&mut self) -> &'static str {
        let Some(index) = self.any_held() else { return "nothing" };
        let (lease, until) = &mut self.held[index];
        let asked = self.world.look(lease.render.id).await.cancel_requested_at.is_some();
        let extended = self.world.extend(lease.render.id, &lease.token, Progress::START, None).await.unwrap();
        assert_eq!(extended.cancel_requested, asked);
        *until = self.world.clock.monotonic() + LEASE;
        "extend"
    }

    async fn finish(&mut self) -> &'static str {
        let Some(index) = self.any_held() else { return "nothing" };
        let (lease, _) = self.held.swap_remove(index);
        let now = self.world.look(lease.render.id).await;
        let stopped = now.cancel_requested_at.is_some();
        let (outcome, expected, done) = match self.rng.u32(0..10) {
            0..4 => (succeeded(), Status::Succeeded, "succeed"),
            4 => (Outcome::Cancelled, Status::Cancelled, "stop"),
            _ if stopped => (passing(), Status::Cancelled, "fail instead of stopping"),
            5 => (permanent(), Status::Failed, "fail for good"),
            _ if now.attempt < now.max_attempts => (passing(), Status::Queued, "fail for now"),
            _ => (passing(), Status::Failed, "fail for the last time"),
        };
        assert_eq!(self.world.end(&lease, outcome).await, expected);
        self.over.push(lease);
        done
    }

    async fn release(&mut self) -> &'static str {
        let Some(index) = self.any_held() else { return "nothing" };
        let (lease, _) = self.held.swap_remove(index);
        let why = if self.rng.bool() {
            HandBack::Draining
        } else {
            HandBack::Throttled { until: self.world.now() + Duration::from_secs(self.rng.u64(0..30)) }
        };
        self.world.release(lease.render.id, &lease.token, why).await.unwrap();
        self.over.push(lease);
        "release"
    }

    fn any_in(&mut self, states: &[Status]) -> Option<RenderId> {
        let found: Vec<_> = rows(&self.sql).into_iter().filter(|row| states.contains(&row.status)).collect();
        (!found.is_empty()).then(|| found[self.rng.usize(..found.len())].id)
    }

    async fn cancel(&mut self) -> &'static str {
        let state = if self.rng.bool() { Status::Queued } else { Status::Rendering };
        let Some(id) = self.any_in(&[state]) else { return "nothing" };
        self.world.cancel(id).await.unwrap();
        "cancel"
    }

    async fn retry(&mut self) -> &'static str {
        // Rather one that holds its group, or the groups come to a standstill.
        let holder = self.holders.values().next().copied().filter(|_| self.rng.bool());
        let Some(id) = holder.or_else(|| self.any_in(&[Status::Failed, Status::Cancelled])) else {
            return "nothing";
        };
        self.world.retry(id).await.unwrap();
        self.retried.insert(id);
        "retry"
    }

    /// Somebody whose lease is over, or who names a render that is, is refused.
    async fn come_late(&mut self) -> &'static str {
        if let Some(id) = self.any_in(&[Status::Succeeded]) {
            assert!(matches!(self.world.cancel(id).await, Err(ControlError::Illegal(_))));
            assert!(matches!(self.world.retry(id).await, Err(ControlError::Illegal(_))));
        }
        let Some(lease) = self.rng.choice(&self.over) else { return "nothing" };
        let (id, token) = (lease.render.id, &lease.token);
        assert!(is_lost(self.world.extend(id, token, Progress::START, None).await));
        assert!(is_lost(self.world.release(id, token, HandBack::Draining).await));
        assert!(is_lost(self.world.finish(id, token, succeeded()).await));
        "come late"
    }

    async fn pass(&mut self) -> &'static str {
        self.world.pass(Duration::from_millis(self.rng.u64(0..10_000))).await;
        let now = self.world.clock.monotonic();
        let ended = self.held.extract_if(.., |(_, until)| *until <= now).map(|(lease, _)| lease);
        self.over.extend(ended);
        "pass"
    }

    async fn die(&mut self) -> &'static str {
        self.sql = Connection::open_in_memory().unwrap();
        self.world.reopen().await;
        self.sql = self.world.sql();
        self.over.extend(self.held.drain(..).map(|(lease, _)| lease));
        "die"
    }

    /// Everything that must be true of the queue at any time.
    async fn check(&mut self) {
        let rows = rows(&self.sql);
        self.follow(&rows);
        let mut counted: BTreeMap<String, [i64; 6]> = BTreeMap::new();
        for row in &rows {
            let counts = counted.entry(row.tenant.clone()).or_default();
            counts[0] += i64::from(row.gate == Some(0));
            counts[1 + Status::ALL.iter().position(|status| *status == row.status).unwrap()] += 1;
        }
        assert_eq!(counters(&self.sql), counted);

        let rendering: HashSet<_> =
            rows.iter().filter(|row| row.status == Status::Rendering).map(|row| row.id).collect();
        assert_eq!(rendering, self.held.iter().map(|(lease, _)| lease.render.id).collect());

        // The turn of each group: the rendering one's if there is one, else that of the first that is queued.
        let mut turns: BTreeMap<Line, &Row> = BTreeMap::new();
        for row in rows.iter().filter(|row| !row.status.is_terminal()) {
            let Some(line) = &row.line else { continue };
            let turn = turns.entry(line.clone()).or_insert(row);
            assert!(
                row.status != Status::Rendering || turn.seq == row.seq || turn.status != Status::Rendering,
                "two of {line:?} are being rendered"
            );
            if row.status == Status::Rendering {
                *turn = row;
            }
        }
        let seq_of = |id: &RenderId| rows.iter().find(|row| row.id == *id).map(|row| row.seq);
        let mut expected: BTreeMap<_, _> =
            turns.iter().map(|(line, turn)| (line.clone(), (Some(turn.seq), None))).collect();
        for (line, holder) in &self.holders {
            expected.entry(line.clone()).or_insert((None, None)).1 = seq_of(holder);
        }
        assert_eq!(lines(&self.sql), expected);

        let now = self.world.now().as_millisecond();
        for row in &rows {
            let turn = row.line.as_ref().and_then(|line| turns.get(line));
            let expected = match (row.status, turn) {
                (Status::Queued, Some(turn)) if turn.seq != row.seq => Some(2),
                (Status::Queued, Some(_)) if self.holders.contains_key(row.line.as_ref().unwrap()) => Some(4),
                (Status::Queued, _) => Some(i64::from(row.run_at > now)),
                _ => None,
            };
            assert_eq!(row.gate, expected, "the gate of {} {:?}, {}", row.seq, row.line, row.status);
        }
        self.check_position(&rows, &turns).await;
    }

    /// Of one queued render, so that all come to be looked at over time.
    async fn check_position(&mut self, rows: &[Row], turns: &BTreeMap<Line, &Row>) {
        let queued: Vec<_> = rows.iter().filter(|row| row.status == Status::Queued).collect();
        let Some(row) = self.rng.choice(&queued) else { return };
        let blocked_by = match row.gate {
            Some(1) => {
                Some(Blocked::Delayed { run_at: jiff::Timestamp::from_millisecond(row.run_at).unwrap() })
            }
            Some(2) => Some(Blocked::Group { render_id: turns[row.line.as_ref().unwrap()].id }),
            Some(4) => Some(Blocked::GroupHeld { render_id: self.holders[row.line.as_ref().unwrap()] }),
            _ => None,
        };
        let ahead = queued.iter().filter(|other| match &row.line {
            Some(_) => other.line == row.line && other.seq < row.seq,
            None => {
                let goes_first = (-other.priority, other.seq) < (-row.priority, row.seq);
                other.tenant == row.tenant && other.gate == Some(0) && goes_first
            }
        });
        let position = self.world.position(row.id).await.unwrap().unwrap();
        assert_eq!((position.position as usize, position.blocked_by), (ahead.count() + 1, blocked_by));
    }

    /// Notes what has changed since the step before, which must be something that may happen.
    fn follow(&mut self, rows: &[Row]) {
        for row in rows {
            let before = self.statuses.insert(row.id, row.status).unwrap_or(Status::Queued);
            if before == row.status {
                continue;
            }
            assert!(
                EVENTS.iter().any(|event| before.on(*event) == Ok(row.status)),
                "{before} has become {}",
                row.status
            );
            let Some(line) = &row.line else { continue };
            if row.status == Status::Failed && row.holds {
                self.holders.insert(line.clone(), row.id);
            } else if before == Status::Failed && self.holders.get(line) == Some(&row.id) {
                self.holders.remove(line);
            }
        }
    }

    /// Sees everything through that is left.
    async fn end(&mut self) {
        for _ in 0..10_000 {
            self.check().await;
            if let Some((lease, _)) = self.held.pop() {
                self.world.succeed(&lease).await;
            } else if self.claim().await == "claim" {
                continue;
            } else if let Some(id) = self.holders.values().next().copied() {
                self.world.retry(id).await.unwrap();
                self.retried.insert(id);
            } else if self.any_in(&[Status::Queued]).is_some() {
                self.world.pass(LONG).await;
            } else {
                break;
            }
        }
        assert!(
            rows(&self.sql).iter().all(|row| row.status.is_terminal()),
            "something never came to its end"
        );
        assert!(lines(&self.sql).is_empty(), "a group outlived its renders");
    }
}

#[tokio::test]
async fn whatever_happens_the_queue_stays_consistent_and_everything_comes_to_an_end() {
    let mut walk = Walk::new(2_026).await;
    for _ in 0..STEPS {
        walk.step().await;
    }
    walk.end().await;
    for (done, times) in &walk.done {
        assert!(*times >= 5, "{done} was done {times} times only: {:?}", walk.done);
    }
    assert_eq!(walk.done.len(), 17, "{:?}", walk.done);
}
