//! What only a queue has to promise that several machines share, and that rings by SQS.
//!
//! Where stand-ins differ from what AWS documents:
//! - Indexes of DynamoDB follow its items after a moment; here at once. The queue decides nothing by an index alone: it reads
//!   what it found there again, and writes on the condition that this has not changed.
//! - Two transactions that meet at AWS cancel each other (`TransactionConflict`); here one waits for the other.
//! - A receive that does not wait may miss messages at AWS, which asks some of its machines only; here it finds all.
//! - moto forgets that it has seen a deduplication id when the message is deleted; AWS remembers for five minutes. No ring has
//!   the id of another, and one that is sent again on purpose claims nothing the second time.
//! - Both show clocks and visibility of their own, which tests cannot move: nothing here waits for them.
//! - The receipt of a message of a FIFO queue whose visibility has ended deletes nothing at AWS. MiniStack deletes, which
//!   makes no difference: a ring that comes again claims nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::QueueAttributeName;
use futures_util::future::join_all;
use lastframe_aws::queue::{AwsQueue, Options};
use lastframe_core::conformance::{Asks as _, LEASE, MINUTE, is_lost, key, render, succeeded};
use lastframe_core::ports::{NewRender, Pausable, Queue as _, Redrive};
use lastframe_core::{Clock, HandBack, ManualClock, Progress, Render, Status, TenantId};

use crate::stand_in::Aws;
use crate::world::World;

fn sqs<A: Aws>(world: &World<A>) -> aws_sdk_sqs::Client {
    aws_sdk_sqs::Client::new(&world.subject.sdk)
}

/// The body of the next message of that queue, and its receipt. Others may get it at once, too.
async fn peek<A: Aws>(world: &World<A>, url: &str) -> Option<(String, String)> {
    let received = sqs(world).receive_message().queue_url(url).visibility_timeout(0).send().await.unwrap();
    let message = received.messages.unwrap_or_default().pop()?;
    Some((message.body.unwrap(), message.receipt_handle.unwrap()))
}

async fn ring<A: Aws>(world: &World<A>) -> Option<(String, String)> {
    peek(world, &world.subject.options.queue_url).await
}

async fn letter<A: Aws>(world: &World<A>) -> Option<String> {
    let url = world.subject.options.dead_letters_url.clone().unwrap();
    peek(world, &url).await.map(|(body, _)| body)
}

/// How many messages lie in that queue.
async fn messages<A: Aws>(world: &World<A>, url: &str) -> u32 {
    counted(world, url, QueueAttributeName::ApproximateNumberOfMessages).await
}

/// How many messages will lie in that queue in a while.
async fn delayed<A: Aws>(world: &World<A>, url: &str) -> u32 {
    counted(world, url, QueueAttributeName::ApproximateNumberOfMessagesDelayed).await
}

async fn counted<A: Aws>(world: &World<A>, url: &str, what: QueueAttributeName) -> u32 {
    let asked = sqs(world).get_queue_attributes().queue_url(url).attribute_names(what.clone());
    asked.send().await.unwrap().attributes.unwrap()[&what].parse().unwrap()
}

/// A clock by which ten seconds pass from one look to the next.
#[derive(Debug)]
struct Hurries {
    wall: Arc<ManualClock>,
    looked_at: AtomicU32,
}

impl Clock for Hurries {
    fn now(&self) -> jiff::Timestamp {
        self.wall.now()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(10) * self.looked_at.fetch_add(1, Ordering::Relaxed)
    }
}

async fn objects<A: Aws>(world: &World<A>) -> Vec<String> {
    let s3 = aws_sdk_s3::config::Builder::from(&world.subject.sdk).force_path_style(true).build();
    let listed = aws_sdk_s3::Client::from_conf(s3).list_objects_v2().bucket(&world.subject.options.bucket);
    let listed = listed.send().await.unwrap();
    listed.contents.unwrap_or_default().into_iter().filter_map(|object| object.key).collect()
}

/// One machine that takes renders until there are none, and notes when each began and ended.
async fn works(queue: &dyn lastframe_core::ports::Queue, seen: &Mutex<Vec<(bool, Render)>>) {
    while let Some(lease) = queue.claim("one of many", Duration::from_secs(1)).await.unwrap() {
        seen.lock().unwrap().push((true, lease.render.clone()));
        queue.extend(lease.render.id, &lease.token, Progress::START, None).await.unwrap();
        seen.lock().unwrap().push((false, lease.render.clone()));
        queue.finish(lease.render.id, &lease.token, succeeded()).await.unwrap();
    }
}

macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($world:ident: World<A>) $body:block)+) => {
        $(async fn $name<A: Aws>($world: World<A>) $body)+

        mod ministack {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::World::<crate::stand_in::MiniStack>::new().await).await;
            })+
        }

        mod moto {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::World::<crate::stand_in::Moto>::new().await).await;
            })+
        }
    };
}

on_both! {
    async fn a_ring_that_was_never_sent_is_sent_by_the_sweep(world: World<A>) {
        let options = Options { queue_url: format!("{}-gone", world.subject.options.queue_url), ..world.subject.options.clone() };
        let dies = world.subject.another(&world.clock, options).await;
        let ann = TenantId::new("ann");
        let asked = vec![render("alone"), render("grouped").in_group("g")];
        // What is on disk is accepted, whatever becomes of its ring.
        let accepted = dies.submit(&ann, asked, None).await.unwrap().renders;
        world.claims_nothing().await;
        world.sweep().await;
        world.claims_all_of(&[&accepted[0], &accepted[1]]).await;
    }

    async fn a_ring_that_comes_twice_claims_once(world: World<A>) {
        let a = world.accept("ann", render("a")).await;
        let (body, _) = ring(&world).await.unwrap();
        let queue = &world.subject.queue;
        let lease = queue.answer(&body, "one").await.unwrap().unwrap();
        assert_eq!(lease.render.id, a.id);
        assert!(queue.answer(&body, "two").await.unwrap().is_none());
        world.succeed(&lease).await;
        assert!(queue.answer(&body, "late").await.unwrap().is_none());
        // Nor does one for a lane that never was.
        for nonsense in ["", "{}", "{\"lane\": \"lane/x/y\", \"generation\": 1}", "{\"lane\": \"render/x\", \"generation\": 1}"] {
            assert!(queue.answer(nonsense, "one").await.unwrap().is_none());
        }
    }

    async fn of_two_who_answer_the_same_ring_at_once_one_gets_the_render(world: World<A>) {
        for asked in [render("alone"), render("grouped").in_group("g")] {
            world.accept("ann", asked).await;
            let (body, receipt) = ring(&world).await.unwrap();
            let other = world.subject.another(&world.clock, world.subject.options.clone()).await;
            let (one, two) =
                futures_util::future::join(world.subject.queue.answer(&body, "one"), other.answer(&body, "two")).await;
            let leases: Vec<_> = [one.unwrap(), two.unwrap()].into_iter().flatten().collect();
            assert_eq!(leases.len(), 1);
            world.succeed(&leases[0]).await;
            world.subject.queue.answered(&receipt).await;
        }
    }

    async fn a_ring_claims_the_head_whatever_rang(world: World<A>) {
        let first = world.accept("ann", render("first").in_group("g")).await;
        let (body, _) = ring(&world).await.unwrap();
        let lease = world.claims(&first).await;
        world.succeed(&lease).await;
        let second = world.accept("ann", render("second").in_group("g")).await;
        let lease = world.subject.queue.answer(&body, "one").await.unwrap().unwrap();
        assert_eq!(lease.render.id, second.id);
        world.claims_nothing().await;
    }

    async fn a_receipt_that_is_over_changes_nothing(world: World<A>) {
        let a = world.accept("ann", render("a")).await;
        let (_, receipt) = ring(&world).await.unwrap();
        let lease = world.claims(&a).await;
        world.subject.queue.answered(&receipt).await;
        world.extend(a.id, &lease.token, Progress::START, None).await.unwrap();
        world.succeed(&lease).await;
    }

    async fn two_machines_share_one_queue(world: World<A>) {
        let other = world.subject.another(&world.clock, world.subject.options.clone()).await;
        let a = world.accept("ann", render("a").in_group("g")).await;
        let b = world.accept("ann", render("b").in_group("g")).await;
        let lease = other.claim("other", Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(lease.render.id, a.id);
        world.claims_nothing().await;
        // Whoever has the token is the holder, whichever machine it speaks to.
        world.succeed(&lease).await;
        let taken = world.claims(&b).await;
        assert_ne!(taken.token, lease.token);
        assert_eq!(other.get(a.id).await.unwrap().unwrap().status, Status::Succeeded);
        let secrets = join_all([&world.subject.queue, &other].map(|queue| async {
            queue.secret("links", || fastrand::u64(..).to_string()).await.unwrap()
        }));
        let secrets = secrets.await;
        assert_eq!(secrets[0], secrets[1]);
        assert_eq!(other.secret("links", || "another".into()).await.unwrap(), secrets[0]);
    }

    async fn a_machine_that_dies_loses_its_lease_to_another_and_changes_nothing_any_more(world: World<A>) {
        let other = world.subject.another(&world.clock, world.subject.options.clone()).await;
        let a = world.accept("ann", render("a").in_group("g")).await;
        world.accept("ann", render("b").in_group("g")).await;
        let late = other.claim("other", Duration::ZERO).await.unwrap().unwrap();
        world.pass(LEASE).await;
        let lease = world.claims(&a).await;
        assert!(is_lost(other.extend(a.id, &late.token, Progress::START, None).await));
        assert!(is_lost(other.finish(a.id, &late.token, succeeded()).await));
        assert!(is_lost(other.release(a.id, &late.token, HandBack::Draining).await));
        world.claims_nothing().await;
        world.succeed(&lease).await;
        assert_eq!(world.outcomes(a.id).await, ["lost", "succeeded"]);
    }

    async fn eight_machines_keep_the_order_of_each_group(world: World<A>) {
        let groups = ["g", "h", "i"];
        let mut expected: HashMap<String, Vec<String>> = HashMap::new();
        for number in 0..6 {
            for group in groups {
                let name = format!("{group}{number}");
                world.accept("ann", render(&name).in_group(group)).await;
                expected.entry(group.into()).or_default().push(name);
            }
        }
        let mut machines = Vec::new();
        for _ in 0..8 {
            machines.push(world.subject.another(&world.clock, world.subject.options.clone()).await);
        }
        let seen = Mutex::new(Vec::new());
        join_all(machines.iter().map(|machine| works(machine, &seen))).await;
        let mut order: HashMap<String, Vec<String>> = HashMap::new();
        let mut under_way: HashMap<String, String> = HashMap::new();
        for (begins, render) in seen.into_inner().unwrap() {
            let group = render.group.unwrap();
            if begins {
                let before = under_way.insert(group.clone(), render.composition.clone());
                assert_eq!(before, None, "{} began before that had ended", render.composition);
                order.entry(group).or_default().push(render.composition);
            } else {
                assert_eq!(under_way.remove(&group), Some(render.composition));
            }
        }
        assert_eq!(order, expected);
    }

    async fn of_many_that_submit_into_one_group_all_are_accepted_each_in_its_place(world: World<A>) {
        let ann = TenantId::new("ann");
        let submits = (0..12).map(|_| world.submit(&ann, vec![render("a").in_group("g")], None));
        let mut accepted: Vec<Render> =
            join_all(submits).await.into_iter().flat_map(|submitted| submitted.unwrap().renders).collect();
        accepted.sort_by_key(|render| render.seq);
        assert_eq!(world.group_of_ann("g").await.unwrap().queued, 12);
        world.renders_in_turn(&accepted.iter().collect::<Vec<_>>()).await;
    }

    async fn of_many_with_the_same_key_one_is_accepted(world: World<A>) {
        let ann = TenantId::new("ann");
        let submits = (0..6).map(|_| world.submit(&ann, vec![render("a")], Some(key("k", 1))));
        let answers: Vec<_> = join_all(submits).await.into_iter().map(|answer| answer.unwrap()).collect();
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        assert!(answers.iter().all(|answer| answer.renders[0].id == answers[0].renders[0].id));
        assert_eq!(world.all().await.len(), 1);
    }

    async fn a_failed_render_has_a_letter_until_it_is_no_longer_failed(world: World<A>) {
        let failed = world.failed("ann", render("a")).await;
        assert_eq!(letter(&world).await.unwrap(), format!("{{\"render\":\"{}\"}}", failed.id));
        world.subject.queue.sort_letters().await.unwrap();
        assert!(letter(&world).await.is_some(), "it has failed still");
        let which = Redrive {
            tenant: TenantId::new("ann"), ids: None, group: None, code: None, since: None, until: None, limit: 10,
        };
        assert_eq!(world.redrive(which).await.unwrap().renders, [failed.id]);
        world.subject.queue.sort_letters().await.unwrap();
        assert_eq!(letter(&world).await, None);
        // Each failure has its own.
        world.fail_for_good(&world.claims(&failed).await).await;
        assert!(letter(&world).await.is_some());
    }

    async fn a_letter_that_is_moved_back_to_the_queue_retries_its_render(world: World<A>) {
        let failed = world.failed("ann", render("a")).await;
        let body = letter(&world).await.unwrap();
        // As Amazon's own redrive does.
        let moved = sqs(&world).send_message().queue_url(&world.subject.options.queue_url).message_body(&body);
        moved.message_group_id("moved").message_deduplication_id("moved").send().await.unwrap();
        let lease = world.claims(&failed).await;
        assert_eq!((lease.render.attempt, lease.render.leases), (1, 2));
        assert!(world.subject.queue.answer(&body, "late").await.unwrap().is_none());
        world.succeed(&lease).await;
        assert!(world.subject.queue.answer(&body, "later").await.unwrap().is_none());
        assert_eq!(world.status(failed.id).await, Status::Succeeded);
    }

    async fn a_large_request_lies_in_the_bucket_as_long_as_its_render(world: World<A>) {
        let mut large = render("a");
        large.request.input_props = serde_json::from_value(serde_json::json!({"text": "ä".repeat(200_000)})).unwrap();
        let refused = NewRender { site_version: "v0".into(), ..large.clone() };
        world.submit(&TenantId::new("ann"), vec![refused], None).await.unwrap_err();
        assert_eq!(objects(&world).await, [""; 0]);
        let a = world.accept("ann", large.clone()).await;
        assert_eq!(objects(&world).await, [format!("requests/{}.json", a.id)]);
        assert_eq!(world.request(a.id).await.unwrap(), Some(large.request.clone()));
        let lease = world.claims(&a).await;
        assert_eq!(lease.request, large.request);
        world.succeed(&lease).await;
        assert_eq!(world.forget(vec![a.id]).await.unwrap(), 1);
        assert_eq!(objects(&world).await, [""; 0]);
    }

    async fn a_timer_rings_when_the_time_has_come_and_not_before(world: World<A>) {
        let timers = world.subject.options.timers_url.clone().unwrap();
        let later = world.accept("ann", render("later").not_before(world.now() + MINUTE)).await;
        assert_eq!(messages(&world, &world.subject.options.queue_url.clone()).await, 0);
        let timer = format!("{{\"lane\":\"render/{}\"}}", later.id);
        world.subject.queue.wake(&timer).await.unwrap();
        world.claims_nothing().await;
        world.clock.advance(MINUTE);
        world.subject.queue.wake(&timer).await.unwrap();
        let lease = world.claims(&later).await;
        world.subject.queue.wake(&timer).await.unwrap();
        world.claims_nothing().await;
        // A message that is none is dropped; one for a delivery is the notifier's.
        for other in ["", "{\"delivery\": 7}", "{\"lane\": \"lane/x/y\"}"] {
            world.subject.queue.wake(other).await.unwrap();
        }
        // One that is handed back for less than a second comes in a second; nothing of a stand-in's time is waited for.
        let until = world.now() + Duration::from_millis(1);
        world.release(later.id, &lease.token, HandBack::Throttled { until }).await.unwrap();
        assert!(delayed(&world, &timers).await >= 1);
    }

    async fn a_ring_that_was_lost_is_rung_anew_after_half_an_hour(world: World<A>) {
        let a = world.accept("ann", render("a").in_group("g")).await;
        let (_, receipt) = ring(&world).await.unwrap();
        world.subject.queue.answered(&receipt).await;
        world.pass(Duration::from_secs(30 * 60) - Duration::from_millis(1)).await;
        world.claims_nothing().await;
        world.pass(Duration::from_millis(1)).await;
        world.claims(&a).await;
    }

    async fn who_died_with_a_ring_keeps_its_lane_no_longer_than_half_an_hour(world: World<A>) {
        for asked in [render("alone"), render("grouped").in_group("g")] {
            let a = world.accept("ann", asked).await;
            // A function that cannot start, or runs out of memory: the message is nobody's for as long as it is kept from others.
            let received = sqs(&world).receive_message().queue_url(&world.subject.options.queue_url);
            let received = received.visibility_timeout(900).send().await.unwrap().messages.unwrap();
            assert_eq!(received.len(), 1);
            world.claims_nothing().await;
            world.pass(Duration::from_secs(30 * 60)).await;
            let lease = world.claims(&a).await;
            world.succeed(&lease).await;
        }
    }

    async fn a_redrive_that_takes_long_says_that_there_is_more(world: World<A>) {
        let clock = Arc::new(Hurries { wall: Arc::clone(&world.clock), looked_at: AtomicU32::new(0) });
        let options = world.subject.options.clone();
        let queue = AwsQueue::open(&world.subject.sdk, options, clock, Arc::new(())).await.unwrap();
        let mut failed = Vec::new();
        for _ in 0..4 {
            failed.push(world.failed("ann", render("a")).await.id);
        }
        let mut which = Redrive {
            tenant: TenantId::new("ann"), ids: None, group: None, code: None, since: None, until: None, limit: 4,
        };
        let first = queue.redrive(which.clone()).await.unwrap();
        assert_eq!((first.renders.as_slice(), first.more), (&failed[..2], true));
        which.ids = Some(failed.clone());
        let rest = queue.redrive(which).await.unwrap();
        assert_eq!((rest.renders.as_slice(), rest.more), (&failed[2..], false));
    }

    async fn a_delivery_that_the_index_does_not_show_yet_wakes_the_notifier_again(world: World<A>) {
        let queue = &world.subject.queue;
        let timers = world.subject.options.timers_url.clone().unwrap();
        let mut asked = render("a");
        let webhook = serde_json::json!({"url": "https://example.com/hook"});
        asked.request.webhook = Some(serde_json::from_value(webhook).unwrap());
        world.failed("ann", asked).await;
        assert_eq!(messages(&world, &timers).await, 1, "it is owed at once");
        let (timer, _) = peek(&world, &timers).await.unwrap();
        queue.wake(&timer).await.unwrap();
        assert_eq!((messages(&world, &timers).await, delayed(&world, &timers).await), (1, 0));

        // As an index that has not heard of it. Stand-ins have none of that kind.
        let db = aws_sdk_dynamodb::Client::new(&world.subject.sdk);
        let number = serde_json::from_str::<serde_json::Value>(&timer).unwrap()["delivery"].as_i64().unwrap();
        let hide = db.update_item().table_name(&world.subject.options.table).update_expression("REMOVE dp, ds");
        let key = [("pk", format!("delivery/{number:019}")), ("sk", "delivery".to_owned())];
        let hide = key.into_iter().fold(hide, |hide, (name, value)| hide.key(name, AttributeValue::S(value)));
        hide.send().await.unwrap();
        queue.wake(&timer).await.unwrap();
        assert_eq!(delayed(&world, &timers).await, 1);
    }

    async fn a_ring_lies_in_the_dead_letters_as_long_as_its_lane_waits_for_it(world: World<A>) {
        let dead = world.subject.options.dead_letters_url.clone().unwrap();
        let mut rings = Vec::new();
        for asked in [render("alone"), render("grouped").in_group("g")] {
            let waits = world.accept("ann", asked).await;
            let (body, receipt) = ring(&world).await.unwrap();
            // As SQS does with a message that nobody could handle.
            world.subject.queue.answered(&receipt).await;
            let moved = sqs(&world).send_message().queue_url(&dead).message_body(&body);
            moved.message_group_id(&body[..20]).message_deduplication_id(rings.len().to_string()).send().await.unwrap();
            rings.push(waits);
        }
        world.subject.queue.sort_letters().await.unwrap();
        assert_eq!(messages(&world, &dead).await, 2);
        world.pass(Duration::from_secs(30 * 60)).await;
        world.subject.queue.sort_letters().await.unwrap();
        assert_eq!(messages(&world, &dead).await, 0, "their lanes have rung since");
        world.claims_all_of(&[&rings[0], &rings[1]]).await;
    }

    async fn letters_that_are_left_lying_are_looked_at_every_ten_minutes(world: World<A>) {
        let dead = world.subject.options.dead_letters_url.clone().unwrap();
        let mut failed = Vec::new();
        for _ in 0..12 {
            failed.push(world.failed("ann", render("a")).await);
        }
        let minute = world.now().as_second() / 60 % 10;
        world.clock.advance(MINUTE * u32::try_from(11 - minute).unwrap());
        for render in &failed {
            world.retry(render.id).await.unwrap();
        }
        world.subject.queue.sort_letters().await.unwrap();
        assert_eq!(messages(&world, &dead).await, 2, "the oldest ten");
        for lease in world.claims_all_of(&failed.iter().collect::<Vec<_>>()).await {
            world.fail_for_good(&lease).await;
        }
        assert_eq!(messages(&world, &dead).await, 14);
        world.clock.advance(9 * MINUTE);
        world.subject.queue.sort_letters().await.unwrap();
        // Also the two that were left: their renders are failed again.
        assert_eq!(messages(&world, &dead).await, 14);
        for render in &failed {
            world.retry(render.id).await.unwrap();
        }
        world.subject.queue.sort_letters().await.unwrap();
        assert_eq!(messages(&world, &dead).await, 0);
    }

    async fn a_ring_is_not_dropped_by_a_machine_whose_clock_is_behind(world: World<A>) {
        let behind = Arc::new(ManualClock::new(world.now() - Duration::from_secs(5)));
        let other = world.subject.another(&behind, world.subject.options.clone()).await;
        for asked in [render("alone"), render("grouped").in_group("g")] {
            let later = world.accept("ann", asked.not_before(world.now() + MINUTE)).await;
            world.clock.advance(MINUTE);
            behind.advance(MINUTE);
            world.sweep().await;
            let lease = other.claim("behind", Duration::ZERO).await.unwrap().unwrap();
            assert_eq!(lease.render.id, later.id);
            world.succeed(&lease).await;
        }
    }

    async fn an_item_that_cannot_be_read_stops_nothing_of_a_sweep_but_itself(world: World<A>) {
        let later = world.accept("ann", render("later").not_before(world.now() + LEASE)).await;
        let lost = world.accept("ann", render("lost")).await;
        world.claims(&lost).await;
        let db = aws_sdk_dynamodb::Client::new(&world.subject.sdk);
        for list in ["leases/0", "later/0", "unsent/0", "sent/0"] {
            let put = db.put_item().table_name(&world.subject.options.table);
            let item = [("pk", "render/nonsense"), ("sk", "render"), ("dp", list), ("ds", "0/0")];
            let put = item.into_iter().fold(put, |put, (name, value)| put.item(name, AttributeValue::S(value.into())));
            put.send().await.unwrap();
            world.clock.advance(LEASE);
            world.subject.queue.sweep().await.unwrap_err();
        }
        world.claims_all_of(&[&later, &lost]).await;
    }

    async fn a_bucket_that_cannot_answer_costs_no_attempt_and_what_is_gone_from_it_ends_its_render(world: World<A>) {
        let mut large = render("a");
        large.request.input_props = serde_json::from_value(serde_json::json!({"text": "x".repeat(200_000)})).unwrap();
        let a = world.accept("ann", large).await;
        let options = Options { bucket: "away".into(), ..world.subject.options.clone() };
        let other = world.subject.another(&world.clock, options).await;
        let (body, _) = ring(&world).await.unwrap();
        other.answer(&body, "other").await.unwrap_err();
        assert_eq!((world.status(a.id).await, world.look(a.id).await.leases), (Status::Queued, 0));
        let s3 = aws_sdk_s3::config::Builder::from(&world.subject.sdk).force_path_style(true).build();
        let delete = aws_sdk_s3::Client::from_conf(s3).delete_object().bucket(&world.subject.options.bucket);
        delete.key(format!("requests/{}.json", a.id)).send().await.unwrap();
        world.claims_nothing().await;
        assert_eq!(world.look(a.id).await.error.unwrap().code, "request_unreadable");
    }

    async fn a_letter_of_a_render_that_was_cancelled_since_does_not_bring_it_back(world: World<A>) {
        let failed = world.failed("ann", render("a")).await;
        let body = letter(&world).await.unwrap();
        world.retry(failed.id).await.unwrap();
        world.cancel(failed.id).await.unwrap();
        assert!(world.subject.queue.answer(&body, "late").await.unwrap().is_none());
        assert_eq!(world.status(failed.id).await, Status::Cancelled);
        world.claims_nothing().await;
    }

    async fn a_resume_that_dies_half_way_is_finished_by_the_sweep(world: World<A>) {
        let renders = world.accept_many("ann", 3, render("a")).await;
        world.pauses(&Pausable::Queue).await;
        world.claims_nothing().await;
        let options = Options { queue_url: format!("{}-gone", world.subject.options.queue_url), ..world.subject.options.clone() };
        let dies = world.subject.another(&world.clock, options).await;
        dies.resume(Pausable::Queue).await.unwrap();
        world.claims_nothing().await;
        world.sweep().await;
        world.claims_all_of(&renders.iter().collect::<Vec<_>>()).await;
    }
}
