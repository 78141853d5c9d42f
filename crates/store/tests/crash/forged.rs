//! What the checker must not believe, each beside what it must.

use lastframe_core::{LeaseToken, Status};

use crate::history::{Answer, Call, End, Wanted};
use crate::script::{Script, grouped, key, wanted};
use crate::session::RETRY;

fn storage_failed() -> Answer {
    Answer::Failed("the disk is full".into())
}

#[test]
fn a_plain_life_is_explained() {
    let mut script = Script::new();
    script.accept(&[grouped("a"), grouped("b"), wanted("c")]);
    let a = script.claim("a");
    let c = script.claim("c");
    script.fail_for_now("a", &a);
    script.release("c", &c);
    script.pass(2_000);
    let a = script.claim("a");
    script.succeed("a", &a);
    let b = script.claim("b");
    script.fail_for_good("b", &b);
    script.retry("b");
    script.cancel_queued("b");
    script.claim("c");
    script.die();
    script.lost("c");
    let c = script.claim("c");
    script.succeed("c", &c);
    let tally = script.check().unwrap();
    assert_eq!((tally.deaths, tally.renders, tally.leases, tally.succeeded), (1, 3, 6, 2));
}

#[test]
fn an_acknowledged_submit_that_is_lost() {
    let mut script = Script::new();
    script.accept(&[wanted("a"), wanted("b")]);
    script.is_explained();
    let b = script.record.pop().unwrap();
    script.is_rejected("acknowledged and lost");
    script.record = vec![b];
    script.is_rejected("acknowledged and lost");
}

#[test]
fn half_a_batch() {
    let batch = [wanted("a"), grouped("b")];
    let mut script = Script::new();
    script.ask(script.submit(None, &batch));
    script.die();
    script.is_explained();
    script.store(&batch[0]);
    script.is_rejected("1 of 2 are there");
    script.store(&batch[1]);
    script.is_explained();
}

#[test]
fn a_render_that_nobody_asked_for_or_that_is_there_twice() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    script.store(&wanted("b"));
    script.is_rejected("nobody asked for");
    script.record.pop();
    script.store(&wanted("a"));
    script.is_rejected("is there twice");
}

#[test]
fn another_content_than_was_accepted() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    script.stored("a").request = Wanted { size: 2, ..wanted("a") }.request();
    script.is_rejected("is not as wanted");
    script.stored("a").request = wanted("a").request();
    script.is_explained();
    script.stored("a").render.group = Some("g".into());
    script.is_rejected("is not as wanted");
}

#[test]
fn a_later_place_than_a_submit_that_came_after() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    script.accept(&[wanted("b")]);
    let (first, second) = (script.stored("a").render.seq, script.stored("b").render.seq);
    script.is_explained();
    let mut script = Script::new();
    script.store(&wanted("a"));
    script.store(&wanted("b"));
    script.stored("a").render.seq = second;
    script.stored("b").render.seq = first;
    script.accepted(None, &[wanted("a")], false);
    script.accepted(None, &[wanted("b")], false);
    script.is_rejected("was asked for after");
}

#[test]
fn a_key_that_stands_for_two_sets_of_renders() {
    let (first, second) = ([wanted("a")], [wanted("b")]);
    let mut script = Script::new();
    script.store(&first[0]);
    script.accepted(key(0), &first, false);
    script.accepted(key(0), &first, true);
    script.say(script.submit(key(1), &second), Answer::KeyReused);
    script.is_explained();
    script.store(&second[0]);
    script.is_rejected("stands for two bodies");
}

#[test]
fn a_key_that_was_said_to_be_new_again() {
    let mut script = Script::new();
    script.store(&wanted("a"));
    script.accepted(key(0), &[wanted("a")], false);
    script.accepted(key(0), &[wanted("a")], false);
    script.is_rejected("nothing explains Submitted");
}

#[test]
fn a_key_that_is_refused_for_its_own_body() {
    let mut script = Script::new();
    script.store(&wanted("a"));
    script.accepted(key(0), &[wanted("a")], false);
    script.say(script.submit(key(0), &[wanted("a")]), Answer::KeyReused);
    script.is_rejected("had no other body");
}

#[test]
fn two_leases_at_a_time() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    script.claim("a");
    script.lost("a");
    script.claim("a");
    script.is_rejected("nothing explains Claimed");
}

#[test]
fn a_token_that_is_given_twice() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    let token = script.claim("a");
    script.release("a", &token);
    script.claim_under("a", token);
    script.is_rejected("was given twice");
}

#[test]
fn a_lease_that_came_of_no_claim() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    script.lease("a");
    script.lost("a");
    script.is_rejected("came of no claim");
}

