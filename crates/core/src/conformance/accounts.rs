//! People, their sessions, and the tokens of programs.

use std::time::Duration;

use super::{MINUTE, MOMENT, World};
use crate::TenantId;
use crate::accounts::{AddUserError, ApiToken, Renewal, Scope, Scopes, SecretHash, Session, User};

/// The PHC string of nobody knows what.
const PHC: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA";
/// What a session begins with here.
const FIRST: SecretHash = [1; 32];
/// What takes its place.
const SECOND: SecretHash = [2; 32];
/// Nobody's.
const WRONG: SecretHash = [9; 32];

fn person(world: &World, id: &str, email: &str) -> User {
    User {
        id: id.into(),
        email: email.into(),
        tenant: TenantId::new("ann"),
        scopes: Scopes::USUAL,
        disabled: false,
        created_at: world.now(),
    }
}

fn token(world: &World, id: &str) -> ApiToken {
    ApiToken {
        id: id.into(),
        name: "ci of Größe 7".into(),
        tenant: TenantId::new("ann"),
        scopes: Scopes::from_iter([Scope::RendersRead, Scope::SitesWrite]),
        created_at: world.now(),
        expires_at: None,
        revoked_at: None,
    }
}

/// Somebody with the password [`PHC`].
async fn add(world: &World, id: &str, email: &str) -> User {
    let user = person(world, id, email);
    world.accounts().add_user(user.clone(), PHC.into()).await.unwrap();
    user
}

/// Starts a session of a minute; whether it was started.
async fn start(world: &World, id: &str, user: &User, password: &str) -> bool {
    let session = Session { id: id.into(), user: user.id.clone(), expires_at: world.now() + MINUTE };
    world.accounts().start_session(session, FIRST, password.into()).await.unwrap()
}

async fn renew(world: &World, id: &str, shown: SecretHash, next: SecretHash) -> Renewal {
    world.accounts().renew_session(id, shown, next, world.now() + MINUTE).await.unwrap()
}

pub(super) async fn a_person_is_there_as_they_were_after_a_restart(mut world: World) {
    let ana = add(&world, "u1", "ana@example.com").await;
    world.reopen().await;
    assert_eq!(world.accounts().user("u1").await.unwrap(), Some(ana.clone()));
    let found = world.accounts().user_by_email("ana@example.com").await.unwrap();
    assert_eq!(found, Some((ana, PHC.to_owned())));
    assert_eq!(world.accounts().user("ana@example.com").await.unwrap(), None);
    assert_eq!(world.accounts().user_by_email("u1").await.unwrap(), None);
}

pub(super) async fn an_address_is_one_persons(world: World) {
    let ana = add(&world, "u1", "ana@example.com").await;
    let again = world.accounts().add_user(person(&world, "u2", "ana@example.com"), "other".into()).await;
    assert!(matches!(again, Err(AddUserError::Exists)), "{again:?}");
    assert_eq!(world.accounts().users().await.unwrap(), [ana]);
    assert_eq!(world.accounts().user_by_email("ana@example.com").await.unwrap().unwrap().1, PHC);
}

pub(super) async fn people_are_listed_by_address(world: World) {
    for (id, email) in [("u1", "cid@example.com"), ("u2", "ana@example.com"), ("u3", "bob@example.com")] {
        add(&world, id, email).await;
    }
    let all = world.accounts().users().await.unwrap();
    let ids: Vec<_> = all.iter().map(|user| user.id.as_str()).collect();
    assert_eq!(ids, ["u2", "u3", "u1"]);
}

