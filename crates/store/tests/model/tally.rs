//! What has come about in all histories together. A test of a queue in which nothing happens proves nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;

use lastframe_core::Blocked;

#[derive(Debug, Default)]
pub(crate) struct Tally(RefCell<BTreeMap<&'static str, u32>>);

/// All that must come about.
const ALL: [&str; 46] = [
    "cancel",
    "cancel in vain",
    "claim",
    "claim in vain",
    "claim with a checkpoint",
    "come late",
    "come late to a render that is leased again",
    "extend",
    "extend and be told to stop",
    "fail for good",
    "fail for now",
    "fail for the last time",
    "fail instead of stopping",
    "find its group held",
    "find its group paused",
    "find its tenant at its limit",
    "find its tenant paused",
    "find its time has not come",
    "find the queue paused",
    "forget",
    "forget a key",
    "forget one that holds its group in vain",
    "hand back",
    "hand back until later",
    "jump",
    "limit",
    "lose a lease",
    "lose a lease instead of stopping",
    "owe",
    "redrive",
    "redrive some",
    "restart while backing off",
    "restart while rendering",
    "resume a group",
    "resume a group that is held",
    "retry",
    "retry in vain",
    "six claims while two tenants wait",
    "stand behind another of its group",
    "stop",
    "submit",
    "submit again",
    "submit for a removed site",
    "submit more than may wait",
    "submit under a used key",
    "succeed",
];

impl Tally {
    pub(crate) fn note(&self, what: &'static str) {
        *self.0.borrow_mut().entry(what).or_default() += 1;
    }

    pub(crate) fn note_if(&self, come_about: bool, what: &'static str) {
        if come_about {
            self.note(what);
        }
    }

    pub(crate) fn note_blocked(&self, blocked_by: Option<&Blocked>) {
        let Some(blocked_by) = blocked_by else { return };
        self.note(match blocked_by {
            Blocked::Delayed { .. } => "find its time has not come",
            Blocked::Group { .. } => "stand behind another of its group",
            Blocked::GroupPaused => "find its group paused",
            Blocked::GroupHeld { .. } => "find its group held",
            Blocked::TenantPaused => "find its tenant paused",
            Blocked::TenantLimit => "find its tenant at its limit",
            Blocked::QueuePaused => "find the queue paused",
        });
    }

    /// Each of them often enough for so many histories.
    pub(crate) fn check(&self, histories: u32) {
        let counts = self.0.borrow();
        let least = (histories / 20).max(1);
        let rare: Vec<_> =
            ALL.iter().filter(|what| counts.get(*what).is_none_or(|times| *times < least)).collect();
        assert!(
            rare.is_empty(),
            "{rare:?} came about less than {least} times in {histories} histories: {counts:?}"
        );
    }
}
