//! Requests that make no sense when their turn comes.

use lastframe_core::Status;
use lastframe_core::conformance::{Asks as _, render};

use crate::world::plain;

#[tokio::test]
async fn a_request_that_this_version_cannot_read_fails_and_keeps_nobody_waiting() {
    let world = plain().await;
    // What a newer version might have written, by the store's own hand, so that its checksum fits.
    let change = "CREATE TRIGGER future AFTER INSERT ON request WHEN NEW.body ->> '$.composition' = 'odd' BEGIN \
        UPDATE request SET body = json_set(NEW.body, '$.fromTheFuture', 1) WHERE seq = NEW.seq; END";
    world.subject.sql().execute_batch(change).unwrap();
    let odd = world.accept("ann", render("odd").in_group("g")).await;
    let next = world.accept("ann", render("next").in_group("g")).await;
    world.claims(&next).await;
    let odd = world.look(odd.id).await;
    assert_eq!(
        (odd.status, odd.error.map(|error| error.code)),
        (Status::Failed, Some("request_unreadable".into()))
    );
}
