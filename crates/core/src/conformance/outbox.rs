//! What is owed when renders end: to whom, how often, and in which order it is taken.

use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::SignedDuration;
use serde_json::json;

use super::{Asks as _, LONG, MINUTE, MOMENT, RETRY, World, group, passing, permanent, render, succeeded};
use crate::notice::{Channel, NotifyOptions, WebhookOptions};
use crate::outbox::{
    Delivery, DeliveryCounts, DeliveryFilter, DeliveryId, DeliveryStatus, Due, Ended, NoticeDefaults,
    RedeliverError, Room, Route, Secret, Settled, TenantNotices, TenantSecret, Try,
};
use crate::ports::NewRender;
use crate::{Outcome, Render, Status, TenantId};

/// How long a delivery is held here.
const HOLD: Duration = Duration::from_secs(30);
/// Room for all there is.
const ROOM: Room = Room::for_each(1_000);

fn webhook(url: &str) -> WebhookOptions {
    WebhookOptions { url: url.into(), secret: None, custom_data: None }
}

/// A render that tells a webhook there.
fn telling(composition: &str, url: &str) -> NewRender {
    let mut new = render(composition);
    new.request.webhook = Some(webhook(url));
    new
}

/// A render that tells `https://a.example/`.
fn told(composition: &str) -> NewRender {
    telling(composition, "https://a.example/")
}

fn went(world: &World, error: Option<&str>) -> Try {
    Try { at: world.now(), took_ms: 12, code: Some(503), error: error.map(str::to_owned) }
}

async fn take(world: &World, room: Room) -> Vec<Due> {
    world.outbox().take_due(room, HOLD).await.unwrap()
}

async fn take_all(world: &World) -> Vec<Due> {
    take(world, ROOM).await
}

/// The one that is due.
async fn take_one(world: &World) -> Due {
    let mut due = take_all(world).await;
    assert_eq!(due.len(), 1, "{due:?}");
    due.remove(0)
}

async fn settle(world: &World, due: &Due, settled: Settled) -> bool {
    let error = (settled != Settled::Delivered).then_some("service unavailable");
    world.outbox().settle(due.delivery.id, due.token, went(world, error), settled).await.unwrap()
}

async fn ends(world: &World, new: NewRender, outcome: Outcome) -> Render {
    let render = world.accept("ann", new).await;
    world.end(&world.claims(&render).await, outcome).await;
    world.look(render.id).await
}

async fn deliveries(world: &World) -> Vec<Delivery> {
    world.outbox().deliveries(DeliveryFilter { limit: 1_000, ..DeliveryFilter::default() }).await.unwrap()
}

fn to(tenant: &str, endpoint: &str) -> Route {
    Route { channel: Channel::Webhook, tenant: TenantId::new(tenant), endpoint: endpoint.into() }
}

fn renders(due: &[Due]) -> Vec<&str> {
    due.iter().map(|due| due.request.composition.as_str()).collect()
}

pub(super) async fn what_is_owed_says_how_the_render_ended_and_what_was_asked_for(world: World) {
    let mut new = told("a");
    let data = json!({"order": 7}).as_object().cloned();
    new.request.webhook = Some(WebhookOptions {
        secret: Some("own".into()),
        custom_data: data.clone(),
        ..webhook("https://a.example/x")
    });
    let accepted = world.accept("ann", new.clone()).await;
    let lease = world.claims(&accepted).await;
    world.clock.advance(MINUTE);
    world.succeed(&lease).await;
    let a = world.look(accepted.id).await;
    let due = take_one(&world).await;
    let ended = Ended {
        status: Status::Succeeded,
        error: None,
        output: a.output.clone(),
        created_at: a.created_at,
        started_at: a.started_at,
        finished_at: a.finished_at.unwrap(),
        kind: a.kind,
    };
    assert_eq!((due.ended, due.request), (ended, new.request));
    assert_eq!((due.notice.channel, due.notice.target.as_str()), (Channel::Webhook, "https://a.example/x"));
    assert_eq!((due.notice.custom_data, due.secrets), (data, vec![Secret("own".into())]));
    let delivery = due.delivery;
    assert_eq!((delivery.render, delivery.tenant.as_str()), (a.id, "ann"));
    assert_eq!((delivery.endpoint.as_str(), delivery.channel), ("a.example:443", Channel::Webhook));
    assert_eq!((delivery.status, delivery.ended), (DeliveryStatus::Pending, Status::Succeeded));
    assert_eq!((delivery.created_at, delivery.tries), (world.now(), 0));
}

