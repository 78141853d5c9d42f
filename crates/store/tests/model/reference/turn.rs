//! Whose turn it is among tenants, and whether that is fair.
//!
//! Each tenant has a virtual time: what it has been served, divided by its weight. Of those that can be served, the one
//! with the lowest goes next, on a tie the one that was heard of first. A tenant that could not be served is not owed
//! that time: when it can be again, it starts no lower than where the tenant served last was.

use proptest::prelude::*;

/// What one claim adds to the virtual time of a tenant of weight 1.
const SERVICE: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Turns {
    /// The virtual time of the tenant served last, before it was.
    reached: u64,
    tenants: Vec<Standing>,
    races: Vec<Race>,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    vtime: u64,
    can_be_served: bool,
    weight: u32,
    /// What its last claim added, as a part of [`SERVICE`].
    last: f64,
}

/// Two tenants that can both be served, since they can, and while their weights stay as they are.
#[derive(Debug)]
struct Race {
    tenants: [usize; 2],
    claims: [u32; 2],
    /// How far they may have been apart when it began, and may be now: see [`Turns::are_fair`].
    slack: [f64; 2],
}

impl Turns {
    pub(crate) fn new(tenants: usize) -> Self {
        Self { reached: 0, tenants: vec![Standing::default(); tenants], races: Vec::new() }
    }

    pub(crate) fn next(&self, can_be_served: impl Iterator<Item = usize>) -> Option<usize> {
        can_be_served.min_by_key(|tenant| self.tenants[*tenant].vtime)
    }

    pub(crate) fn served(&mut self, tenant: usize, weight: u32) {
        let standing = &mut self.tenants[tenant];
        self.reached = self.reached.max(standing.vtime);
        standing.vtime += SERVICE / u64::from(weight);
        standing.last = 1.0 / f64::from(weight);
        for race in &mut self.races {
            if let Some(side) = race.tenants.iter().position(|racer| *racer == tenant) {
                race.claims[side] += 1;
            }
        }
    }

    /// Takes in who can be served after a command, each with its weight.
    pub(crate) fn settle(&mut self, now: &[(bool, u32)]) {
        let goes_on = |tenant: usize| {
            let before = &self.tenants[tenant];
            now[tenant] == (true, before.weight) && before.can_be_served
        };
        self.races.retain(|race| race.tenants.into_iter().all(goes_on));
        for (standing, (can_be_served, weight)) in self.tenants.iter_mut().zip(now) {
            if *can_be_served && !standing.can_be_served {
                standing.vtime = standing.vtime.max(self.reached);
            }
            standing.can_be_served = *can_be_served;
            standing.weight = *weight;
        }
        for one in 0..now.len() {
            for other in one + 1..now.len() {
                let tenants = [one, other];
                let is_on = self.races.iter().any(|race| race.tenants == tenants);
                if !is_on && tenants.iter().all(|tenant| now[*tenant].0) {
                    let slack = tenants.map(|tenant| {
                        let standing = &self.tenants[tenant];
                        standing.last.max(1.0 / f64::from(standing.weight))
                    });
                    self.races.push(Race { tenants, claims: [0, 0], slack });
                }
            }
        }
    }

    /// While two tenants can both be served, what each has been served for its weight differs by no more than one claim
    /// of each: `|n/w - m/v| <= 1/w + 1/v`.
    ///
    /// For the virtual time of each is at least that of the tenant served last, and at most one claim above it. So they
    /// are at most one claim of the one or the other apart, when the race begins and whenever one looks. A claim made
    /// under an earlier weight counts by that one until the next. Says how many claims the longest race had.
    pub(crate) fn are_fair(&self) -> Result<u32, TestCaseError> {
        for race in &self.races {
            let weighed = |side: usize| {
                f64::from(race.claims[side]) / f64::from(self.tenants[race.tenants[side]].weight)
            };
            let apart = (weighed(0) - weighed(1)).abs();
            // Virtual time is in whole millionths.
            let most = race.slack[0] + race.slack[1] + 0.001;
            prop_assert!(apart <= most, "{race:?} are {apart} apart, which may be {most}");
        }
        Ok(self.races.iter().map(|race| race.claims[0] + race.claims[1]).max().unwrap_or(0))
    }
}
