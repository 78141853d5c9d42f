//! What the ports [`Queue`](crate::ports::Queue), [`Directory`](crate::ports::Directory),
//! [`Accounts`](crate::ports::Accounts) and [`Outbox`](crate::outbox::Outbox) promise, as tests that every implementation passes.
//!
//! An implementation becomes a [`Subject`], and its tests call [`conformance!`](crate::conformance!) with it: each
//! sentence of the contract is then a test of theirs. What an implementation does not declare among its
//! [`Capabilities`] is not asked of it, but for refusing it.
//!
//! Time stands still unless a test moves it, and nothing here sleeps.
#![expect(clippy::unwrap_used, reason = "in a test, what must not happen is a failure of the test")]

mod accept;
mod accounts;
mod ask;
mod cancel;
mod capabilities;
mod clock;
mod delay;
mod directory;
mod failure;
mod forget;
mod group;
mod hold;
mod lease;
mod limits;
mod outbox;
mod pause;
mod priority;
mod redrive;
mod share;
mod together;
mod turn;
mod views;
mod wait;
mod world;

pub use ask::*;
pub use world::*;

use crate::ports::Capabilities;

/// Lists every sentence of the contract, by the room it is in and what a queue must declare to be asked for it. One that
/// is not listed is dead code.
macro_rules! contract {
    ($($room:ident $(if ($declared:expr))? { $($sentence:ident)+ })+) => {
        /// The sentences, each for a subject that is made for it.
        #[doc(hidden)]
        pub mod contract {
            $(pub mod $room {
                use crate::conformance::{Capabilities, Subject, World};

                fn is_declared(can: &Capabilities) -> bool {
                    const DECLARED: &[fn(&Capabilities) -> bool] = &[$($declared)?];
                    DECLARED.iter().all(|declared| declared(can))
                }

                $(pub async fn $sentence<S: Subject + 'static>() {
                    let world = World::<S>::new().await;
                    if is_declared(&world.capabilities()) {
                        crate::conformance::$room::$sentence(world.erased()).await;
                    }
                })+
            })+
        }

        /// Makes each sentence of the [contract](mod@crate::conformance) a `#[tokio::test]` for the
        /// [`Subject`](crate::conformance::Subject) of that type.
        #[macro_export]
        macro_rules! conformance {
            ($subject:ty) => {
                type ConformanceSubject = $subject;

                $(mod $room {
                    $(#[tokio::test]
                    async fn $sentence() {
                        let kept = $crate::conformance::contract::$room::$sentence::<super::ConformanceSubject>();
                        tokio::time::timeout($crate::conformance::PATIENCE, kept).await.expect("it waits for ever");
                    })+
                })+
            };
        }
    };
}