pub(super) async fn who_asked_to_be_told_nothing_is_owed_nothing(world: World) {
    ends(&world, render("a"), succeeded()).await;
    let mut nobody = render("b");
    nobody.request.notify = Some(NotifyOptions::default());
    ends(&world, nobody, succeeded()).await;
    assert_eq!((take_all(&world).await.len(), deliveries(&world).await), (0, Vec::new()));
}

pub(super) async fn each_whom_a_request_names_is_owed_for_itself(world: World) {
    let mut new = told("a");
    let email = vec!["anna@b.example".into(), "bert@c.example".into()];
    new.request.notify = Some(NotifyOptions { email });
    ends(&world, new, succeeded()).await;
    let mut targets: Vec<_> = take_all(&world).await.into_iter().map(|due| due.notice.target).collect();
    targets.sort();
    assert_eq!(targets, ["anna@b.example", "bert@c.example", "https://a.example/"]);
}

pub(super) async fn what_is_owed_is_owed_after_a_restart(mut world: World) {
    let a = ends(&world, told("a"), permanent()).await;
    world.reopen().await;
    let due = take_one(&world).await;
    assert_eq!((due.delivery.render, due.ended.error), (a.id, a.error));
}

pub(super) async fn every_way_a_render_can_end_owes(mut world: World) {
    ends(&world, told("succeeds"), succeeded()).await;
    ends(&world, told("fails"), permanent()).await;
    ends(&world, told("uses up its attempts").with_attempts(1), passing()).await;
    let queued = world.accept("ann", told("is cancelled while queued")).await;
    world.cancel(queued.id).await.unwrap();
    ends(&world, told("stops"), Outcome::Cancelled).await;
    let dies = world.accept("ann", told("is cancelled and its holder dies")).await;
    world.claims(&dies).await;
    world.cancel(dies.id).await.unwrap();
    world.pass(LONG).await;
    assert_eq!(world.status(dies.id).await, Status::Cancelled);
    let stopped = world.accept("ann", told("is cancelled and the server dies")).await;
    world.claims(&stopped).await;
    world.cancel(stopped.id).await.unwrap();
    world.dies().await;
    let kills = world.accept("ann", told("keeps killing its worker")).await;
    for _ in 0..RETRY.max_lost {
        world.claims(&kills).await;
        world.pass(LONG).await;
    }
    assert_eq!(world.status(kills.id).await, Status::Failed);
    let due = take_all(&world).await;
    let how: Vec<_> =
        due.iter().map(|due| (due.request.composition.as_str(), due.ended.status.as_str())).collect();
    let expected = [
        ("succeeds", "succeeded"),
        ("fails", "failed"),
        ("uses up its attempts", "failed"),
        ("is cancelled while queued", "cancelled"),
        ("stops", "cancelled"),
        ("is cancelled and its holder dies", "cancelled"),
        ("is cancelled and the server dies", "cancelled"),
        ("keeps killing its worker", "failed"),
    ];
    assert_eq!(how, expected);
}

pub(super) async fn nothing_is_owed_while_a_render_goes_on(world: World) {
    let a = world.accept("ann", told("a")).await;
    let lease = world.claims(&a).await;
    assert_eq!(world.end(&lease, passing()).await, Status::Queued);
    world.pass(LONG).await;
    let lease = world.claims(&a).await;
    world.cancel(a.id).await.unwrap();
    assert_eq!(deliveries(&world).await, []);
    world.end(&lease, Outcome::Cancelled).await;
    assert_eq!(deliveries(&world).await.len(), 1);
}

