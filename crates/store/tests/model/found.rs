//! Histories that this test has found to come out wrong, as short as it made them.

use std::time::Duration;

use lastframe_core::Limits;
use lastframe_core::Status;

use crate::command::{Ask, Command, End};
use crate::machine::Machine;
use crate::tally::Tally;

const ASK: Ask = Ask { group: None, priority: 0, after: None, blocks: false, max_attempts: 1, gone: false };

fn submit(tenant: &'static str, renders: usize) -> Command {
    Command::Submit { tenant, renders: vec![ASK; renders], body: None }
}

async fn comes_out_right(commands: Vec<Command>) {
    Machine::live(commands, &Tally::default()).await.unwrap();
}

#[tokio::test]
async fn an_idempotency_key_can_be_used_again_when_its_render_is_forgotten() {
    let submit = || Command::Submit { tenant: "ann", renders: vec![ASK], body: Some(0) };
    let succeed = Command::Finish { lease: 0, how: End::Succeeds };
    comes_out_right(vec![
        submit(),
        Command::Claim,
        succeed,
        Command::Forget { status: Status::Succeeded, renders: vec![0] },
        submit(),
    ])
    .await;
}

#[tokio::test]
async fn a_render_that_was_cancelled_while_it_waited_starts_over_when_it_is_retried() {
    let extend = Command::Extend { lease: 0, checkpoint: Some(1) };
    let hand_back = Command::Release { lease: 0, throttled: None };
    let cancel = Command::Cancel { status: Status::Queued, render: 0 };
    let retry = Command::Retry { status: Status::Cancelled, render: 0 };
    comes_out_right(vec![submit("ann", 1), Command::Claim, extend, hand_back, cancel, retry, Command::Claim])
        .await;
}

#[tokio::test]
async fn a_tenant_that_was_at_its_limit_is_not_owed_that_time() {
    let limits = Limits { max_concurrency: Some(1), ..Limits::default() };
    let limit = Command::Limit { tenant: "ann", limits };
    let succeed = |lease| Command::Finish { lease, how: End::Succeeds };
    let mut commands = vec![limit, submit("ann", 4), submit("bob", 6)];
    // The one that it may have, and four of the other.
    commands.extend([Command::Claim, Command::Claim, Command::Claim, Command::Claim, Command::Claim]);
    // It has room again, and again, and takes turns.
    commands.extend([succeed(0), Command::Claim, succeed(4), Command::Claim, succeed(4), Command::Claim]);
    comes_out_right(commands).await;
}

#[tokio::test]
async fn a_clock_put_forward_over_a_run_at_does_not_cut_a_back_off_short() {
    let at_nine = Ask { after: Some(Duration::from_secs(9)), max_attempts: 2, ..ASK };
    let submit = Command::Submit { tenant: "ann", renders: vec![at_nine], body: None };
    let pass = |secs| Command::Pass { time: Duration::from_secs(secs), swept: true };
    let crash = Command::Finish { lease: 0, how: End::Fails { code: "browser_crashed" } };
    let jump = |hours| Command::Jump { hours };
    comes_out_right(vec![submit, pass(9), Command::Claim, jump(-1), crash, jump(1), pass(0)]).await;
}