/// What the holder of a lease that is over is answered, and what it must not be.
fn comes_late(mut script: Script, stale: &LeaseToken) {
    let render = script.id("a");
    let token = || stale.clone();
    script.say(Call::Extend { render, token: token() }, Answer::Lost);
    script.say(Call::Release { render, token: token(), until: None }, Answer::Lost);
    let finish = script.finishing("a", stale, End::Succeeded);
    script.say(finish.clone(), Answer::Lost);
    script.is_explained();
    let answered = script.history.len();
    for (call, answer) in [
        (Call::Extend { render, token: token() }, Answer::Extended { cancel_requested: false }),
        (Call::Release { render, token: token(), until: None }, Answer::Released),
        (finish, Answer::Finished(Status::Succeeded)),
    ] {
        script.say(call, answer);
        script.is_rejected("nothing explains");
        script.history.truncate(answered);
    }
}

#[test]
fn a_token_that_is_good_after_the_death_of_its_process() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    let stale = script.claim("a");
    script.die();
    script.lost("a");
    comes_late(script, &stale);
}

#[test]
fn a_token_that_is_good_after_it_was_used_up() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    let stale = script.claim("a");
    script.succeed("a", &stale);
    comes_late(script, &stale);
}

#[test]
fn a_token_that_is_good_while_another_has_the_lease() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    let stale = script.claim("a");
    script.pass(30_000);
    script.lost("a");
    script.claim("a");
    comes_late(script, &stale);
}

#[test]
fn a_lease_that_ends_before_its_time() {
    for millis in [29_999, 30_000] {
        let mut script = Script::new();
        script.accept(&[wanted("a")]);
        let token = script.claim("a");
        script.pass(10_000);
        let render = script.id("a");
        script
            .say(Call::Extend { render, token: token.clone() }, Answer::Extended { cancel_requested: false });
        script.pass(millis);
        script.lost("a");
        script.say(Call::Extend { render, token }, Answer::Lost);
        match millis {
            30_000 => script.is_explained(),
            _ => script.is_rejected("nothing explains Lost"),
        }
    }
}

#[test]
fn an_effect_that_happens_twice() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    let first = script.claim("a");
    script.succeed("a", &first);
    let second = script.claim("a");
    script.succeed("a", &second);
    script.is_rejected("nothing explains Claimed");
}

#[test]
fn the_output_of_another_attempt() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    let first = script.claim("a");
    script.release("a", &first);
    let second = script.claim("a");
    script.succeed("a", &second);
    script.is_explained();
    script.stored("a").render.output.as_mut().unwrap().key = first.0;
    script.is_rejected("not the output of its last attempt");
}

#[test]
fn the_error_of_another_attempt() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    let token = script.claim("a");
    script.fail_for_good("a", &token);
    script.is_explained();
    script.stored("a").attempts[0].error.as_mut().unwrap().message = "b1".into();
    script.is_rejected("has the error of another");
}

#[test]
fn a_finish_that_is_acknowledged_and_forgotten() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    let token = script.claim("a");
    let call = script.finishing("a", &token, End::Succeeded);
    let number = script.ask(call);
    script.lost("a");
    let (unanswered, record) = (script.history.clone(), script.record.clone());
    script.answer(number, Answer::Finished(Status::Succeeded));
    script.die();
    script.is_rejected("nothing explains Finished");
    // Unless nobody was told: then it may have come about or not.
    script.history = unanswered;
    script.die();
    script.is_explained();
    script.record = record;
    script.ended("a", "succeeded", Status::Succeeded);
    script.stored("a").render.attempt = 1;
    script.is_explained();
}

#[test]
fn overtaking_in_a_group() {
    for group in [None, Some("g".to_owned())] {
        let mut script = Script::new();
        script.accept(&[grouped("a"), Wanted { group: group.clone(), ..wanted("b") }]);
        let b = script.claim("b");
        script.succeed("b", &b);
        match group {
            None => script.is_explained(),
            Some(_) => script.is_rejected("nothing explains Claimed"),
        }
    }
}

#[test]
fn two_of_a_group_at_a_time() {
    let mut script = Script::new();
    script.accept(&[grouped("a"), grouped("b")]);
    script.claim("a");
    script.claim("b");
    script.is_rejected("nothing explains Claimed");
}

#[test]
fn a_retry_that_is_overtaken() {
    for retried in [false, true] {
        let mut script = Script::new();
        script.accept(&[grouped("a"), grouped("b"), grouped("c")]);
        let a = script.claim("a");
        script.fail_for_good("a", &a);
        let b = script.claim("b");
        if retried {
            script.retry("a");
        }
        script.succeed("b", &b);
        let c = script.claim("c");
        script.succeed("c", &c);
        match retried {
            false => script.is_explained(),
            true => script.is_rejected("nothing explains Claimed"),
        }
    }
}