pub(super) async fn a_retry_that_ends_owes_again_and_what_was_owed_before_stays_as_it_was(world: World) {
    let a = ends(&world, told("a"), permanent()).await;
    world.retry(a.id).await.unwrap();
    let first = take_one(&world).await;
    assert_eq!((first.ended.status, first.ended.error.as_ref()), (Status::Failed, a.error.as_ref()));
    world.clock.advance(HOLD / 2);
    world.succeed(&world.claims(&a).await).await;
    let second = take_one(&world).await;
    assert_eq!((second.ended.status, second.ended.finished_at), (Status::Succeeded, world.now()));
    assert!(second.delivery.id > first.delivery.id);
    assert!(settle(&world, &first, Settled::Delivered).await);
    assert!(settle(&world, &second, Settled::Delivered).await);
}

pub(super) async fn what_is_taken_is_not_taken_twice(world: World) {
    ends(&world, told("a"), succeeded()).await;
    let due = take_one(&world).await;
    assert_eq!(take_all(&world).await.len(), 0);
    assert!(settle(&world, &due, Settled::Delivered).await);
    assert_eq!(take_all(&world).await.len(), 0);
    assert!(!settle(&world, &due, Settled::Retry(MOMENT)).await, "it is settled already");
    let (delivery, tries) = world.outbox().delivery(due.delivery.id).await.unwrap().unwrap();
    assert_eq!(
        (delivery.status, delivery.tries, tries),
        (DeliveryStatus::Delivered, 1, vec![went(&world, None)])
    );
    assert_eq!(delivery.next_try_at, None);
}

pub(super) async fn a_hold_ends_and_who_is_late_changes_nothing(world: World) {
    ends(&world, told("a"), succeeded()).await;
    let late = take_one(&world).await;
    world.clock.advance(HOLD - MOMENT);
    assert_eq!(take_all(&world).await.len(), 0);
    world.clock.advance(MOMENT);
    let next = take_one(&world).await;
    assert_eq!(next.delivery.id, late.delivery.id);
    assert!(!settle(&world, &late, Settled::Delivered).await);
    assert_eq!(world.outbox().delivery(late.delivery.id).await.unwrap().unwrap().1, []);
    assert!(settle(&world, &next, Settled::Delivered).await);
}

pub(super) async fn no_hold_outlives_the_process_that_took_it(mut world: World) {
    ends(&world, told("a"), succeeded()).await;
    let before = take_one(&world).await;
    world.reopen().await;
    if world.capabilities().shared {
        // Who took it may still be about.
        assert_eq!(take_all(&world).await.len(), 0);
        world.clock.advance(HOLD);
    }
    let after = take_one(&world).await;
    assert_eq!(after.delivery.id, before.delivery.id);
    assert!(!settle(&world, &before, Settled::Failed).await);
}

pub(super) async fn no_jump_of_the_clock_ends_a_hold(world: World) {
    if world.capabilities().shared {
        return;
    }
    ends(&world, told("a"), succeeded()).await;
    let due = take_one(&world).await;
    for days in [2, -4] {
        world.jump(SignedDuration::from_hours(24 * days)).await;
        assert_eq!(take_all(&world).await.len(), 0);
    }
    assert!(settle(&world, &due, Settled::Delivered).await);
}

pub(super) async fn what_is_to_be_tried_again_waits_so_long_restarts_or_not(mut world: World) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    ends(&world, told("a"), succeeded()).await;
    let due = take_one(&world).await;
    assert!(settle(&world, &due, Settled::Retry(DAY)).await);
    let at = world.now() + DAY;
    world.reopen().await;
    world.clock.advance(DAY - MOMENT);
    assert_eq!(take_all(&world).await.len(), 0);
    let delivery = deliveries(&world).await.remove(0);
    assert_eq!((delivery.next_try_at, delivery.tries), (Some(at), 1));
    world.clock.advance(MOMENT);
    let again = take_one(&world).await;
    assert_eq!((again.delivery.id, again.delivery.tries), (due.delivery.id, 1));
    assert!(settle(&world, &again, Settled::Failed).await);
    let (delivery, tries) = world.outbox().delivery(due.delivery.id).await.unwrap().unwrap();
    assert_eq!((delivery.status, delivery.tries, tries.len()), (DeliveryStatus::Failed, 2, 2));
}

