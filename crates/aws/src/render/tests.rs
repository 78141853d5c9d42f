//! Courses against a Remotion Lambda that lives in memory, on a clock that waits for nobody.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lastframe_core::ports::{Job, Run as _, RunEvent, Stop};
use lastframe_core::site::SiteVersion;
use lastframe_core::{
    Checkpoint, Clock, Failure, Kind, Output, Phase, Progress, QueueOptions, RenderRequest, TenantId,
};
use lastframe_worker::logs::Logs;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::course::{Course, Habits};
use super::fleet::{Fleet, Load, Place};
use super::remote::{At, NotStarted, Order, Recent, Refusal, Remote, Seen, Started, State};
use super::run::{Ends, LambdaRun};
use super::trace::Trace;

mod limits;

/// A video of so many bytes, after so much time on Lambda.
const SIZE: u64 = 4_711;
const TAKES: Duration = Duration::from_secs(8);
/// So long nobody can tell whose render it is.
const NAMELESS: Duration = Duration::from_secs(3);
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(120);

/// Wall time that goes with tokio's.
#[derive(Debug)]
struct Times(Instant);

impl Clock for Times {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + self.0.elapsed()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

#[derive(Clone, Debug)]
struct Render {
    out_name: String,
    at: Instant,
    cancelled_at: Option<Instant>,
    deleted: bool,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
struct Faults {
    /// So many starts are turned away.
    throttled: u32,
    /// So many starts happen, and nobody hears of it.
    lost_answers: u32,
    /// So many starts do not happen, and nobody can tell.
    lost_starts: u32,
    /// So many sites cannot be brought just now.
    slow_down: u32,
    /// A site is so large that it never arrives.
    large_site: bool,
    /// So many looks fail.
    blind: u32,
    /// Every look is refused.
    refuses: Option<io::ErrorKind>,
    /// Somebody's render never says whose it is.
    mute: bool,
    /// Nothing happens after this time.
    stuck: Option<Duration>,
    /// It ends so.
    fails: Option<Failure>,
    /// What lies in the bucket is so much shorter than it should be.
    short: u64,
    /// Dollars for each second.
    price: f64,
    /// Dollars that a start has cost once it is answered.
    still: f64,
    /// A stop is not heard.
    deaf: bool,
}

/// Remotion Lambda.
#[derive(Debug)]
struct Lambda {
    clock: Arc<Times>,
    world: Mutex<World>,
    /// Somebody pulls the plug of our machine after so many steps.
    fuse: Mutex<Option<u32>>,
    blown: Notify,
}

#[derive(Debug, Default)]
struct World {
    renders: BTreeMap<String, Render>,
    doubted: Vec<String>,
    faults: Faults,
    looks: u32,
}

fn take(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

impl Lambda {
    fn new(faults: Faults) -> Arc<Self> {
        let world = Mutex::new(World { faults, ..World::default() });
        let clock = Arc::new(Times(Instant::now()));
        Arc::new(Self { clock, world, fuse: Mutex::default(), blown: Notify::new() })
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn starts(&self) -> usize {
        self.world().renders.len()
    }

    /// One step further; the one at which the plug is pulled never ends.
    async fn step(&self) {
        let blown = {
            let mut fuse = self.fuse.lock().unwrap();
            match &mut *fuse {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            }
        };
        if blown {
            self.blown.notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn wall(&self, at: Instant) -> Timestamp {
        self.clock.now() - at.elapsed()
    }

    fn seen(&self, render: &Render, faults: &Faults) -> Seen {
        let mut age = render.at.elapsed();
        if let Some(stuck) = faults.stuck {
            age = age.min(stuck);
        }
        let stopped = render.cancelled_at.filter(|at| !faults.deaf && at.elapsed() > Duration::from_secs(1));
        let done = age >= TAKES && faults.stuck.is_none();
        let share = (age.as_secs_f64() / TAKES.as_secs_f64()).min(1.0);
        let frames = (share * 60.0) as u32;
        let state = match &faults.fails {
            _ if stopped.is_some() => State::Cancelled,
            Some(failure) if age >= TAKES / 2 => State::Failed(failure.clone()),
            None if done => {
                State::Done { key: format!("renders/x/{}", render.out_name), size_in_bytes: SIZE }
            }
            _ => State::Running,
        };
        Seen {
            out_name: (age >= NAMELESS && !faults.mute).then(|| render.out_name.clone()),
            launched_at: self.wall(render.at),
            gives_up_at: self.wall(render.at) + FUNCTION_TIMEOUT,
            progress: Progress {
                phase: Phase::Rendering,
                frames_rendered: frames,
                frame_count: 60,
                overall: share,
            },
            pulse: frames.into(),
            cost_in_usd: faults.price * age.as_secs_f64(),
            size: Some((64, 48)),
            state,
        }
    }
}

#[async_trait]
impl Remote for Lambda {
    async fn bucket(&self) -> Result<String, Refusal> {
        Ok("bucket".into())
    }

    async fn serve_url(&self, _bucket: &str, site: &SiteVersion) -> Result<String, Refusal> {
        self.step().await;
        if self.world().faults.large_site {
            std::future::pending::<()>().await;
        }
        if take(&mut self.world().faults.slow_down) {
            return Err(Refusal::Passing("S3 answers SlowDown".into()));
        }
        Ok(site.version.clone())
    }

    fn doubt(&self, bucket: &str, site: &SiteVersion) {
        self.world().doubted.push(format!("{bucket}/{}", site.version));
    }

    async fn start(&self, Order { out_name, .. }: Order<'_>) -> Result<Started, NotStarted> {
        self.step().await;
        let answer = {
            let mut world = self.world();
            if take(&mut world.faults.throttled) {
                return Err(NotStarted::Refused(Refusal::Passing("Rate Exceeded".into())));
            }
            if take(&mut world.faults.lost_starts) {
                return Err(NotStarted::Unanswered("timeout".into()));
            }
            let id = format!("render{}", world.renders.len() + 1);
            let (out_name, at) = (out_name.to_owned(), Instant::now());
            let render = Render { out_name, at, cancelled_at: None, deleted: false };
            world.renders.insert(id.clone(), render);
            if take(&mut world.faults.lost_answers) {
                Err(NotStarted::Unanswered("reset".into()))
            } else {
                Ok(Started { render_id: id, cost_in_usd: world.faults.still })
            }
        };
        self.step().await;
        answer
    }

    async fn look(&self, At { render_id, .. }: At<'_>) -> io::Result<Option<Seen>> {
        self.step().await;
        let mut world = self.world();
        world.looks += 1;
        if take(&mut world.faults.blind) {
            return Err(io::Error::other("SlowDown"));
        }
        if let Some(kind) = world.faults.refuses {
            return Err(io::Error::new(kind, "S3 refuses"));
        }
        let World { renders, faults, .. } = &*world;
        Ok(renders.get(render_id).filter(|render| !render.deleted).map(|render| self.seen(render, faults)))
    }

    async fn recent(&self, _bucket: &str, since: Timestamp, out_name: &str) -> io::Result<Vec<Recent>> {
        self.step().await;
        let world = self.world();
        let recent = world.renders.iter().filter(|(_, render)| self.wall(render.at) >= since);
        let recent = recent.map(|(id, render)| Recent {
            render_id: id.clone(),
            has_output: render.out_name == out_name
                && world.faults.stuck.is_none()
                && render.at.elapsed() >= TAKES,
        });
        Ok(recent.collect())
    }

    async fn cancel(&self, At { render_id, .. }: At<'_>) -> io::Result<()> {
        self.step().await;
        if let Some(render) = self.world().renders.get_mut(render_id) {
            render.cancelled_at = Some(Instant::now());
        }
        Ok(())
    }

    async fn size(&self, _bucket: &str, _key: &str) -> io::Result<Option<u64>> {
        self.step().await;
        Ok(Some(SIZE - self.world().faults.short))
    }

    async fn delete(&self, At { render_id, .. }: At<'_>) -> io::Result<()> {
        self.step().await;
        if let Some(render) = self.world().renders.get_mut(render_id) {
            render.deleted = true;
        }
        Ok(())
    }
}

/// A server that makes renders there, and may be killed.
struct Server {
    lambdas: Vec<Arc<Lambda>>,
    fleet: Arc<Fleet>,
    request: RenderRequest,
    kind: Kind,
    /// What is on its disk.
    checkpoint: Option<Checkpoint>,
    attempts: u32,
    folder: tempfile::TempDir,
}

/// How an attempt ended.
#[derive(Debug, PartialEq)]
enum End {
    Stored(Output),
    Failed(Failure),
    Throttled,
    Killed,
}

impl Server {
    fn new(lambdas: &[&Arc<Lambda>]) -> Self {
        let place = |(index, lambda): (usize, &&Arc<Lambda>)| {
            let remote = Arc::clone(lambda) as Arc<dyn Remote>;
            Arc::new(Place {
                account: None,
                region: "eu-central-1".into(),
                function: format!("function-{index}"),
                bucket: None,
                version: Some("4.0.527".into()),
                timeout: FUNCTION_TIMEOUT,
                remote,
                load: Load::default(),
            })
        };
        Self {
            fleet: Arc::new(Fleet(lambdas.iter().enumerate().map(place).collect())),
            lambdas: lambdas.iter().map(|lambda| Arc::clone(lambda)).collect(),
            request: RenderRequest { composition: "main".into(), ..RenderRequest::default() },
            kind: Kind::Media,
            checkpoint: None,
            attempts: 0,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn start(&mut self) -> LambdaRun {
        self.attempts += 1;
        let clock = Arc::clone(&self.lambdas[0].clock) as Arc<dyn Clock>;
        let logs = Logs::new(self.folder.path(), Arc::clone(&clock));
        let job = Job {
            tenant: TenantId::new("acme"),
            render: "01920000-0000-7000-8000-000000000000".parse().unwrap(),
            attempt: self.attempts,
            kind: self.kind,
            site: SiteVersion {
                name: "site".into(),
                version: "v".into(),
                remotion_version: "4.0.527".into(),
                renderer: None,
                url: None,
                size_in_bytes: 0,
                compositions: Vec::new(),
                created_at: clock.now(),
            },
            request: self.request.clone(),
        };
        let (ends, tell, stop) = Ends::new();
        let settle = Duration::from_secs(30);
        let course = Course {
            log: logs.create(job.render, self.attempts).unwrap(),
            job,
            fleet: Arc::clone(&self.fleet),
            habits: Habits { settle, stall: Duration::from_secs(60), max_cost: None },
            clock,
            tell,
            trace: self.checkpoint.as_ref().and_then(Trace::read),
        };
        ends.run(tokio::spawn(course.run(stop)))
    }

    /// One attempt, followed as the worker does it.
    async fn attempt(&mut self) -> End {
        let mut run = self.start();
        let lambda = Arc::clone(&self.lambdas[0]);
        loop {
            let event = tokio::select! {
                biased;
                () = lambda.blown.notified() => {
                    run.abort();
                    return End::Killed;
                }
                event = run.next() => event,
            };
            match event {
                RunEvent::Progress(_) => {}
                RunEvent::Checkpoint(checkpoint) => {
                    // Killed before the commit, or after it.
                    let step = async {
                        lambda.step().await;
                        self.checkpoint = Some(checkpoint);
                        lambda.step().await;
                    };
                    tokio::select! {
                        () = step => {}
                        () = lambda.blown.notified() => {
                            run.abort();
                            return End::Killed;
                        }
                    }
                }
                RunEvent::Stored { output } => return End::Stored(output),
                RunEvent::Failed(failure) => return End::Failed(failure),
                RunEvent::Throttled { .. } => return End::Throttled,
                RunEvent::Finished { .. } => panic!("its file is not here"),
            }
        }
    }

    fn log(&self) -> String {
        let read = |attempt| {
            let name = format!("01920000-0000-7000-8000-000000000000/{attempt}.log");
            std::fs::read_to_string(self.folder.path().join(name)).unwrap()
        };
        (1..=self.attempts).map(read).collect()
    }
}

fn code(end: &End) -> &str {
    match end {
        End::Failed(failure) => &failure.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_render_is_started_once_followed_and_its_output_looked_at() {
    let lambda = Lambda::new(Faults { price: 0.001, ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    let End::Stored(output) = server.attempt().await else { panic!("{}", server.log()) };
    assert_eq!(
        (output.key.as_str(), output.size_in_bytes, output.frame_count, output.width),
        (
            "lambda://eu-central-1/bucket/renders/x/01920000-0000-7000-8000-000000000000-1.mp4",
            SIZE,
            Some(60),
            Some(64)
        )
    );
    assert!(output.cost_in_usd.is_some_and(|cost| cost > 0.007), "{output:?}");
    assert_eq!(lambda.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_killed_at_any_step_pays_once_and_loses_nothing() {
    for faults in [
        Faults::default(),
        Faults { lost_answers: 1, ..Faults::default() },
        Faults { blind: 2, ..Faults::default() },
        Faults { throttled: 1, ..Faults::default() },
    ] {
        for steps in 0.. {
            let lambda = Lambda::new(faults.clone());
            *lambda.fuse.lock().unwrap() = Some(steps);
            let mut server = Server::new(&[&lambda]);
            let first = server.attempt().await;
            *lambda.fuse.lock().unwrap() = None;
            let last = if first == End::Killed { server.attempt().await } else { first };
            assert!(matches!(last, End::Stored(_)), "{faults:?}, step {steps}: {last:?}\n{}", server.log());
            assert_eq!(lambda.starts(), 1, "{faults:?}, step {steps}\n{}", server.log());
            if server.attempts == 1 {
                assert!(steps > 8, "there are {steps} steps");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_did_not_happen_is_tried_again_once_nobody_can_find_it() {
    let lambda = Lambda::new(Faults { lost_starts: 2, ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    let began = Instant::now();
    assert!(matches!(server.attempt().await, End::Stored(_)));
    assert!(began.elapsed() >= Duration::from_secs(60), "each is looked for");
    assert_eq!(lambda.starts(), 1);

    let lambda = Lambda::new(Faults { lost_starts: 9, ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    assert_eq!(code(&server.attempt().await), "lambda_unreachable");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_start_waits_goes_elsewhere_and_at_last_lets_others_have_the_turn() {
    let lambda = Lambda::new(Faults { throttled: 3, ..Faults::default() });
    assert!(matches!(Server::new(&[&lambda]).attempt().await, End::Stored(_)));
    assert_eq!(lambda.starts(), 1);

    let (full, free) =
        (Lambda::new(Faults { throttled: 9, ..Faults::default() }), Lambda::new(Faults::default()));
    assert!(matches!(Server::new(&[&full, &free]).attempt().await, End::Stored(_)));
    assert_eq!((full.starts(), free.starts()), (0, 1));

    let lambda = Lambda::new(Faults { throttled: u32::MAX, ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    assert_eq!(server.attempt().await, End::Throttled);
    assert!(Trace::read(server.checkpoint.as_ref().unwrap()).unwrap().over, "there is nothing to look for");
    assert_eq!(lambda.starts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_told_to_lambda_and_confirmed() {
    for lost_answers in [0, 1] {
        let lambda = Lambda::new(Faults { lost_answers, ..Faults::default() });
        let mut server = Server::new(&[&lambda]);
        let mut run = server.start();
        while lambda.starts() == 0 {
            tokio::time::timeout(Duration::from_millis(100), run.next()).await.ok();
        }
        Box::new(run).stop(Stop::Cancel).await;
        let render = lambda.world().renders["render1"].clone();
        assert!(render.cancelled_at.is_some() && render.deleted, "{}", server.log());
        assert!(server.log().contains("render1 has stopped"), "{}", server.log());
    }
    let lambda = Lambda::new(Faults { deaf: true, stuck: Some(Duration::ZERO), ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    let mut run = server.start();
    while lambda.starts() == 0 {
        tokio::time::timeout(Duration::from_millis(100), run.next()).await.ok();
    }
    let began = Instant::now();
    Box::new(run).stop(Stop::Cancel).await;
    assert!(began.elapsed() < Duration::from_secs(120) && server.log().contains("by themselves"));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_lets_go_leaves_it_to_the_next_one() {
    let lambda = Lambda::new(Faults::default());
    let mut server = Server::new(&[&lambda]);
    let mut run = server.start();
    loop {
        match run.next().await {
            RunEvent::Checkpoint(checkpoint) => server.checkpoint = Some(checkpoint),
            RunEvent::Progress(progress) if progress.frames_rendered > 10 => break,
            _ => {}
        }
    }
    Box::new(run).stop(Stop::Detach).await;
    assert!(lambda.world().renders["render1"].cancelled_at.is_none());
    assert!(matches!(server.attempt().await, End::Stored(_)));
    assert_eq!(lambda.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_has_a_name_and_the_next_attempt_starts_anew() {
    let throttled = Failure::new("lambda_throttled", "no room for its parts", true);
    for (faults, expected, stopped) in [
        (Faults { fails: Some(throttled), ..Faults::default() }, "lambda_throttled", false),
        (Faults { stuck: Some(Duration::from_secs(4)), ..Faults::default() }, "lambda_stuck", true),
        (Faults { short: 1, ..Faults::default() }, "output_incomplete", false),
        (Faults { price: 1.0, ..Faults::default() }, "cost_exceeded", true),
    ] {
        let lambda = Lambda::new(faults);
        let mut server = Server::new(&[&lambda]);
        server.request.queue = Some(QueueOptions { max_cost: Some(2.0), ..QueueOptions::default() });
        assert_eq!(code(&server.attempt().await), expected, "{}", server.log());
        assert_eq!(lambda.world().renders["render1"].deleted, stopped, "{expected}");
        lambda.world().faults = Faults::default();
        if expected == "cost_exceeded" {
            // It is not tried again; a person who retries it forgets what it has cost.
            server.checkpoint = None;
        }
        assert!(matches!(server.attempt().await, End::Stored(_)), "{expected}");
        assert_eq!(lambda.starts(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_still_that_was_made_though_nobody_heard_of_it_is_found() {
    let lambda = Lambda::new(Faults { lost_answers: 1, ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    server.kind = Kind::Still;
    let End::Stored(output) = server.attempt().await else { panic!("{}", server.log()) };
    assert!(output.key.ends_with("-1.png") && output.frame_count.is_none(), "{output:?}");
    assert_eq!(lambda.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_site_goes_to_a_function_of_its_version_in_the_region_asked_for() {
    let lambda = Lambda::new(Faults::default());
    let mut server = Server::new(&[&lambda]);
    server.request.region = Some("us-east-1".into());
    let End::Failed(failure) = server.attempt().await else { panic!("it went somewhere") };
    assert_eq!(failure.code, "lambda_not_configured");
    assert!(failure.message.contains("region `us-east-1`"), "{failure}");
    assert_eq!(lambda.starts(), 0);
}
