//! What may happen to a queue, drawn at random.
//!
//! A command does not know the queue it will meet: it names things by number, and the number is taken modulo how many
//! there are. So any command fits any queue, and a failing history stays one when commands are taken out of it.

use std::time::Duration;

use lastframe_core::{Limits, Status};
use proptest::prelude::*;
use proptest::sample::select;

/// In the order in which the queue first hears of them, which is not that of their names.
pub(crate) const TENANTS: [&str; 3] = ["cid", "ann", "bob"];
pub(crate) const GROUPS: [&str; 2] = ["g", "h"];
/// Faults that may pass, the second of which passes slowly, and one that does not.
pub(crate) const CODES: [&str; 3] = ["browser_crashed", "out_of_memory", "composition_not_found"];

/// Which one, of however many there are.
pub(crate) type Nth = usize;

#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Under the tenant's one idempotency key, with that body, or without it.
    Submit {
        tenant: &'static str,
        renders: Vec<Ask>,
        body: Option<u8>,
    },
    Claim,
    Extend {
        lease: Nth,
        checkpoint: Option<u8>,
    },
    Finish {
        lease: Nth,
        how: End,
    },
    Release {
        lease: Nth,
        throttled: Option<Duration>,
    },
    ComeLate {
        lease: Nth,
        how: Late,
    },
    Cancel {
        status: Status,
        render: Nth,
    },
    Retry {
        status: Status,
        render: Nth,
    },
    Redrive(Which),
    Pause(What),
    Resume(What),
    /// Of what is paused or held.
    ResumeOne(Nth),
    Limit {
        tenant: &'static str,
        limits: Limits,
    },
    Forget {
        status: Status,
        renders: Vec<Nth>,
    },
    /// Time passes, and the sweep notices or has yet to.
    Pass {
        time: Duration,
        swept: bool,
    },
    /// The wall clock is put forward or back.
    Jump {
        hours: i64,
    },
    /// The process dies, and the next one's monotonic clock starts anew.
    Restart,
}

