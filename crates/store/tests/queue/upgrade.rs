//! A database of an earlier version: everything in it is still there, and goes on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lastframe_core::conformance::{behind, group, held_by, key, render, succeeded, tenant};
use lastframe_core::ports::{Counts, Group, Overview, SubmitError};
use lastframe_core::{
    Blocked, Failure, Limits, ManualClock, Outcome, Progress, Render, RenderId, Status, TenantId,
};
use lastframe_store::{OpenError, Store};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use serde_json::json;

use crate::world::{Sqlite, World, keys};

const NOW: &str = "2026-03-01T12:00:00Z";
const ANN: i64 = 1;
const BOB: i64 = 2;

/// Writes a database as the first version did: through its own triggers, a statement after another.
struct First {
    sql: Connection,
    now: i64,
    rng: fastrand::Rng,
}

impl First {
    fn new(folder: &Path) -> Self {
        let sql = Connection::open(folder.join(Store::FILE)).unwrap();
        sql.pragma_update(None, "journal_mode", "WAL").unwrap();
        sql.pragma_update(None, "foreign_keys", true).unwrap();
        sql.execute_batch(include_str!("../../src/migrations/0001_queue.sql")).unwrap();
        sql.pragma_update(None, "user_version", 1).unwrap();
        sql.execute_batch(
            "UPDATE queue SET vtime = 5;
            INSERT INTO tenant (name) VALUES ('ann');
            INSERT INTO tenant (name, weight, max_rendering) VALUES ('bob', 3, 2);
            INSERT INTO render_group (tenant_id, name, paused) VALUES (1, 'paused', 1)",
        )
        .unwrap();
        let now: Timestamp = NOW.parse().unwrap();
        let first = Self { sql, now: now.as_millisecond(), rng: fastrand::Rng::with_seed(1) };
        for tenant in [ANN, BOB] {
            let site = json!({"name": "site", "version": "v1", "remotionVersion": "4.0.527", "renderer": "/renderer",
                "sizeInBytes": 1, "compositions": [], "createdAt": NOW});
            first
                .sql
                .execute(
                    "INSERT INTO site VALUES (?1, 'site', 'v1', 1, ?2)",
                    params![tenant, site.to_string()],
                )
                .unwrap();
        }
        first
    }

    /// A queued render behind that gate. Its id, and its seq.
    fn queued(&mut self, tenant: i64, composition: &str, group: Option<&str>, gate: u32) -> (RenderId, i64) {
        let id = RenderId::generate(Timestamp::from_millisecond(self.now).unwrap(), &mut self.rng);
        let insert = "INSERT INTO render (id, tenant_id, group_name, kind, site, site_version, composition, status, gate,
                on_failure, run_at, max_attempts, created_at)
             VALUES (?1, ?2, ?3, 'media', 'site', 'v1', ?4, 'queued', ?5, 'block', 0, 3, ?6) RETURNING seq";
        let values = params![id.to_string(), tenant, group, composition, gate, self.now];
        let seq = self.sql.query_one(insert, values, |row| row.get(0)).unwrap();
        let body = json!({"composition": composition, "serveUrl": "site"}).to_string();
        self.sql.execute("INSERT INTO request VALUES (?1, ?2)", params![seq, body]).unwrap();
        (id, seq)
    }

    fn update(&self, seq: i64, set: &str) {
        assert_eq!(self.sql.execute(&format!("UPDATE render SET {set} WHERE seq = ?1"), [seq]).unwrap(), 1);
    }

    /// Its first lease, still held if it has no outcome.
    fn attempt(&self, seq: i64, outcome: Option<&str>, error: Option<&str>) {
        let ended = outcome.map(|_| self.now);
        self.update(
            seq,
            &format!("attempt = 1, leases = 1, started_at = {0}, attempt_started_at = {0}", self.now),
        );
        self.sql
            .execute(
                "INSERT INTO attempt VALUES (?1, 1, 'worker', ?2, ?3, ?4, ?5)",
                params![seq, self.now, ended, outcome, error],
            )
            .unwrap();
    }

    fn group(&self, name: &str, head: i64, held_by: Option<i64>) {
        self.sql
            .execute(
                "INSERT INTO render_group (tenant_id, name, head, held_by) VALUES (?1, ?2, ?3, ?4)",
                params![ANN, name, head, held_by],
            )
            .unwrap();
    }
}

fn failure() -> Failure {
    Failure::new("composition_threw", "Größe is \"undefined\"", false)
}