contract! {
    accept {
        an_accepted_render_is_there_as_it_was_after_a_restart
        what_the_request_leaves_open_has_its_default
        nobody_knows_a_render_that_was_never_accepted
        a_render_of_a_site_that_was_removed_is_refused
        the_same_key_and_body_stand_for_the_same_renders
        a_key_stands_for_its_renders_when_their_site_is_gone
        the_same_key_with_another_body_is_refused
        a_key_is_forgotten_after_72_hours_and_not_before
        a_key_is_its_tenants_own
        a_list_is_newest_first_and_can_be_narrowed_and_paged
    }
    together if (|can| can.batch > 2) {
        they_are_accepted_in_the_order_given
        there_may_be_as_many_as_the_queue_says
        they_are_accepted_all_or_not_at_all
        their_key_stands_for_those_of_them_that_are_not_forgotten
    }
    turn {
        renders_without_a_group_are_rendered_at_the_same_time
        only_a_queued_render_has_a_position
        a_position_counts_what_its_tenant_has_before_it_and_nothing_of_others
    }
    priority if (|can| can.priorities) {
        it_is_kept_as_asked_for
        higher_goes_first_and_among_equals_who_was_accepted_first
        it_does_not_change_the_order_within_a_group
        a_position_counts_who_goes_first
    }
    share if (|can| can.fair_share) {
        a_tenant_with_many_queued_does_not_keep_the_first_of_another_waiting
        tenants_that_all_have_work_get_the_same
        priority_takes_nothing_from_other_tenants
        a_tenant_that_comes_back_is_not_owed_the_time_it_had_nothing
        a_tenant_that_had_one_long_render_is_not_owed_that_time_either
        a_tenant_that_was_paused_is_not_owed_that_time_either
        a_tenant_that_its_limit_kept_behind_does_not_make_others_owed_that_time
        tenants_that_wait_are_served_by_weight
        a_tenant_alone_is_served_whatever_its_weight
        a_tenant_at_its_limit_starts_no_more_until_it_has_room
        every_way_an_attempt_can_end_makes_room
        a_limit_of_nothing_lets_nothing_start_and_stops_nothing
        a_limit_that_is_raised_does_not_make_up_for_the_time_it_was_low
        a_tenant_that_was_never_seen_can_be_given_its_share
        a_waiting_claim_is_woken_when_a_tenant_at_its_limit_has_room_again
        a_waiting_claim_is_woken_when_a_limit_is_raised
    }
    limits if (|can| can.fair_share) {
        no_more_wait_than_may_and_the_refused_leave_nothing_behind
        of_many_submitted_at_once_no_more_are_accepted_than_may_wait
        renders_of_one_submit_are_all_or_none_at_the_limit
        a_limit_counts_the_renders_of_its_tenant_and_no_others
        whatever_takes_a_render_out_of_the_queue_makes_room
        a_key_stands_for_its_renders_at_the_limit_too
        what_was_accepted_once_comes_back_whatever_the_limit
        a_limit_of_nothing_takes_nothing_on
        what_waits_beyond_a_limit_that_is_lowered_stays
        a_limit_is_in_force_at_once_and_outlasts_a_restart
        who_has_no_limits_of_its_own_has_the_defaults
        the_defaults_are_in_force_for_whoever_comes_later
        tenants_are_served_by_the_weight_that_counts
        limits_that_a_queue_does_not_need_are_kept_for_who_asks
    }
    group {
        the_next_starts_when_the_one_before_is_terminal_and_not_before
        one_that_is_cancelled_while_it_is_queued_lets_the_next_go
        one_that_waits_for_its_next_attempt_keeps_its_group_waiting_and_no_other
        groups_of_the_same_name_of_two_tenants_are_two_groups
        the_order_holds_across_a_restart
        one_whose_lease_is_lost_keeps_the_turn
        one_that_is_handed_back_keeps_the_turn
        a_retry_goes_before_all_that_were_accepted_later
        a_retry_waits_while_a_later_one_is_being_rendered_and_goes_next
        a_cancelled_one_that_is_retried_has_its_place_again
        a_retry_in_a_group_that_has_ended_opens_it_again
    }
    hold {
        a_failure_that_holds_its_group_lets_nothing_go_until_it_is_retried_and_done
        a_retry_that_fails_again_holds_its_group_again
        a_retry_that_is_cancelled_lets_its_group_go
        a_hold_outlasts_the_cancelling_of_all_that_wait
        retrying_another_one_does_not_lift_a_hold
        one_that_is_given_up_after_losing_its_workers_holds_its_group_too
        a_render_that_holds_its_group_when_it_fails_does_not_when_it_is_cancelled
    }
    delay if (|can| can.longest_delay >= crate::conformance::MINUTE) {
        a_delayed_render_starts_at_its_time_and_not_before
        a_delayed_render_keeps_those_behind_it_in_its_group_waiting
        a_delay_that_passes_while_another_has_the_turn_is_over
        a_time_that_has_passed_is_no_delay
        the_longest_delay_that_is_declared_is_kept
        a_delayed_render_is_before_nobody_until_its_time_has_come
        a_retry_does_not_wait_for_a_time_that_was_asked_for_once
        a_delayed_render_is_cancelled_at_once_and_does_not_come_back_at_its_time
        a_waiting_claim_is_woken_when_a_delay_has_passed
        a_waiting_claim_is_woken_when_the_delayed_one_before_it_is_cancelled
    }
    lease {
        a_lease_says_what_is_to_be_made
        an_extended_lease_holds_and_one_that_is_not_ends
        a_lost_lease_costs_no_attempt_and_its_holder_changes_nothing_any_more
        a_token_is_good_for_its_own_render_only
        no_lease_outlives_the_process_that_gave_it
        a_restart_costs_no_attempt
        a_hand_back_costs_no_attempt_and_keeps_the_place
        a_throttled_render_waits_as_long_as_it_was_told_to
        a_throttle_that_has_passed_already_is_no_wait
        progress_and_checkpoint_are_kept_and_the_checkpoint_reaches_the_next_attempt
        a_render_that_keeps_losing_its_worker_is_given_up
        only_losses_in_a_row_count
    }
    failure {
        a_success_is_recorded_with_its_output
        a_fault_that_may_pass_is_tried_again_after_a_wait_that_grows
        the_last_attempt_that_fails_ends_the_render
        a_permanent_fault_ends_the_render_at_once
        the_history_tells_of_every_lease
        a_retry_has_all_its_attempts_and_remembers_the_earlier_ones
        only_what_ended_without_an_output_can_be_retried
        what_a_failure_says_is_kept_word_for_word
        no_back_off_outlives_a_restart
        a_failure_lets_its_group_go_on_unless_it_was_asked_to_hold_it
    }
    cancel {
        a_queued_render_is_cancelled_at_once
        the_holder_of_a_rendering_one_is_asked_to_stop
        a_holder_that_fails_instead_of_stopping_has_stopped
        a_holder_that_hands_back_instead_of_stopping_has_stopped
        a_holder_that_was_done_already_has_succeeded
        a_holder_that_dies_after_it_was_asked_to_stop_has_stopped
        what_has_ended_cannot_be_cancelled
        a_cancelled_render_can_be_retried_and_is_not_asked_to_stop_again
    }
    pause if (|can| can.pauses) {
        nothing_of_what_is_paused_starts_and_the_order_is_kept
        what_is_being_rendered_goes_on
        what_comes_back_while_it_is_paused_stays_queued
        what_is_paused_can_be_cancelled_and_retried
        pausing_twice_is_pausing_once_and_so_is_resuming
        a_pause_outlasts_a_restart
        one_pause_does_not_end_another
        what_is_not_paused_goes_on
        a_waiting_claim_is_woken_by_a_resume
        a_paused_group_with_nothing_in_it_is_there_until_it_is_resumed
        a_tenant_that_was_never_seen_can_be_paused
        who_looks_sees_what_is_paused
        resuming_a_group_that_is_held_lets_it_go_on_without_the_one_that_failed
        resuming_its_tenant_or_the_queue_does_not_end_a_hold
        a_group_that_is_paused_and_held_goes_on_when_both_have_ended
    }
    redrive {
        the_failed_renders_of_the_tenant_are_queued_again_and_no_others
        what_was_retried_already_is_left_as_it_is
        it_can_be_narrowed_to_renders_to_a_group_and_to_a_fault
        it_can_be_narrowed_to_a_time
        it_goes_no_further_than_its_limit_and_says_that_there_is_more
        a_limit_that_is_just_met_leaves_no_more
        each_has_its_place_in_its_group_again
        it_ends_the_hold_of_those_it_queues_again_and_of_no_others
    }
    forget {
        what_is_forgotten_is_gone_with_all_that_was_known_of_it
        listeners_hear_of_what_is_forgotten
        only_what_has_ended_is_forgotten
        the_order_of_those_that_are_left_stays
        one_that_holds_its_group_is_left
        a_key_is_free_when_its_render_is_forgotten
        a_site_whose_renders_are_forgotten_can_be_removed
        an_output_that_is_not_kept_is_due_in_its_time_until_it_is_deleted
    }
    views {
        tenants_are_told_by_name_with_what_they_get
        counts_follow_every_render
        the_backlog_is_what_could_be_claimed_and_how_long_it_waits
        a_group_is_there_while_it_has_something_left_to_do
        a_group_says_who_holds_it
        what_has_ended_is_told_in_the_order_it_ended
        groups_are_told_by_name_and_from_a_name_on
        hours_tell_what_was_accepted_and_how_it_ended
        who_holds_leases_is_busy
    }
    clock {
        they_end_no_lease
        they_keep_no_lease_alive
        they_make_no_back_off_shorter_or_longer
        they_make_no_throttled_render_wait_shorter_or_longer
        they_do_not_change_the_order_of_acceptance
        who_asked_for_a_time_starts_when_the_clock_shows_it
        who_asked_for_no_delay_has_none_when_the_clock_is_put_back
    }
    wait {
        a_waiting_claim_is_woken_by_a_submit
        a_waiting_claim_is_woken_when_the_one_before_in_the_group_ends
        a_waiting_claim_is_woken_when_a_lease_is_lost_or_handed_back
        a_waiting_claim_is_woken_by_a_retry
        of_two_waiting_claims_each_gets_one_render
        a_claim_gives_up_when_it_has_waited_long_enough
        listeners_hear_of_every_change_once_it_is_on_disk
    }
    directory {
        a_site_is_there_as_it_was_after_a_restart
        a_name_stands_for_the_version_put_last_and_the_others_stay
        sites_are_listed_by_name_each_in_its_current_version
        a_site_is_its_tenants_own
        a_site_that_a_render_still_needs_is_not_removed
        another_tenants_render_of_a_site_of_the_same_name_does_not_keep_it
        versions_are_listed_the_last_added_first
        the_version_that_a_name_stands_for_is_not_removed
        a_version_that_a_render_still_needs_is_not_removed
        a_removed_version_is_gone_and_the_others_stay
        a_version_is_there_as_long_as_any_site_has_it
    }
    outbox if (|can| can.notices) {
        what_is_owed_says_how_the_render_ended_and_what_was_asked_for
        who_asked_to_be_told_nothing_is_owed_nothing
        each_whom_a_request_names_is_owed_for_itself
        what_is_owed_is_owed_after_a_restart
        every_way_a_render_can_end_owes
        nothing_is_owed_while_a_render_goes_on
        a_retry_that_ends_owes_again_and_what_was_owed_before_stays_as_it_was
        what_is_taken_is_not_taken_twice
        a_hold_ends_and_who_is_late_changes_nothing
        no_hold_outlives_the_process_that_took_it
        no_jump_of_the_clock_ends_a_hold
        what_is_to_be_tried_again_waits_so_long_restarts_or_not
        room_is_kept
        an_endpoint_with_much_owed_delays_no_other
        a_tenant_with_much_owed_delays_no_other_at_the_same_endpoint
        mails_and_webhooks_are_in_nobodys_way
        who_asks_learns_when_the_next_is_due
        who_waits_hears_of_what_is_owed_also_when_it_came_before
        what_was_settled_can_be_owed_again_with_all_its_tries
        deliveries_are_told_newest_first_and_can_be_narrowed_and_paged
        they_are_counted
        a_render_is_not_forgotten_while_it_owes_and_then_with_what_it_owed
        what_holds_its_group_owes_all_the_same
        what_a_tenant_has_set_is_there_after_a_restart_and_its_own
        a_tenant_has_two_secrets_at_most_each_of_its_own_name
        webhooks_are_signed_with_what_is_active_when_they_go_out
    }
    accounts {
        a_person_is_there_as_they_were_after_a_restart
        an_address_is_one_persons
        people_are_listed_by_address
        what_is_not_changed_of_a_person_stays
        a_session_goes_on_by_a_new_secret_each_time
        a_secret_that_was_replaced_ends_its_session_and_no_other
        a_session_ends_when_it_is_not_used_in_time
        a_session_starts_by_the_password_that_is_good_now_alone
        another_password_ends_the_sessions_of_that_person
        whoever_is_disabled_has_no_session_and_gets_none_back
        only_who_has_the_secret_of_a_session_ends_it
        a_token_is_there_as_it_was_after_a_restart
        tokens_are_listed_oldest_first_and_those_that_ended_too
        revoking_a_token_twice_is_revoking_it_once
    }
    capabilities {
        pauses_are_refused_where_there_are_none
        limits_are_refused_where_there_are_none
    }
}