/// A render asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) group: Option<&'static str>,
    pub(crate) priority: i32,
    /// `runAt`, from now.
    pub(crate) after: Option<Duration>,
    pub(crate) blocks: bool,
    pub(crate) max_attempts: u32,
    /// From a site that was removed.
    pub(crate) gone: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Succeeds,
    Fails { code: &'static str },
    Stops,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Late {
    Extends,
    Releases,
    Finishes,
}

#[derive(Clone, Debug)]
pub(crate) struct Which {
    /// Of the tenant of this one of those that have failed.
    pub(crate) failed: Nth,
    pub(crate) ids: Option<Vec<Nth>>,
    pub(crate) group: Option<&'static str>,
    pub(crate) code: Option<&'static str>,
    /// Between so long ago and so long ago.
    pub(crate) since: Option<Duration>,
    pub(crate) until: Option<Duration>,
    pub(crate) limit: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Group(&'static str, &'static str),
    Tenant(&'static str),
    Queue,
}

pub(crate) fn any() -> impl Strategy<Value = Command> {
    prop_oneof![
        24 => Just(Command::Claim),
        11 => submit(),
        24 => (nth(), end()).prop_map(|(lease, how)| Command::Finish { lease, how }),
        8 => (nth(), prop::option::of(0..3_u8)).prop_map(|(lease, checkpoint)| Command::Extend { lease, checkpoint }),
        4 => (nth(), prop::option::of(seconds(0..30)))
            .prop_map(|(lease, throttled)| Command::Release { lease, throttled }),
        4 => (nth(), select(vec![Late::Extends, Late::Releases, Late::Finishes]))
            .prop_map(|(lease, how)| Command::ComeLate { lease, how }),
        5 => (status(Status::Rendering), nth()).prop_map(|(status, render)| Command::Cancel { status, render }),
        4 => (status(Status::Failed), nth()).prop_map(|(status, render)| Command::Retry { status, render }),
        8 => which().prop_map(Command::Redrive),
        2 => what().prop_map(Command::Pause),
        1 => what().prop_map(Command::Resume),
        6 => nth().prop_map(Command::ResumeOne),
        3 => limit(),
        3 => (status(Status::Failed), prop::collection::vec(nth(), 1..=4))
            .prop_map(|(status, renders)| Command::Forget { status, renders }),
        14 => pass(),
        2 => select(vec![1, -1, 24, -24, 80]).prop_map(|hours| Command::Jump { hours }),
        2 => Just(Command::Restart),
    ]
}

/// Any, and that one more often than others.
fn status(mostly: Status) -> impl Strategy<Value = Status> {
    prop_oneof![3 => Just(mostly), 1 => select(Status::ALL)]
}

fn submit() -> impl Strategy<Value = Command> {
    let body = prop::option::weighted(0.4, prop_oneof![3 => Just(0), 1 => Just(1)]);
    (tenant(), prop::collection::vec(ask(), 1..=4), body)
        .prop_map(|(tenant, renders, body)| Command::Submit { tenant, renders, body })
}

fn ask() -> impl Strategy<Value = Ask> {
    let site_is_gone = prop::bool::weighted(0.02);
    let group = prop::option::weighted(0.5, group());
    let after = prop::option::weighted(0.05, seconds(0..60));
    (group, -1..=1, after, prop::bool::weighted(0.4), 1..=3_u32, site_is_gone).prop_map(
        |(group, priority, after, blocks, max_attempts, gone)| Ask {
            group,
            priority,
            after,
            blocks,
            max_attempts,
            gone,
        },
    )
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => Just(End::Succeeds),
        6 => select(&CODES[..]).prop_map(|code| End::Fails { code }),
        1 => Just(End::Stops),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    let ids = prop::option::weighted(0.2, prop::collection::vec(nth(), 0..=4));
    let (since, until) =
        (prop::option::weighted(0.1, seconds(0..60)), prop::option::weighted(0.1, seconds(0..60)));
    let limit = prop_oneof![Just(1), 0..=3_u32];
    let code = prop::option::weighted(0.15, select(&CODES[..]));
    (nth(), ids, prop::option::weighted(0.4, group()), code, since, until, limit).prop_map(
        |(failed, ids, group, code, since, until, limit)| Which {
            failed,
            ids,
            group,
            code,
            since,
            until,
            limit,
        },
    )
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        6 => (tenant(), group()).prop_map(|(tenant, group)| What::Group(tenant, group)),
        2 => tenant().prop_map(What::Tenant),
        1 => Just(What::Queue),
    ]
}

fn limit() -> impl Strategy<Value = Command> {
    let weight = prop::option::weighted(0.9, prop_oneof![1..=4_u32, Just(Limits::MAX_WEIGHT)]);
    let max_concurrency = prop_oneof![3 => Just(None), 2 => (0..=3_u32).prop_map(Some)];
    let max_queued = prop_oneof![3 => Just(None), 1 => (0..=8_u32).prop_map(Some)];
    (tenant(), weight, max_concurrency, max_queued).prop_map(
        |(tenant, weight, max_concurrency, max_queued)| {
            let limits = Limits { weight, max_concurrency, max_queued, ..Limits::default() };
            Command::Limit { tenant, limits }
        },
    )
}

fn pass() -> impl Strategy<Value = Command> {
    let time = prop_oneof![3 => 0..10_000_u64, 1 => 30_000..70_000_u64].prop_map(Duration::from_millis);
    (time, prop::bool::weighted(0.9)).prop_map(|(time, swept)| Command::Pass { time, swept })
}

fn nth() -> impl Strategy<Value = Nth> {
    0..12_usize
}

fn seconds(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

fn tenant() -> impl Strategy<Value = &'static str> {
    select(&TENANTS[..])
}

fn group() -> impl Strategy<Value = &'static str> {
    select(&GROUPS[..])
}