#[tokio::test]
async fn a_database_of_the_first_version_goes_on_with_everything_that_was_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = First::new(folder.path());
    let Outcome::Succeeded(output) = succeeded() else { unreachable!() };
    let error = serde_json::to_string(&failure()).unwrap();
    let progress = serde_json::to_string(&Progress::START).unwrap();
    let now = first.now;

    let (done, seq) = first.queued(ANN, "done", None, 0);
    first.attempt(seq, Some("succeeded"), None);
    let written = serde_json::to_string(&output).unwrap();
    first.update(
        seq,
        &format!("status = 'succeeded', gate = NULL, output = '{written}', finished_at = {now}"),
    );
    let ids = json!([done]).to_string();
    let once = key("k", 7);
    first
        .sql
        .execute(
            "INSERT INTO idempotency VALUES (?1, 'k', ?2, ?3, ?4)",
            params![ANN, once.body_hash, ids, now],
        )
        .unwrap();
    let (cancelled, seq) = first.queued(ANN, "cancelled", None, 0);
    first.update(
        seq,
        &format!("status = 'cancelled', gate = NULL, cancel_requested_at = {now}, finished_at = {now}"),
    );
    let (holder, holding) = first.queued(ANN, "holder", Some("held"), 0);
    first.attempt(holding, Some("failed"), Some(&error));
    first.update(holding, &format!("status = 'failed', gate = NULL, error = '{error}', finished_at = {now}"));
    let (after_holder, seq) = first.queued(ANN, "after holder", Some("held"), 4);
    first.group("held", seq, Some(holding));
    let (rendering, seq) = first.queued(ANN, "rendering", Some("g"), 0);
    first.attempt(seq, None, None);
    first.update(
        seq,
        &format!("status = 'rendering', gate = NULL, lease_token = 'old', lease_deadline = 9, progress = '{progress}',
            checkpoint = '{{\"frames\":30}}'"),
    );
    first.group("g", seq, None);
    let (behind_it, _) = first.queued(ANN, "behind it", Some("g"), 2);
    // The first version kept a back-off as a time before which the render was not to start.
    let (backing_off, seq) = first.queued(ANN, "backing off", None, 1);
    first.attempt(seq, Some("failed"), Some(&error));
    first.update(seq, &format!("run_at = {}, error = '{error}'", now + 30_000));
    let (usual, _) = first.queued(BOB, "usual", None, 0);
    let (urgent, seq) = first.queued(BOB, "urgent", None, 0);
    first.update(seq, "priority = 5");
    let (delayed, seq) = first.queued(BOB, "delayed", None, 1);
    first.update(seq, &format!("run_at = {}", now + 60_000));
    first.sql.close().unwrap();

    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let subject = Box::new(Sqlite::over(folder, keys(), Arc::clone(&clock)).await);
    let world = World { clock, subject, defaults: Limits::default() };
    let sql = world.subject.sql();
    let version: u32 = sql.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert!(version > 1);
    assert!(!sql.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap());
    // Nothing was sealed in that version; of what is secret, no trace is left.
    let secrets: [&[u8]; 4] = [b"serveUrl", b"remotionVersion", b"\"frames\":30", &once.body_hash];
    let shown = |secret: &&[u8]| {
        let file = world.subject.file();
        let log = file.with_file_name(format!("{}-wal", Store::FILE));
        let shows = |file: &Path| {
            std::fs::read(file).unwrap_or_default().windows(secret.len()).any(|part| part == *secret)
        };
        shows(&file) || shows(&log)
    };
    assert!(secrets.iter().all(shown), "what was not there cannot go");
    assert_eq!(world.subject.store().reseal().await.unwrap().damaged, 0);
    assert!(!secrets.iter().any(shown));
    let report =
        lastframe_store::check(world.subject.file().parent().unwrap(), &keys(), &mut |_| ()).unwrap();
    assert_eq!(report.problems, [""; 0]);

    let renders: Vec<Render> = world.all().await.into_iter().rev().collect();
    let expected = [
        (done, "done", Status::Succeeded),
        (cancelled, "cancelled", Status::Cancelled),
        (holder, "holder", Status::Failed),
        (after_holder, "after holder", Status::Queued),
        (rendering, "rendering", Status::Queued),
        (behind_it, "behind it", Status::Queued),
        (backing_off, "backing off", Status::Queued),
        (usual, "usual", Status::Queued),
        (urgent, "urgent", Status::Queued),
        (delayed, "delayed", Status::Queued),
    ];
    let found: Vec<_> =
        renders.iter().map(|render| (render.id, render.composition.as_str(), render.status)).collect();
    assert_eq!(found, expected);
    for found in &renders {
        let mut asked = render(&found.composition).request;
        asked.queue = None;
        assert_eq!(world.request(found.id).await.unwrap(), Some(asked));
    }
    let [done, _, holder, after_holder, rendering, behind_it, backing_off, usual, urgent, delayed] =
        <[Render; 10]>::try_from(renders).unwrap();
    assert_eq!((done.output.as_ref(), done.finished_at), (Some(&output), Some(world.now())));
    assert_eq!(holder.error, Some(failure()));
    assert_eq!(world.attempts(holder.id).await.unwrap()[0].error, Some(failure()));
    assert_eq!(world.outcomes(done.id).await, ["succeeded"]);
    // What was under way when the earlier version stopped was lost with it.
    assert_eq!(world.outcomes(rendering.id).await, ["lost"]);
    assert_eq!((rendering.attempt, rendering.leases), (0, 1));

    let (ann, bob) = (TenantId::new("ann"), TenantId::new("bob"));
    let counts = Counts { queued: 7, rendering: 0, succeeded: 1, failed: 1, cancelled: 1 };
    assert_eq!(world.overview().await.unwrap(), Overview { paused: false, counts });
    let limits = async |tenant| world.tenant(tenant).await.unwrap().unwrap().limits;
    assert_eq!(limits(&ann).await, Limits::default());
    assert_eq!(limits(&bob).await, Limits { weight: Some(3), max_concurrency: Some(2), ..Limits::default() });
    let paused = Group { name: "paused".into(), paused: true, held_by: None, head: None, queued: 0 };
    assert_eq!(world.group_of_ann("paused").await, Some(paused));
    assert_eq!(world.directory().site(&ann, "site").await.unwrap().unwrap().version, "v1");
    let again = world.accept_once("ann", render("done"), &once).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.renders, [done]);

    assert_eq!(world.stands(&after_holder).await, (1, held_by(&holder)));
    assert_eq!(world.stands(&behind_it).await, (2, behind(&rendering)));
    let until = |seconds| Some(Blocked::Delayed { run_at: world.now() + SignedDuration::from_secs(seconds) });
    assert_eq!(world.stands(&backing_off).await.1, until(30));
    assert_eq!(world.stands(&delayed).await.1, until(60));
    // Bob may have two at once, and is served thrice as often.
    let [lease, first_of_bob, second_of_bob] =
        world.claims_all_of(&[&rendering, &urgent, &usual]).await.try_into().unwrap();
    assert_eq!(lease.checkpoint.as_ref().map(|checkpoint| &checkpoint.0), Some(&json!({"frames": 30})));
    world.succeed(&lease).await;
    world.succeed(&first_of_bob).await;
    world.succeed(&second_of_bob).await;
    world.renders_in_turn(&[&behind_it]).await;
    world.resumes(&group("held")).await;
    world.renders_in_turn(&[&after_holder]).await;
    world.pass(Duration::from_secs(30)).await;
    world.renders_in_turn(&[&backing_off]).await;
    world.pass(Duration::from_secs(30)).await;
    world.renders_in_turn(&[&delayed]).await;
    world.retry(holder.id).await.unwrap();
    world.renders_in_turn(&[&holder]).await;
    let later = world.accept("ann", render("later")).await;
    assert!(later.seq > delayed.seq);
}

