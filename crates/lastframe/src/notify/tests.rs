use super::*;
use crate::notify::webhook::tests::due;

/// One that does what a courier must not do.
#[derive(Debug)]
enum Bad {
    Panics,
    Hangs,
}

#[async_trait]
impl Courier for Bad {
    async fn deliver(&self, _: &Due) -> Told {
        match self {
            Self::Panics => panic!("on purpose"),
            Self::Hangs => std::future::pending().await,
        }
    }
}

fn retry(after: Option<u64>) -> Told {
    Told::Retry { code: Some(503), error: "busy".into(), after: after.map(Duration::from_secs) }
}

fn wait(tries: u32, after: Option<u64>) -> Option<Duration> {
    match settle(retry(after), tries).0 {
        Settled::Retry(wait) => Some(wait),
        _ => None,
    }
}

#[test]
fn what_is_not_taken_is_tried_ten_times_over_about_three_days() {
    let waits: Vec<_> = (0..).map_while(|tries| wait(tries, None)).collect();
    assert_eq!(waits.len() + 1, 10);
    for (wait, usual) in waits.iter().zip(WAITS) {
        assert!((usual.mul_f64(0.9)..=usual.mul_f64(1.1)).contains(wait), "{wait:?} instead of {usual:?}");
    }
    let days = waits.iter().sum::<Duration>().as_secs_f64() / 86_400.0;
    assert!((2.8..3.5).contains(&days), "{days}");
}

#[test]
fn a_receiver_may_put_the_next_try_off_and_not_for_ever_and_not_make_it_sooner() {
    assert_eq!(wait(0, Some(3_600)), Some(Duration::from_secs(3_600)));
    assert_eq!(wait(0, Some(u64::MAX)), Some(LONGEST_WAIT));
    assert!(wait(3, Some(1)) > Some(Duration::from_secs(6_000)));
}

#[test]
fn what_was_taken_or_refused_is_not_tried_again() {
    assert_eq!(settle(Told::Delivered { code: Some(204) }, 3), (Settled::Delivered, Some(204), None));
    let refused = Told::Refused { code: Some(410), error: "gone".into() };
    assert_eq!(settle(refused, 0), (Settled::Failed, Some(410), Some("gone".into())));
}

#[tokio::test(start_paused = true)]
async fn a_courier_that_panics_or_hangs_has_failed_once_and_holds_up_nothing() {
    for (bad, why) in [(Bad::Panics, "something failed inside"), (Bad::Hangs, "it took too long")] {
        let told = within_limits(&bad, &due("https://example.com")).await;
        assert!(matches!(&told, Told::Retry { code: None, error, .. } if error.contains(why)), "{told:?}");
    }
}
