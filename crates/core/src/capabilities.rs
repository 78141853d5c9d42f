//! What a queue can do beyond what every queue does, and what is asked of it that it cannot.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::request::{FieldError, RenderRequest};

/// What a queue can do beyond what every queue does. A request that needs more is refused at the edge; the
/// conformance suite proves what is declared, and that the rest is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Renders of higher priority go first within their tenant.
    pub priorities: bool,
    /// Tenants that wait are served in turn, by weight, and each can be kept to so many renders at once and so many
    /// waiting. What else is in their [`Limits`](crate::Limits) every queue that can do this keeps for who asks.
    pub fair_share: bool,
    /// Renders that do not wait for one another start in the order accepted, also when one of them came back meanwhile.
    /// Where it is absent, one that comes back starts behind those that were ready by then. Within a group there is no other
    /// order than that of acceptance, whatever the queue.
    pub in_order: bool,
    /// The longest that `runAt` may lie ahead.
    pub longest_delay: Duration,
    /// Groups, tenants and the whole can be paused.
    pub pauses: bool,
    /// Renders accepted in one submit, at most.
    pub batch: usize,
    /// Ends of renders are owed to whom a request names: there is an [`Outbox`](crate::outbox::Outbox).
    pub notices: bool,
    /// It is one queue for any number of processes: a lease ends by its time, and not with the process that took it; times are
    /// those of the wall clock, which is what machines have in common; [`changes`](crate::ports::Queue::changes) tells what
    /// was done through this one.
    pub shared: bool,
}

impl RenderRequest {
    /// Everything in it that a queue of these capabilities cannot do for a render submitted `now`.
    #[must_use]
    pub fn check_supported(&self, can: &Capabilities, now: Timestamp) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (pointer, asked) in [
            ("/webhook", self.webhook.is_some()),
            ("/notify", self.notify.as_ref().is_some_and(|notify| !notify.email.is_empty())),
        ] {
            if asked && !can.notices {
                errors.push(FieldError::new(
                    pointer,
                    "this queue tells nobody: leave it out, and ask for the render",
                ));
            }
        }
        let Some(queue) = &self.queue else { return errors };
        if !can.priorities && queue.priority.is_some_and(|priority| priority != 0) {
            errors.push(FieldError::new("/queue/priority", "this queue knows no priorities: leave it out"));
        }
        let ahead = queue.run_at.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        if ahead.is_some_and(|ahead| ahead > can.longest_delay) {
            let detail = match SignedDuration::try_from(can.longest_delay) {
                Ok(longest) if !longest.is_zero() => {
                    format!(
                        "this queue delays by {longest:#} at most: submit it later, or let it start earlier"
                    )
                }
                _ => "this queue knows no delays: leave it out, and submit it when it may start".into(),
            };
            errors.push(FieldError::new("/queue/runAt", detail));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::{NotifyOptions, WebhookOptions};
    use crate::request::QueueOptions;

    const NOTHING: Capabilities = Capabilities {
        priorities: false,
        fair_share: false,
        in_order: false,
        longest_delay: Duration::ZERO,
        pauses: false,
        batch: 1,
        notices: false,
        shared: false,
    };

    fn refused(can: &Capabilities, priority: Option<i32>, delay: Option<SignedDuration>) -> Vec<String> {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let queue =
            QueueOptions { priority, run_at: delay.map(|delay| now + delay), ..QueueOptions::default() };
        let request = RenderRequest { queue: Some(queue), ..RenderRequest::default() };
        request
            .check_supported(can, now)
            .into_iter()
            .map(|error| format!("{} {}", error.pointer, error.detail))
            .collect()
    }

    #[test]
    fn what_a_queue_cannot_do_is_refused_with_what_would_be_right() {
        let minutes = SignedDuration::from_mins;
        assert_eq!(
            refused(&NOTHING, Some(1), Some(minutes(1))),
            [
                "/queue/priority this queue knows no priorities: leave it out",
                "/queue/runAt this queue knows no delays: leave it out, and submit it when it may start",
            ]
        );
        let quarter = Capabilities { longest_delay: Duration::from_secs(15 * 60), ..NOTHING };
        assert_eq!(refused(&quarter, None, Some(minutes(15))), [""; 0]);
        assert_eq!(
            refused(&quarter, None, Some(minutes(15) + SignedDuration::from_millis(1))),
            ["/queue/runAt this queue delays by 15m at most: submit it later, or let it start earlier"]
        );
    }

    #[test]
    fn whom_it_cannot_tell_a_queue_refuses() {
        let webhook = WebhookOptions { url: "https://example.com".into(), secret: None, custom_data: None };
        let mails = |email: Vec<String>| Some(NotifyOptions { email });
        let request = RenderRequest {
            webhook: Some(webhook),
            notify: mails(vec!["anna@example.com".into()]),
            ..RenderRequest::default()
        };
        let refused = |request: &RenderRequest, can: &Capabilities| -> Vec<String> {
            let errors = request.check_supported(can, Timestamp::UNIX_EPOCH);
            errors.into_iter().map(|error| error.pointer).collect()
        };
        assert_eq!(refused(&request, &NOTHING), ["/webhook", "/notify"]);
        assert_eq!(refused(&request, &Capabilities { notices: true, ..NOTHING }), [""; 0]);
        let nobody = RenderRequest { notify: mails(Vec::new()), ..RenderRequest::default() };
        assert_eq!(refused(&nobody, &NOTHING), [""; 0]);
    }

    #[test]
    fn what_asks_for_nothing_special_is_refused_by_no_queue() {
        let past = SignedDuration::from_hours(-1);
        for (priority, delay) in [(None, None), (Some(0), Some(past)), (None, Some(SignedDuration::ZERO))] {
            assert_eq!(refused(&NOTHING, priority, delay), [""; 0]);
        }
        let all = Capabilities { priorities: true, longest_delay: Duration::MAX, ..NOTHING };
        assert_eq!(refused(&all, Some(-1_000), Some(SignedDuration::from_hours(24 * 365 * 100))), [""; 0]);
    }
}