#[test]
fn a_group_that_goes_on_though_it_is_held() {
    for holds in [false, true] {
        let mut script = Script::new();
        script.accept(&[Wanted { holds, ..grouped("a") }, grouped("b")]);
        let a = script.claim("a");
        script.fail_for_good("a", &a);
        script.claim("b");
        script.die();
        script.lost("b");
        match holds {
            false => script.is_explained(),
            true => script.is_rejected("nothing explains Claimed"),
        }
    }
}

#[test]
fn a_death_that_costs_an_attempt() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    script.claim("a");
    script.die();
    script.lost("a");
    script.is_explained();
    script.stored("a").render.attempt = 1;
    script.is_rejected("nothing leads to");
}

#[test]
fn a_render_that_is_given_up_too_early_or_too_late() {
    for deaths in [RETRY.max_lost - 1, RETRY.max_lost, RETRY.max_lost + 1] {
        let mut script = Script::new();
        script.accept(&[wanted("a")]);
        for _ in 1..deaths {
            script.claim("a");
            script.die();
            script.lost("a");
        }
        script.claim("a");
        script.die();
        script.ended("a", "failed", Status::Failed);
        script.stored("a").attempts.last_mut().unwrap().error = None;
        match deaths == RETRY.max_lost {
            true => script.is_explained(),
            false => script.is_rejected("nothing explains"),
        }
    }
}

#[test]
fn more_attempts_than_it_may_have() {
    for max_attempts in [1, 2] {
        let mut script = Script::new();
        script.accept(&[Wanted { max_attempts, ..wanted("a") }]);
        let token = script.claim("a");
        script.fail_for_now("a", &token);
        script.pass(2_000);
        let token = script.claim("a");
        script.succeed("a", &token);
        match max_attempts {
            2 => script.is_explained(),
            _ => script.is_rejected("nothing explains Finished"),
        }
    }
}

#[test]
fn a_claim_before_its_time() {
    for early in [0, 1] {
        let mut script = Script::new();
        script.accept(&[Wanted { run_at: Some(script.now() + 5_000), ..wanted("a") }]);
        script.pass(5_000 - early);
        let token = script.claim("a");
        match early {
            0 => script.fail_for_now("a", &token),
            _ => {
                script.is_rejected("nothing explains Claimed");
                continue;
            }
        }
        // At least half of the two seconds.
        script.pass(1_000);
        let token = script.claim("a");
        script.succeed("a", &token);
        script.is_explained();
    }
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    let token = script.claim("a");
    script.fail_for_now("a", &token);
    script.pass(999);
    script.claim("a");
    script.is_rejected("nothing explains Claimed");
}

#[test]
fn a_cancel_that_is_acknowledged_and_forgotten() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    script.cancel_queued("a");
    script.is_explained();
    script.stored("a").render.status = Status::Queued;
    script.is_rejected("nothing leads to");
    script.claim("a");
    script.is_rejected("nothing explains Claimed");
}

#[test]
fn a_cancel_that_stops_nothing() {
    for (outcome, status) in [("cancelled", Status::Cancelled), ("failed", Status::Failed)] {
        let mut script = Script::new();
        script.accept(&[wanted("a")]);
        let token = script.claim("a");
        script.cancelled("a");
        script.ended("a", outcome, status);
        script.finished("a", &token, End::FailedForGood, status);
        match status {
            Status::Cancelled => script.is_explained(),
            _ => script.is_rejected("nothing explains Finished"),
        }
    }
}

#[test]
fn a_retry_that_is_acknowledged_and_forgotten() {
    let mut script = Script::new();
    script.accept(&[wanted("a")]);
    script.cancel_queued("a");
    script.retry("a");
    script.is_explained();
    script.stored("a").render.status = Status::Cancelled;
    script.is_rejected("nothing leads to");
}

#[test]
fn a_render_that_was_acted_on_and_is_not_there() {
    let mut script = Script::new();
    script.ask(script.submit(None, &[wanted("a")]));
    script.store(&wanted("a"));
    script.claim("a");
    script.record.clear();
    script.is_rejected("was there and is lost");
}

#[test]
fn a_refused_submit_that_is_there_all_the_same() {
    let mut script = Script::new();
    script.say(script.submit(None, &[wanted("a")]), storage_failed());
    script.is_explained();
    script.store(&wanted("a"));
    script.is_rejected("nothing leads to");
    // It may be found by the next process, as long as nothing was written over it.
    script.die();
    script.is_explained();
    let mut script = Script::new();
    script.say(script.submit(None, &[wanted("a")]), storage_failed());
    script.accept(&[wanted("b")]);
    script.die();
    script.is_explained();
    script.store(&wanted("a"));
    script.is_rejected("nothing leads to");
}