pub(super) async fn room_is_kept(world: World) {
    for (composition, host) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c"), ("c2", "c")]
    {
        ends(&world, telling(composition, &format!("https://{host}.example/")), succeeded()).await;
        world.clock.advance(MOMENT);
    }
    let named = vec![(to("ann", "b.example:443"), 0), (to("ann", "c.example:443"), 1)];
    let due = take(&world, Room { webhooks: 3, each: 2, named, ..ROOM }).await;
    assert_eq!(
        renders(&due),
        ["a1", "a2", "c1"],
        "first where the least is under way, then who has waited longest"
    );
    let due = take(&world, Room { webhooks: 2, each: 9, ..ROOM }).await;
    assert_eq!(renders(&due), ["b1", "c2"]);
    assert_eq!(take(&world, Room { webhooks: 0, ..ROOM }).await.len(), 0);
}

pub(super) async fn an_endpoint_with_much_owed_delays_no_other(world: World) {
    for number in 0..20 {
        ends(&world, telling(&format!("dead-{number}"), "https://dead.example/"), succeeded()).await;
    }
    world.clock.advance(MINUTE);
    ends(&world, told("alive"), succeeded()).await;
    let due = take(&world, Room::for_each(4)).await;
    assert!(renders(&due).contains(&"alive"), "{:?}", renders(&due));
    let named = vec![(to("ann", "dead.example:443"), 0)];
    assert_eq!(take(&world, Room { named, ..ROOM }).await.len(), 0);
}

pub(super) async fn a_tenant_with_much_owed_delays_no_other_at_the_same_endpoint(world: World) {
    for number in 0..20 {
        ends(&world, telling(&format!("dead-{number}"), "https://shared.example/dead"), succeeded()).await;
    }
    world.clock.advance(MINUTE);
    let bobs = world.accept("bob", telling("bobs", "https://shared.example/alive")).await;
    world.end(&world.claims(&bobs).await, succeeded()).await;
    let due = take(&world, Room::for_each(4)).await;
    assert!(renders(&due).contains(&"bobs"), "{:?}", renders(&due));
    assert_eq!(due.len(), 4);
    for due in due {
        assert!(settle(&world, &due, Settled::Retry(Duration::ZERO)).await);
    }
    world.clock.advance(MOMENT);
    let named = vec![(to("ann", "shared.example:443"), 0)];
    assert_eq!(renders(&take(&world, Room { named, ..ROOM }).await), ["bobs"]);
}

pub(super) async fn mails_and_webhooks_are_in_nobodys_way(world: World) {
    let mut both = told("both");
    both.request.notify = Some(NotifyOptions { email: vec!["ann@a.example".into()] });
    ends(&world, both, succeeded()).await;
    let channels = |due: Vec<Due>| due.iter().map(|due| due.delivery.channel).collect::<Vec<_>>();
    assert_eq!(channels(take(&world, Room { mails: 0, ..ROOM }).await), [Channel::Webhook]);
    assert_eq!(channels(take(&world, Room { webhooks: 0, ..ROOM }).await), [Channel::Email]);
}