pub(super) async fn what_is_not_changed_of_a_person_stays(world: World) {
    let ana = add(&world, "u1", "ana@example.com").await;
    let bob = add(&world, "u2", "bob@example.com").await;
    let change = async |scopes, disabled| {
        world.accounts().change_user("ana@example.com", scopes, disabled).await.unwrap().unwrap()
    };
    assert_eq!(change(None, None).await, ana);
    let admin = Scopes::from_iter([Scope::Admin]);
    let ana = User { scopes: admin, ..ana };
    assert_eq!(change(Some(admin), None).await, ana);
    let ana = User { disabled: true, ..ana };
    assert_eq!(change(None, Some(true)).await, ana);
    assert!(world.accounts().set_password("ana@example.com", "other".into()).await.unwrap());
    let found = world.accounts().user_by_email("ana@example.com").await.unwrap();
    assert_eq!(found, Some((ana, "other".to_owned())));
    assert_eq!(world.accounts().user_by_email("bob@example.com").await.unwrap(), Some((bob, PHC.into())));
    assert_eq!(world.accounts().change_user("nobody", Some(admin), None).await.unwrap(), None);
    assert!(!world.accounts().set_password("nobody", "other".into()).await.unwrap());
}

pub(super) async fn a_session_goes_on_by_a_new_secret_each_time(mut world: World) {
    let ana = add(&world, "u1", "ana@example.com").await;
    assert!(start(&world, "s1", &ana, PHC).await);
    world.reopen().await;
    for (shown, next) in [(FIRST, SECOND), (SECOND, [3; 32]), ([3; 32], [4; 32])] {
        // Each use puts its end off.
        world.pass(MINUTE - MOMENT).await;
        assert_eq!(renew(&world, "s1", shown, next).await, Renewal::Renewed(ana.clone()));
    }
    assert_eq!(renew(&world, "s2", FIRST, SECOND).await, Renewal::Unknown);
}

pub(super) async fn a_secret_that_was_replaced_ends_its_session_and_no_other(world: World) {
    let ana = add(&world, "u1", "ana@example.com").await;
    for id in ["s1", "s2"] {
        assert!(start(&world, id, &ana, PHC).await);
    }
    renew(&world, "s1", FIRST, SECOND).await;
    assert_eq!(renew(&world, "s1", FIRST, WRONG).await, Renewal::Reused);
    assert_eq!(renew(&world, "s1", SECOND, WRONG).await, Renewal::Unknown);
    assert_eq!(renew(&world, "s2", FIRST, SECOND).await, Renewal::Renewed(ana));
}

pub(super) async fn a_session_ends_when_it_is_not_used_in_time(world: World) {
    let ana = add(&world, "u1", "ana@example.com").await;
    assert!(start(&world, "s1", &ana, PHC).await);
    world.pass(MINUTE).await;
    assert_eq!(renew(&world, "s1", FIRST, SECOND).await, Renewal::Unknown);
    assert!(start(&world, "s2", &ana, PHC).await);
    assert_eq!(renew(&world, "s1", FIRST, SECOND).await, Renewal::Unknown);
}

pub(super) async fn a_session_starts_by_the_password_that_is_good_now_alone(world: World) {
    let ana = add(&world, "u1", "ana@example.com").await;
    assert!(world.accounts().set_password("ana@example.com", "other".into()).await.unwrap());
    // Whoever was being looked at while it was changed.
    assert!(!start(&world, "s1", &ana, PHC).await);
    assert!(!start(&world, "s1", &person(&world, "u2", "bob@example.com"), PHC).await);
    assert_eq!(renew(&world, "s1", FIRST, SECOND).await, Renewal::Unknown);
    assert!(start(&world, "s1", &ana, "other").await);
}

pub(super) async fn another_password_ends_the_sessions_of_that_person(world: World) {
    let ana = add(&world, "u1", "ana@example.com").await;
    let bob = add(&world, "u2", "bob@example.com").await;
    for (id, user) in [("s1", &ana), ("s2", &ana), ("s3", &bob)] {
        assert!(start(&world, id, user, PHC).await);
    }
    world.accounts().set_password("ana@example.com", "other".into()).await.unwrap();
    for id in ["s1", "s2"] {
        assert_eq!(renew(&world, id, FIRST, SECOND).await, Renewal::Unknown);
    }
    assert_eq!(renew(&world, "s3", FIRST, SECOND).await, Renewal::Renewed(bob));
}

