//! The search for one order of the calls on a line that explains every answer, by the rules in `model`.
//!
//! A call was done at some moment between its question and its answer; one that was never answered, at some moment
//! before the process died, or never. All ways are followed at once, and forgotten where an answer contradicts them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lastframe_core::RenderId;

use crate::check::Calls;
use crate::history::{Answer, Call, Entry, Event};
use crate::model::{Facts, Line, Op};

/// A tenant and its group, or its render that has none.
type Name = (String, String);

/// The calls that concern each line.
///
/// # Errors
/// When one names a render that is not there.
pub(crate) fn lines<'a>(
    calls: &Calls<'a>,
    facts: &Facts<'_>,
) -> Result<BTreeMap<Name, BTreeMap<u32, Op<'a>>>, String> {
    let line_of = |id: RenderId| -> Result<Name, String> {
        let stored = facts.stored.get(&id).ok_or(format!("{id} was there and is lost"))?;
        let own = format!("no group: {id}");
        Ok((stored.render.tenant.to_string(), stored.render.group.clone().unwrap_or(own)))
    };
    let mut leased = HashMap::new();
    for (id, stored) in &facts.stored {
        leased.extend(stored.attempts.iter().map(|attempt| (attempt.worker.as_str(), *id)));
    }
    let mut claims = HashMap::new();
    let mut lines: BTreeMap<Name, BTreeMap<u32, Op<'a>>> = BTreeMap::new();
    for (number, issued) in calls {
        let answer = issued.answer.map(|(_, answer)| answer);
        let mut lease = None;
        let renders = match issued.call {
            Call::Submit { .. } if answer == Some(&Answer::KeyReused) => continue,
            Call::Submit { .. } => facts.accepted.get(number).cloned().unwrap_or_default(),
            Call::Claim { worker } => match answer {
                Some(Answer::Claimed(Some(leased))) => {
                    claims.insert((leased.render.id, &leased.token), *number);
                    vec![leased.render.id]
                }
                _ => leased.get(worker.as_str()).copied().into_iter().collect(),
            },
            Call::Extend { render, token }
            | Call::Release { render, token, .. }
            | Call::Finish { render, token, .. } => {
                lease = claims.get(&(*render, token)).copied();
                vec![*render]
            }
            Call::Cancel { render } | Call::Retry { render } => vec![*render],
            Call::Pass { .. } => continue,
        };
        for id in renders {
            let op = lines.entry(line_of(id)?).or_default().entry(*number).or_insert_with(|| Op {
                number: *number,
                asked_at: issued.asked_at,
                call: issued.call,
                answer: answer.filter(|_| !issued.doubtful),
                renders: Vec::new(),
                lease,
            });
            op.renders.push(id);
        }
    }
    Ok(lines)
}

/// A way that things may have gone so far: the line, and the open calls that are done already.
type Way = (Line, BTreeSet<u32>);

/// Follows all ways that a line's history may have gone.
///
/// # Errors
/// When no way leads through every answer to the record.
pub(crate) fn explain(
    history: &[Entry],
    calls: &Calls<'_>,
    ops: &BTreeMap<u32, Op<'_>>,
    facts: &Facts<'_>,
) -> Result<(), String> {
    let mut ways = HashSet::from([(Line::default(), BTreeSet::new())]);
    let mut open: BTreeMap<u32, &Op<'_>> = BTreeMap::new();
    let mut doubtful = Vec::new();
    for (place, entry) in history.iter().enumerate() {
        match &entry.event {
            Event::Asked(number, _) => {
                let Some(op) = ops.get(number) else { continue };
                let issued = &calls[number];
                match issued.answer {
                    Some((_, Answer::Failed(_))) if issued.doubtful => doubtful.push(op),
                    // The storage failed, and what was committed since proves that nothing came of it.
                    Some((_, Answer::Failed(_))) => {}
                    _ => drop(open.insert(*number, op)),
                }
            }
            Event::Answered(number, answer) => {
                if !open.contains_key(number) {
                    continue;
                }
                let next = explore(&ways, &open, Some(*number), entry.at, facts);
                if next.is_empty() {
                    let before: Vec<_> = ways.iter().take(3).map(|(line, _)| line).collect();
                    return Err(format!(
                        "nothing explains {answer:?} (entry {place}) to {:?}; it may have been {before:#?}",
                        open[number]
                    ));
                }
                open.remove(number);
                ways = next;
            }
            Event::Died => {
                for op in doubtful.drain(..) {
                    open.insert(op.number, op);
                }
                let dead = explore(&ways, &open, None, entry.at, facts);
                ways = dead
                    .into_iter()
                    .filter_map(|(line, _)| Some((line.after_death(facts)?, BTreeSet::new())))
                    .collect();
                open.clear();
                if ways.is_empty() {
                    return Err(format!("nothing explains what was found after the death at entry {place}"));
                }
            }
            Event::Ruled(_) => {}
        }
    }
    let told = |line: &Line| {
        line.renders.iter().all(|(id, state)| {
            let render = &facts.stored[id].render;
            (render.seq, render.status, render.attempt, render.leases)
                == (state.seq, state.status, state.attempt, state.leases)
        })
    };
    let ids: BTreeSet<_> = ops.values().flat_map(|op| &op.renders).collect();
    if ways.iter().any(|(line, _)| line.renders.len() == ids.len() && told(line)) {
        return Ok(());
    }
    let stored: Vec<_> = ids.iter().map(|id| &facts.stored[*id].render).collect();
    let ways: Vec<_> = ways.iter().take(3).map(|(line, _)| line).collect();
    Err(format!("nothing leads to {stored:#?}; it should be {ways:#?}"))
}

/// All ways on from `ways` on which the call `until` is done; without one, all ways on.
fn explore(
    ways: &HashSet<Way>,
    open: &BTreeMap<u32, &Op<'_>>,
    until: Option<u32>,
    now: i64,
    facts: &Facts<'_>,
) -> HashSet<Way> {
    let mut seen = ways.clone();
    let mut next: Vec<Way> = ways.iter().cloned().collect();
    let mut found = HashSet::new();
    while let Some((line, done)) = next.pop() {
        if let Some(number) = until
            && done.contains(&number)
        {
            let mut done = done;
            done.remove(&number);
            found.insert((line, done));
            continue;
        }
        let ops = open.values().filter(|op| !done.contains(&op.number));
        let called = ops.filter_map(|op| {
            let mut done = done.clone();
            done.insert(op.number);
            Some((line.after(op, now, facts)?, done))
        });
        let expired = line.after_expiry(now, facts).map(|line| (line, done.clone()));
        for way in called.chain(expired) {
            if seen.insert(way.clone()) {
                next.push(way);
            }
        }
        if until.is_none() {
            found.insert((line, done));
        }
    }
    found
}