pub(super) async fn who_asks_learns_when_the_next_is_due(world: World) {
    let outbox = world.outbox();
    assert_eq!(outbox.next_due(world.now()).await.unwrap(), None);
    ends(&world, told("a"), succeeded()).await;
    let a = take_one(&world).await;
    assert_eq!(outbox.next_due(world.now()).await.unwrap(), Some(world.now() + HOLD), "a hold ends");
    assert!(settle(&world, &a, Settled::Retry(MINUTE)).await);
    let first = world.now() + MINUTE;
    assert_eq!(outbox.next_due(world.now()).await.unwrap(), Some(first));
    ends(&world, told("b"), succeeded()).await;
    let b = take_one(&world).await;
    assert!(settle(&world, &b, Settled::Retry(2 * MINUTE)).await);
    assert_eq!(outbox.next_due(first).await.unwrap(), Some(first + MINUTE), "the first is not told again");
    assert_eq!(outbox.next_due(first + MINUTE).await.unwrap(), None);
}

pub(super) async fn who_waits_hears_of_what_is_owed_also_when_it_came_before(world: World) {
    let outbox = world.outbox();
    let hears = async |what: &str, expected: bool| {
        assert_eq!(outbox.owed().now_or_never().is_some(), expected, "{what}");
    };
    let a = world.accept("ann", told("a")).await;
    let lease = world.claims(&a).await;
    hears("nothing has ended", false).await;
    futures_util::future::join(outbox.owed(), world.succeed(&lease)).await;
    hears("once is enough", false).await;
    ends(&world, told("b"), succeeded()).await;
    hears("it came before", true).await;
    ends(&world, render("c"), succeeded()).await;
    hears("nobody is told of this one", false).await;
    for due in take_all(&world).await {
        assert!(settle(&world, &due, Settled::Failed).await);
        outbox.redeliver(due.delivery.id).await.unwrap();
    }
    hears("it is owed again", true).await;
}

pub(super) async fn what_was_settled_can_be_owed_again_with_all_its_tries(mut world: World) {
    let unknown = world.outbox().redeliver(DeliveryId(1)).await;
    assert!(matches!(unknown, Err(RedeliverError::NotFound)), "{unknown:?}");
    ends(&world, told("a"), succeeded()).await;
    let first = take_one(&world).await;
    let pending = world.outbox().redeliver(first.delivery.id).await;
    assert!(matches!(pending, Err(RedeliverError::Pending)), "{pending:?}");
    for settled in [Settled::Failed, Settled::Delivered] {
        let due = match settled {
            Settled::Failed => first.clone(),
            _ => take_one(&world).await,
        };
        assert!(settle(&world, &due, settled).await);
        let again = world.outbox().redeliver(first.delivery.id).await.unwrap();
        assert_eq!((again.status, again.tries), (DeliveryStatus::Pending, 0));
        assert_eq!(again.next_try_at, Some(world.now()));
        assert!(!settle(&world, &due, Settled::Failed).await, "it is another's now");
        world.reopen().await;
    }
    let due = take_one(&world).await;
    assert_eq!((&due.ended, due.delivery.id), (&first.ended, first.delivery.id));
    assert_eq!(world.outbox().delivery(first.delivery.id).await.unwrap().unwrap().1.len(), 2);
}

pub(super) async fn deliveries_are_told_newest_first_and_can_be_narrowed_and_paged(world: World) {
    for composition in ["a", "b", "c"] {
        ends(&world, told(composition), succeeded()).await;
    }
    let bobs = world.accept("bob", told("d")).await;
    world.succeed(&world.claims(&bobs).await).await;
    let all = deliveries(&world).await;
    let ids: Vec<_> = all.iter().map(|delivery| delivery.id).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");
    assert_eq!(all[0].render, bobs.id);
    for due in take_all(&world).await {
        match due.request.composition.as_str() {
            "a" => assert!(settle(&world, &due, Settled::Delivered).await),
            "d" => assert!(settle(&world, &due, Settled::Failed).await),
            _ => {}
        }
    }
    let found = async |filter: DeliveryFilter| -> Vec<DeliveryId> {
        let found = world.outbox().deliveries(DeliveryFilter { limit: 10, ..filter }).await.unwrap();
        found.into_iter().map(|delivery| delivery.id).collect()
    };
    let any = DeliveryFilter::default;
    let ann = || Some(TenantId::new("ann"));
    let status = |status| DeliveryFilter { status: Some(status), ..any() };
    assert_eq!(found(DeliveryFilter { tenant: ann(), ..any() }).await, ids[1..]);
    assert_eq!(found(DeliveryFilter { tenant: Some(TenantId::new("nobody")), ..any() }).await, []);
    assert_eq!(found(DeliveryFilter { render: Some(bobs.id), ..any() }).await, ids[..1]);
    assert_eq!(found(DeliveryFilter { render: Some(bobs.id), tenant: ann(), ..any() }).await, []);
    assert_eq!(found(DeliveryFilter { before: Some(ids[1]), ..any() }).await, ids[2..]);
    assert_eq!(found(status(DeliveryStatus::Delivered)).await, ids[3..]);
    assert_eq!(found(status(DeliveryStatus::Failed)).await, ids[..1]);
    assert_eq!(found(DeliveryFilter { tenant: ann(), ..status(DeliveryStatus::Pending) }).await, ids[1..3]);
    let two = DeliveryFilter { limit: 2, ..any() };
    assert_eq!(world.outbox().deliveries(two).await.unwrap().len(), 2);
    assert_eq!(world.outbox().delivery(DeliveryId(i64::MAX)).await.unwrap(), None);
}