pub(super) async fn whoever_is_disabled_has_no_session_and_gets_none_back(world: World) {
    let ana = add(&world, "u1", "ana@example.com").await;
    assert!(start(&world, "s1", &ana, PHC).await);
    world.accounts().change_user("ana@example.com", None, Some(true)).await.unwrap();
    assert!(!start(&world, "s2", &ana, PHC).await);
    world.accounts().change_user("ana@example.com", None, Some(false)).await.unwrap();
    for id in ["s1", "s2"] {
        assert_eq!(renew(&world, id, FIRST, SECOND).await, Renewal::Unknown);
    }
    assert!(start(&world, "s2", &ana, PHC).await);
}

pub(super) async fn only_who_has_the_secret_of_a_session_ends_it(world: World) {
    let ana = add(&world, "u1", "ana@example.com").await;
    for id in ["s1", "s2"] {
        assert!(start(&world, id, &ana, PHC).await);
    }
    world.accounts().end_session("s1", WRONG).await.unwrap();
    assert_eq!(renew(&world, "s1", FIRST, SECOND).await, Renewal::Renewed(ana.clone()));
    for _ in 0..2 {
        world.accounts().end_session("s1", SECOND).await.unwrap();
    }
    assert_eq!(renew(&world, "s1", SECOND, FIRST).await, Renewal::Unknown);
    assert_eq!(renew(&world, "s2", FIRST, SECOND).await, Renewal::Renewed(ana));
}

pub(super) async fn a_token_is_there_as_it_was_after_a_restart(mut world: World) {
    let lasting = token(&world, "t1");
    let brief = ApiToken { expires_at: Some(world.now() + MINUTE), ..token(&world, "t2") };
    for (token, secret) in [(&lasting, FIRST), (&brief, SECOND)] {
        world.accounts().add_token(token.clone(), secret).await.unwrap();
    }
    world.reopen().await;
    // That it has expired is for others to notice.
    world.pass(2 * MINUTE).await;
    assert_eq!(world.accounts().token("t1").await.unwrap(), Some((lasting, FIRST)));
    assert_eq!(world.accounts().token("t2").await.unwrap(), Some((brief, SECOND)));
    assert_eq!(world.accounts().token("t3").await.unwrap(), None);
}

pub(super) async fn tokens_are_listed_oldest_first_and_those_that_ended_too(world: World) {
    for id in ["t3", "t1", "t2"] {
        let token = ApiToken { expires_at: Some(world.now() + MOMENT), ..token(&world, id) };
        world.accounts().add_token(token, FIRST).await.unwrap();
        world.pass(Duration::from_secs(1)).await;
    }
    world.accounts().revoke_token("t1").await.unwrap();
    let all = world.accounts().tokens().await.unwrap();
    assert_eq!(all.iter().map(|token| token.id.as_str()).collect::<Vec<_>>(), ["t3", "t1", "t2"]);
}

pub(super) async fn revoking_a_token_twice_is_revoking_it_once(world: World) {
    for id in ["t1", "t2"] {
        world.accounts().add_token(token(&world, id), FIRST).await.unwrap();
    }
    let revoked = ApiToken { revoked_at: Some(world.now()), ..token(&world, "t1") };
    for _ in 0..2 {
        assert_eq!(world.accounts().revoke_token("t1").await.unwrap(), Some(revoked.clone()));
        world.pass(MINUTE).await;
    }
    assert_eq!(world.accounts().token("t1").await.unwrap(), Some((revoked, FIRST)));
    assert_eq!(world.accounts().token("t2").await.unwrap().unwrap().0.revoked_at, None);
    assert_eq!(world.accounts().revoke_token("t3").await.unwrap(), None);
}