/// A database of the second version, with rows as that version wrote them: their checksums come from `checksum`.
fn second(folder: &Path, checksum: fn(&Context<'_>) -> u32) -> Connection {
    let sql = Connection::open(folder.join(Store::FILE)).unwrap();
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    sql.create_scalar_function("row_checksum", -1, flags, move |row| Ok(i64::from(checksum(row)))).unwrap();
    sql.pragma_update(None, "journal_mode", "WAL").unwrap();
    sql.pragma_update(None, "foreign_keys", false).unwrap();
    sql.execute_batch(include_str!("../../src/migrations/0001_queue.sql")).unwrap();
    sql.execute_batch(include_str!("../../src/migrations/0002_integrity.sql")).unwrap();
    sql.execute_batch(
        "PRAGMA user_version = 2;
        INSERT INTO tenant (name) VALUES ('ann');
        INSERT INTO tenant (name, weight, max_rendering, paused, vtime) VALUES ('bob', 3, 0, 1, 7);
        INSERT INTO site (tenant_id, name, version, current, body) SELECT id, 'site', 'v1', 1,
            '{\"name\":\"site\",\"version\":\"v1\",\"remotionVersion\":\"4\",\"renderer\":\"/r\",\"sizeInBytes\":1,
                \"compositions\":[],\"createdAt\":\"2026-03-01T12:00:00Z\"}' FROM tenant",
    )
    .unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    for (tenant, composition) in [(ANN, "first"), (ANN, "second"), (BOB, "third")] {
        let id = RenderId::generate(NOW.parse().unwrap(), &mut rng).to_string();
        let seq: i64 = sql
            .query_one(
                "INSERT INTO render (id, tenant_id, kind, site, site_version, composition, status, gate, on_failure,
                    run_at, max_attempts, created_at)
                 VALUES (?1, ?2, 'media', 'site', 'v1', ?3, 'queued', 0, 'continue', 0, 3, 0) RETURNING seq",
                params![id, tenant, composition],
                |row| row.get(0),
            )
            .unwrap();
        let body = json!({"composition": composition, "serveUrl": "site"}).to_string();
        sql.execute("INSERT INTO request (seq, body) VALUES (?1, ?2)", params![seq, body]).unwrap();
    }
    sql
}

