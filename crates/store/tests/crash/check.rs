//! Whether a history and what the store holds after it can both be true.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::accept::accepted;
use crate::history::{Answer, Call, Entry, Event, REPORTED};
use crate::order::{explain, lines};
use crate::record::{Record, Stored};
use crate::tally::Tally;

/// What was asked, and what came of it.
pub(crate) struct Issued<'a> {
    /// The place of the question in the history.
    pub(crate) asked: usize,
    pub(crate) asked_at: i64,
    pub(crate) call: &'a Call,
    /// And the place of the answer.
    pub(crate) answer: Option<(usize, &'a Answer)>,
    /// The storage failed, and nothing was committed between that and the death of the process: what was written may
    /// be found by the next one.
    pub(crate) doubtful: bool,
}

/// By number.
pub(crate) type Calls<'a> = BTreeMap<u32, Issued<'a>>;

/// Looks for one order of all calls that explains all answers and the record.
///
/// # Errors
/// What cannot be explained.
pub(crate) fn check(history: &[Entry], record: &Record) -> Result<Tally, String> {
    let calls = collect(history)?;
    let facts = accepted(&calls, record)?;
    leases(&calls, record)?;
    for (line, ops) in lines(&calls, &facts)? {
        explain(history, &calls, &ops, &facts).map_err(|error| format!("in {line:?}: {error}"))?;
    }
    Ok(Tally::new(history, record))
}

fn collect(history: &[Entry]) -> Result<Calls<'_>, String> {
    let mut calls = Calls::new();
    let mut failed = Vec::new();
    for (place, entry) in history.iter().enumerate() {
        match &entry.event {
            Event::Asked(number, call) => {
                let issued = Issued { asked: place, asked_at: entry.at, call, answer: None, doubtful: false };
                if calls.insert(*number, issued).is_some() {
                    return Err(format!("call {number} was asked twice"));
                }
            }
            Event::Answered(number, answer) => {
                let issued = calls.get_mut(number).ok_or(format!("call {number} was never asked"))?;
                issued.answer = Some((place, answer));
                if matches!(answer, Answer::Failed(_)) {
                    failed.push((*number, place));
                } else if answer.proves_a_write() {
                    // What was written before the failure has been written over.
                    failed.retain(|(_, failed)| *failed > issued.asked);
                }
            }
            Event::Died => {
                for (number, _) in failed.drain(..) {
                    calls.get_mut(&number).unwrap().doubtful = true;
                }
            }
            Event::Ruled(_) => {}
        }
    }
    Ok(calls)
}

/// Every lease that is remembered came of one claim, and was ended by its own holder, if by anybody.
fn leases(calls: &Calls<'_>, record: &Record) -> Result<(), String> {
    let mut given = HashSet::new();
    let mut tokens = HashMap::new();
    for issued in calls.values() {
        let Call::Claim { worker } = issued.call else { continue };
        let token = match issued.answer {
            Some((_, Answer::Claimed(Some(leased)))) => Some(&leased.token),
            _ => None,
        };
        if token.is_some_and(|token| !given.insert(token)) {
            return Err(format!("{token:?} was given twice"));
        }
        tokens.insert(worker.as_str(), token.map(|token| token.0.as_str()));
    }
    for Stored { render, attempts, .. } in record {
        let mut last = None;
        for attempt in attempts {
            let Some(token) = tokens.remove(attempt.worker.as_str()) else {
                return Err(format!("{attempt:?} came of no claim, or of one that has another lease"));
            };
            let reported = attempt.error.as_ref().filter(|error| error.code == REPORTED);
            if reported.is_some_and(|error| Some(error.message.as_str()) != token) {
                return Err(format!("{attempt:?} has the error of another"));
            }
            last = token;
        }
        if render.output.as_ref().is_some_and(|output| Some(output.key.as_str()) != last) {
            return Err(format!("not the output of its last attempt: {render:?}"));
        }
    }
    Ok(())
}
