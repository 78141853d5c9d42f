//! What a course bears with and for how long, what it may cost, and which function it may go to.

use super::*;

/// Follows an attempt until Lambda has started something and said its name, and then stops it as a timeout does.
async fn timed_out(server: &mut Server) {
    let mut run = server.start();
    loop {
        match run.next().await {
            RunEvent::Checkpoint(checkpoint) => server.checkpoint = Some(checkpoint),
            RunEvent::Progress(progress) if progress.frames_rendered > 20 => break,
            RunEvent::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    Box::new(run).stop(Stop::Cancel).await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_time_was_over_costs_no_other_one() {
    let lambda = Lambda::new(Faults { price: 0.1, ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    timed_out(&mut server).await;
    assert!(lambda.world().renders["render1"].deleted, "{}", server.log());
    let End::Stored(output) = server.attempt().await else { panic!("{}", server.log()) };
    assert_eq!((server.attempts, lambda.starts()), (2, 2));
    // Both are paid for, though nothing is left of the first.
    assert!(output.cost_in_usd.is_some_and(|cost| cost > 1.0), "{output:?}");

    // The functions did not hear of the stop in time, and hear of it while the next attempt looks on.
    let lambda = Lambda::new(Faults { deaf: true, stuck: Some(Duration::from_secs(4)), ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    timed_out(&mut server).await;
    let looks = lambda.world().looks;
    let hearing = async {
        while lambda.world().looks < looks + 3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        lambda.world().faults = Faults::default();
        std::future::pending::<()>().await;
    };
    let end = tokio::select! {
        end = server.attempt() => end,
        () = hearing => unreachable!(),
    };
    assert!(matches!(end, End::Stored(_)), "{end:?}\n{}", server.log());
    assert_eq!((server.attempts, lambda.starts()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn storage_that_refuses_is_borne_with_for_a_while_and_named() {
    for (kind, expected) in [
        (io::ErrorKind::PermissionDenied, "lambda_denied"),
        (io::ErrorKind::NotFound, "lambda_gone"),
        (io::ErrorKind::InvalidData, "lambda_failed"),
    ] {
        let lambda = Lambda::new(Faults { refuses: Some(kind), ..Faults::default() });
        let mut server = Server::new(&[&lambda]);
        let began = Instant::now();
        assert_eq!(code(&server.attempt().await), expected, "{}", server.log());
        assert!((60..90).contains(&began.elapsed().as_secs()), "{kind}: {:?}", began.elapsed());
        assert!(lambda.world().renders["render1"].cancelled_at.is_some(), "nobody follows it any more");

        // While a start is looked for that was not answered, too.
        let stuck = Some(Duration::ZERO);
        let lambda = Lambda::new(Faults { refuses: Some(kind), lost_answers: 1, stuck, ..Faults::default() });
        let mut server = Server::new(&[&lambda]);
        assert_eq!(code(&server.attempt().await), expected, "{}", server.log());
        assert!(!Trace::read(server.checkpoint.as_ref().unwrap()).unwrap().over, "it may still be there");
    }
    // What was given only a moment ago is waited for.
    let lambda = Lambda::new(Faults { refuses: Some(io::ErrorKind::PermissionDenied), ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    let given = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        lambda.world().faults.refuses = None;
        std::future::pending::<()>().await;
    };
    let end = tokio::select! {
        end = server.attempt() => end,
        () = given => unreachable!(),
    };
    assert!(matches!(end, End::Stored(_)), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn what_passes_before_the_start_costs_no_attempt() {
    let lambda = Lambda::new(Faults { slow_down: 3, ..Faults::default() });
    assert!(matches!(Server::new(&[&lambda]).attempt().await, End::Stored(_)));
    let lambda = Lambda::new(Faults { slow_down: u32::MAX, ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    assert_eq!(server.attempt().await, End::Throttled);
    assert!(server.log().contains("S3 answers SlowDown") && server.checkpoint.is_none(), "{}", server.log());
}

#[tokio::test(start_paused = true)]
async fn all_starts_together_may_cost_what_one_may() {
    let asset = Failure::new("asset_failed", "no picture", true);
    let lambda = Lambda::new(Faults { price: 0.1, fails: Some(asset), ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    server.request.queue = Some(QueueOptions { max_cost: Some(1.0), ..QueueOptions::default() });
    // Each costs 0.4.
    for expected in ["asset_failed", "asset_failed", "cost_exceeded", "cost_exceeded"] {
        assert_eq!(code(&server.attempt().await), expected, "{}", server.log());
    }
    assert_eq!(lambda.starts(), 3, "the last was not started any more");
    let spent = Trace::read(server.checkpoint.as_ref().unwrap()).unwrap().spent();
    assert!((1.0..1.3).contains(&spent), "{spent}");

    // A still says what it has cost when it is made.
    let lambda = Lambda::new(Faults { still: 0.002, ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    server.kind = Kind::Still;
    let End::Stored(output) = server.attempt().await else { panic!("{}", server.log()) };
    assert_eq!(output.cost_in_usd, Some(0.002));
}

#[tokio::test(start_paused = true)]
async fn renders_that_begin_together_spread_over_the_functions() {
    let lambdas = [Lambda::new(Faults::default()), Lambda::new(Faults::default())];
    let first = Server::new(&[&lambdas[0], &lambdas[1]]);
    let mut servers: Vec<_> = (0..6)
        .map(|_| Server { fleet: Arc::clone(&first.fleet), ..Server::new(&[&lambdas[0], &lambdas[1]]) })
        .collect();
    let ends = futures_util::future::join_all(servers.iter_mut().map(Server::attempt)).await;
    assert!(ends.iter().all(|end| matches!(end, End::Stored(_))), "{ends:?}");
    assert_eq!((lambdas[0].starts(), lambdas[1].starts()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_bucket_and_a_function_for_the_parts_say_which_function_it_can_be() {
    let place = |function: &str, region: &str, bucket: Option<&str>, lambda: &Arc<Lambda>| {
        Arc::new(Place {
            account: None,
            region: region.into(),
            function: function.into(),
            bucket: bucket.map(Into::into),
            version: Some("4.0.527".into()),
            timeout: FUNCTION_TIMEOUT,
            remote: Arc::clone(lambda) as Arc<dyn Remote>,
            load: Load::default(),
        })
    };
    let (near, far) = (Lambda::new(Faults::default()), Lambda::new(Faults::default()));
    for (bucket, renderer, expected) in [
        (Some("of-far"), None, Some((0, 1))),
        (None, Some("far"), Some((0, 1))),
        (None, Some("near"), Some((1, 0))),
        (Some("of-far"), Some("near"), None),
    ] {
        let before = (near.starts(), far.starts());
        let mut server = Server::new(&[&near]);
        let places =
            vec![place("near", "eu-central-1", None, &near), place("far", "us-east-1", Some("of-far"), &far)];
        server.fleet = Arc::new(Fleet(places));
        server.request.force_bucket_name = bucket.map(Into::into);
        server.request.renderer_function_name = renderer.map(Into::into);
        let end = server.attempt().await;
        let grown = (near.starts() - before.0, far.starts() - before.1);
        match expected {
            Some(expected) => assert_eq!((grown, matches!(end, End::Stored(_))), (expected, true), "{end:?}"),
            None => assert_eq!((grown, code(&end)), ((0, 0), "lambda_not_configured")),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_search_for_a_lost_start_ends_when_nobody_can_say_any_more_whose_it_was() {
    let faults = Faults { mute: true, stuck: Some(Duration::ZERO), lost_answers: 9, ..Faults::default() };
    let lambda = Lambda::new(faults);
    let mut server = Server::new(&[&lambda]);
    server.kind = Kind::Still;
    let end = tokio::time::timeout(4 * FUNCTION_TIMEOUT, server.attempt()).await.unwrap();
    assert_eq!(code(&end), "lambda_unreachable");
}

#[tokio::test(start_paused = true)]
async fn a_site_that_could_not_be_opened_is_looked_for_before_the_next_attempt() {
    let unreachable = Failure::new("site_unreachable", "the status code was 403", true);
    let lambda = Lambda::new(Faults { fails: Some(unreachable), ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    assert_eq!(code(&server.attempt().await), "site_unreachable");
    assert_eq!(lambda.world().doubted, ["bucket/v"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_large_site() {
    let lambda = Lambda::new(Faults { large_site: true, ..Faults::default() });
    let mut server = Server::new(&[&lambda]);
    let mut run = server.start();
    tokio::time::timeout(Duration::from_secs(1), run.next()).await.unwrap_err();
    let stopping = tokio::time::timeout(Duration::from_secs(1), Box::new(run).stop(Stop::Detach));
    stopping.await.unwrap();
    assert_eq!(lambda.starts(), 0);
}