/// The checksum of a row, as every database has it: it must never be another.
fn checksum(row: &Context<'_>) -> u32 {
    let mut bytes = Vec::new();
    for index in 0..row.len() {
        let (kind, value) = match row.get_raw(index) {
            ValueRef::Null => (0, &[][..]),
            ValueRef::Integer(value) => {
                bytes.push(1);
                bytes.extend(value.to_le_bytes());
                continue;
            }
            ValueRef::Text(text) => (3, text),
            other => panic!("no row of the test has {other:?}"),
        };
        bytes.push(kind);
        bytes.extend((value.len() as u64).to_le_bytes());
        bytes.extend(value);
    }
    crc32fast::hash(&bytes)
}

#[tokio::test]
async fn a_database_of_the_second_version_goes_on_with_the_limits_its_tenants_had() {
    let folder = tempfile::tempdir().unwrap();
    second(folder.path(), checksum).close().unwrap();
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let subject = Box::new(Sqlite::over(folder, keys(), Arc::clone(&clock)).await);
    let mut world = World { clock, subject, defaults: Limits::default() };
    let report =
        lastframe_store::check(world.subject.file().parent().unwrap(), &keys(), &mut |_| ()).unwrap();
    assert_eq!(report.problems, [""; 0]);

    let tenants = world.tenants().await.unwrap();
    let told: Vec<_> =
        tenants.iter().map(|it| (it.id.as_str(), it.limits, it.paused, it.counts.queued)).collect();
    let bobs = Limits { weight: Some(3), max_concurrency: Some(0), ..Limits::default() };
    assert_eq!(told, [("ann", Limits::default(), false, 2), ("bob", bobs, true, 1)]);
    // What nobody had set gives way to a default; what somebody had set does not.
    world.defaults =
        Limits { weight: Some(9), max_concurrency: Some(1), max_queued: Some(2), ..Limits::default() };
    world.reopen().await;
    let effective: Vec<_> = world.tenants().await.unwrap().into_iter().map(|it| it.effective).collect();
    assert_eq!(effective, [world.defaults, Limits { max_queued: Some(2), ..bobs }]);
    let refused = world.accept_once("ann", render("more"), &key("k", 1)).await;
    assert!(matches!(refused, Err(SubmitError::TooManyQueued(2))), "{refused:?}");
    let [third, second, first] = world.all().await.try_into().unwrap();
    world.resumes(&tenant("bob")).await;
    world.renders_in_turn(&[&first, &second]).await;
    assert_eq!(world.stands(&third).await, (1, Some(Blocked::TenantLimit)));
    world.limits("bob", Limits::default()).await;
    world.renders_in_turn(&[&third]).await;
}

#[tokio::test]
async fn a_damaged_tenant_is_not_made_a_whole_one_by_an_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let sql = second(folder.path(), checksum);
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    sql.create_scalar_function("row_checksum", -1, flags, |_| Ok(1_i64)).unwrap();
    sql.execute("INSERT INTO tenant (name) VALUES ('cid')", []).unwrap();
    sql.close().unwrap();
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let opened = Store::open(folder.path(), clock, lastframe_store::Options::default()).await;
    assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{opened:?}");
}