pub(super) async fn they_are_counted(mut world: World) {
    let counts = async |world: &World| world.outbox().delivery_counts().await.unwrap();
    assert_eq!(counts(&world).await, DeliveryCounts::default());
    let mut ended = Vec::new();
    for composition in ["a", "b", "c", "d"] {
        ended.push(ends(&world, told(composition), succeeded()).await.id);
    }
    let due = take_all(&world).await;
    assert!(settle(&world, &due[0], Settled::Delivered).await);
    assert!(settle(&world, &due[1], Settled::Failed).await);
    assert!(settle(&world, &due[2], Settled::Retry(MINUTE)).await);
    assert_eq!(counts(&world).await, DeliveryCounts { pending: 2, delivered: 1, failed: 1 });
    world.outbox().redeliver(due[1].delivery.id).await.unwrap();
    world.reopen().await;
    assert_eq!(counts(&world).await, DeliveryCounts { pending: 3, delivered: 1, failed: 0 });
    assert_eq!(world.forget(vec![due[0].delivery.render]).await.unwrap(), 1);
    assert_eq!(counts(&world).await, DeliveryCounts { pending: 3, delivered: 0, failed: 0 });
}

pub(super) async fn a_render_is_not_forgotten_while_it_owes_and_then_with_what_it_owed(world: World) {
    let a = ends(&world, told("a"), succeeded()).await;
    let b = ends(&world, render("b"), succeeded()).await;
    let due = take_one(&world).await;
    world.clock.advance(MINUTE);
    let ended = async || {
        let ended = world.ended_before(world.now(), 1).await.unwrap();
        ended.into_iter().map(|render| render.id).collect::<Vec<_>>()
    };
    assert_eq!(ended().await, [b.id], "one that owes is in the way of no other");
    assert_eq!(world.forget(vec![a.id, b.id]).await.unwrap(), 1);
    assert_eq!(deliveries(&world).await.len(), 1);
    // The hold is over, and nobody else has taken it.
    assert!(settle(&world, &due, Settled::Failed).await);
    assert_eq!(ended().await, [a.id]);
    assert_eq!(world.forget(vec![a.id]).await.unwrap(), 1);
    assert_eq!(deliveries(&world).await, []);
    assert_eq!(world.outbox().delivery(due.delivery.id).await.unwrap(), None);
    assert!(!settle(&world, &due, Settled::Delivered).await);
    // A name is never given twice.
    ends(&world, told("c"), succeeded()).await;
    assert!(deliveries(&world).await[0].id > due.delivery.id);
}

pub(super) async fn what_holds_its_group_owes_all_the_same(world: World) {
    let first = told("first").in_group("g").holding_its_group();
    ends(&world, first, permanent()).await;
    assert_eq!(take_one(&world).await.ended.status, Status::Failed);
    if world.capabilities().pauses {
        world.resumes(&group("g")).await;
    }
    assert_eq!(deliveries(&world).await.len(), 1);
}

