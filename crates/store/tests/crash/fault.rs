//! Writes and syncs begin to fail under a store at work, and after a while they do not any more.

use std::collections::HashMap;

use crate::disk::Lie;
use crate::history::{Answer, Call, Entry, Event};
use crate::power::Moment;
use crate::seed;

const BEGINS: usize = 300;
const ENDS: usize = 700;
const ENTRIES: usize = 1_100;
/// Moments at which the power fails on top of it.
const MOMENTS: usize = 6;

/// Rules of `disk.c`, each with what callers are told.
pub(crate) const RULES: [(&str, &str); 4] = [FULL, NO_WRITE, NO_SYNC, READ_ONLY];
const FULL: (&str, &str) = ("w 28", "database or disk is full");
const NO_WRITE: (&str, &str) = ("w 5", "disk I/O error");
const NO_SYNC: (&str, &str) = ("s 5", "disk I/O error");
const READ_ONLY: (&str, &str) = ("a 30", "disk I/O error");

/// What was answered to calls asked while the rule held, and answered while it did; and to those asked after it.
struct Answers<'a> {
    during: Vec<(&'a Call, &'a Answer)>,
    after: Vec<(&'a Call, &'a Answer)>,
}

fn answers(history: &[Entry]) -> Answers<'_> {
    let mut answers = Answers { during: Vec::new(), after: Vec::new() };
    let (mut asked, mut ruled) = (HashMap::new(), 0);
    for entry in history {
        match &entry.event {
            Event::Asked(number, call) => drop(asked.insert(number, (ruled, call))),
            Event::Answered(number, answer) => match (asked[number], ruled) {
                ((1, call), 1) => answers.during.push((call, answer)),
                ((2, call), 2) => answers.after.push((call, answer)),
                _ => {}
            },
            Event::Ruled(_) => ruled += 1,
            Event::Died => {}
        }
    }
    answers
}

/// A store at work, on a disk that keeps the rule for a while.
pub(crate) async fn lives_through((rule, cause): (&str, &str), seed: u64) {
    let first = Moment::first(seed);
    let lived = first.live(ENTRIES, &[(BEGINS, rule), (ENDS, "")]);
    let (lives, folder) = lived.killed();
    let Answers { during, after } = answers(&lives.history);
    let submits = during.iter().filter(|(call, _)| matches!(call, Call::Submit { .. }));
    let refused = submits.filter(|(_, answer)| match answer {
        Answer::Failed(why) => why.contains(cause),
        _ => false,
    });
    assert!(refused.count() > 0, "SOAK_SEED={seed}: no submit was refused");
    let committed = during.iter().find(|(_, answer)| answer.proves_a_write());
    assert!(committed.is_none(), "SOAK_SEED={seed}: {committed:?}");
    let failed = after.iter().find(|(_, answer)| matches!(answer, Answer::Failed(_)));
    assert!(failed.is_none(), "SOAK_SEED={seed}: {failed:?} after it was over");
    assert!(after.iter().any(|(_, answer)| answer.proves_a_write()), "SOAK_SEED={seed}");
    lives.check(&folder).await.unwrap_or_else(|error| panic!("SOAK_SEED={seed}: {error}"));
    for moment in lived.moments(seed, MOMENTS, Lie::None) {
        moment.check().await.unwrap_or_else(|error| panic!("SOAK_SEED={seed}, {error}"));
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    lives_through(FULL, seed()).await;
}

#[tokio::test]
async fn a_disk_that_cannot_write_refuses_and_loses_nothing() {
    lives_through(NO_WRITE, seed()).await;
}

#[tokio::test]
async fn a_disk_that_cannot_sync_refuses_and_loses_nothing() {
    lives_through(NO_SYNC, seed()).await;
}

#[tokio::test]
async fn a_disk_that_is_read_only_refuses_and_loses_nothing() {
    lives_through(READ_ONLY, seed()).await;
}
