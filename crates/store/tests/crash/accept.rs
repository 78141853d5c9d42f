//! Whether what was accepted is there: whole, once, as it was asked for and in order.

use std::collections::{BTreeMap, HashMap};

use crate::check::{Calls, Issued};
use crate::history::{Answer, Call, Key, Wanted};
use crate::model::Facts;
use crate::record::{Record, Stored};

/// Every acknowledged submit is there, whole and once; every other one whole or not at all.
///
/// # Errors
/// What is not.
pub(crate) fn accepted<'a>(calls: &Calls<'a>, record: &'a Record) -> Result<Facts<'a>, String> {
    let mut by_name: HashMap<(&str, &str), &Stored> = HashMap::new();
    for stored in record {
        let name = (stored.render.tenant.as_str(), stored.render.composition.as_str());
        if by_name.insert(name, stored).is_some() {
            return Err(format!("{name:?} is there twice"));
        }
    }
    let mut facts = Facts {
        stored: record.iter().map(|stored| (stored.render.id, stored)).collect(),
        wanted: HashMap::new(),
        accepted: BTreeMap::new(),
    };
    let mut bodies: HashMap<(&str, &str), &Key> = HashMap::new();
    for (number, issued) in calls {
        let Call::Submit { tenant, key, renders } = issued.call else { continue };
        let named = renders.iter().filter_map(|wanted| by_name.get(&(tenant.as_str(), wanted.name.as_str())));
        let found: Vec<&Stored> = named.copied().collect();
        whole(issued, renders, &found)?;
        if found.is_empty() {
            continue;
        }
        if let Some(key) = key
            && let Some(other) = bodies.insert((tenant, &key.name), key)
            && other != key
        {
            return Err(format!("{key:?} stands for two bodies"));
        }
        facts.accepted.insert(*number, found.iter().map(|stored| stored.render.id).collect());
        facts.wanted.extend(found.iter().map(|stored| stored.render.id).zip(renders));
    }
    for issued in calls.values() {
        if let (Call::Submit { tenant, key: Some(key), .. }, Some((_, Answer::KeyReused))) =
            (issued.call, issued.answer)
            && bodies.get(&(tenant.as_str(), key.name.as_str())).is_none_or(|body| *body == key)
        {
            return Err(format!("{key:?} of {tenant} was refused, and had no other body"));
        }
    }
    if let Some(stored) = record.iter().find(|stored| !facts.wanted.contains_key(&stored.render.id)) {
        return Err(format!("nobody asked for {:?}", stored.render));
    }
    in_order(calls)?;
    Ok(facts)
}

/// All of a batch, or nothing of one that was not acknowledged.
fn whole(issued: &Issued<'_>, renders: &[Wanted], found: &[&Stored]) -> Result<(), String> {
    let told = match issued.answer {
        Some((_, Answer::Submitted { renders, .. })) => Some(renders),
        _ => None,
    };
    match told {
        Some(told) if found.len() < renders.len() => {
            return Err(format!("acknowledged and lost: {told:?} as {:?}", issued.call));
        }
        Some(told) if !told.iter().map(|seen| seen.id).eq(found.iter().map(|stored| stored.render.id)) => {
            return Err(format!("not what {told:?} was said to be: {:?}", issued.call));
        }
        _ if !found.is_empty() && found.len() < renders.len() => {
            return Err(format!("{} of {} are there of {:?}", found.len(), renders.len(), issued.call));
        }
        _ => {}
    }
    if !found.is_sorted_by_key(|stored| stored.render.seq) {
        return Err(format!("out of order within {:?}", issued.call));
    }
    found.iter().zip(renders).try_for_each(|(stored, wanted)| same(wanted, stored))
}

fn same(wanted: &Wanted, stored: &Stored) -> Result<(), String> {
    let Stored { render, request, attempts } = stored;
    let numbered = attempts.iter().map(|attempt| attempt.number).eq(1..=render.leases);
    let as_wanted = *request == wanted.request()
        && render.group == wanted.group
        && render.priority == wanted.priority
        && render.max_attempts == wanted.max_attempts;
    if as_wanted && numbered { Ok(()) } else { Err(format!("{stored:?} is not as wanted: {wanted:?}")) }
}

/// What was acknowledged before another was asked for has the earlier place.
fn in_order(calls: &Calls<'_>) -> Result<(), String> {
    let mut asked = Vec::new();
    let mut answered = Vec::new();
    for issued in calls.values() {
        if let Some((place, Answer::Submitted { renders, replayed: false })) = issued.answer {
            asked.extend(renders.first().map(|render| (issued.asked, render.seq)));
            answered.extend(renders.last().map(|render| (place, render.seq)));
        }
    }
    asked.sort_unstable();
    answered.sort_unstable();
    let mut answered = answered.into_iter().peekable();
    let mut last = 0;
    for (asked, seq) in asked {
        while let Some((_, before)) = answered.next_if(|(answered, _)| *answered < asked) {
            last = last.max(before);
        }
        if seq < last {
            return Err(format!("{seq} was asked for after {last} was acknowledged"));
        }
    }
    Ok(())
}