fn secret(id: &str, world: &World) -> TenantSecret {
    TenantSecret { id: id.into(), secret: Secret(format!("whsec_{id}")), created_at: world.now() }
}

pub(super) async fn what_a_tenant_has_set_is_there_after_a_restart_and_its_own(mut world: World) {
    let (ann, bob) = (TenantId::new("ann"), TenantId::new("bob"));
    let nothing = TenantNotices::default();
    assert_eq!(world.outbox().tenant_notices(&ann).await.unwrap(), nothing);
    let defaults = NoticeDefaults {
        webhook_url: Some("https://a.example/token".into()),
        email: vec!["anna@example.com".into()],
    };
    world.outbox().set_notice_defaults(&ann, defaults.clone()).await.unwrap();
    let secrets = vec![secret("one", &world)];
    assert!(world.outbox().add_secret(&ann, secrets[0].clone()).await.unwrap());
    world.reopen().await;
    let set = TenantNotices { defaults, secrets };
    assert_eq!(world.outbox().tenant_notices(&ann).await.unwrap(), set);
    assert_eq!(world.outbox().tenant_notices(&bob).await.unwrap(), nothing);
    assert_eq!(world.outbox().tenant_notices(&TenantId::new("never seen")).await.unwrap(), nothing);
    world.outbox().set_notice_defaults(&ann, NoticeDefaults::default()).await.unwrap();
    let set = TenantNotices { defaults: NoticeDefaults::default(), ..set };
    assert_eq!(world.outbox().tenant_notices(&ann).await.unwrap(), set, "secrets stay");
    let newcomer = TenantId::new("newcomer");
    assert!(world.outbox().add_secret(&newcomer, secret("one", &world)).await.unwrap());
    assert_eq!(world.outbox().tenant_notices(&newcomer).await.unwrap().secrets.len(), 1);
}

pub(super) async fn a_tenant_has_two_secrets_at_most_each_of_its_own_name(world: World) {
    let ann = TenantId::new("ann");
    let add = async |id: &str| world.outbox().add_secret(&ann, secret(id, &world)).await.unwrap();
    assert!(add("one").await);
    assert!(!add("one").await);
    assert!(add("two").await);
    assert!(!add("three").await);
    assert!(!world.outbox().remove_secret(&ann, "three").await.unwrap());
    assert!(world.outbox().remove_secret(&ann, "one").await.unwrap());
    assert!(add("three").await);
    let left = world.outbox().tenant_notices(&ann).await.unwrap().secrets;
    assert_eq!(left.iter().map(|secret| secret.id.as_str()).collect::<Vec<_>>(), ["two", "three"]);
}

pub(super) async fn webhooks_are_signed_with_what_is_active_when_they_go_out(world: World) {
    let ann = TenantId::new("ann");
    ends(&world, told("a"), succeeded()).await;
    let mut mail = render("mail");
    mail.request.notify = Some(NotifyOptions { email: vec!["anna@example.com".into()] });
    for id in ["one", "two"] {
        assert!(world.outbox().add_secret(&ann, secret(id, &world)).await.unwrap());
    }
    let due = take_one(&world).await;
    assert_eq!(due.secrets, [Secret("whsec_one".into()), Secret("whsec_two".into())], "the oldest first");
    assert!(settle(&world, &due, Settled::Retry(MINUTE)).await);
    assert!(world.outbox().remove_secret(&ann, "one").await.unwrap());
    world.clock.advance(MINUTE);
    assert_eq!(take_one(&world).await.secrets, [Secret("whsec_two".into())]);
    ends(&world, mail, succeeded()).await;
    assert_eq!(take_one(&world).await.secrets, [], "a mail is not signed");
    let bobs = world.accept("bob", told("b")).await;
    world.succeed(&world.claims(&bobs).await).await;
    assert_eq!(take_one(&world).await.secrets, [], "they are its own");
}
