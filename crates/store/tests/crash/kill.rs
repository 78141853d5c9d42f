//! `kill -9`, again and again.

use crate::child::{Lives, ROTATES};
use crate::record;
use crate::seed;
use crate::tally::Tally;

const KILLS: usize = 25;

pub(crate) async fn kill_again_and_again(seed: u64, kills: usize) -> Tally {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut lives, mut rotations) = (Lives::new(seed), 0);
    for _ in 0..kills {
        let said = lives.live_and_die(folder.path(), rng.usize(0..1_500), &[], &[(ROTATES, "1".into())]);
        lives.hear(&said);
        rotations += usize::from(record::is_rotating(folder.path()));
    }
    match lives.check_to_the_end(folder.path()).await {
        Ok(tally) => {
            assert_eq!(tally.failed(), 0, "SOAK_SEED={seed}: {tally:?}");
            assert!(rotations > 0, "SOAK_SEED={seed}: no process died while it changed its key");
            tally
        }
        Err(error) => panic!("SOAK_SEED={seed}, kept in {}: {error}", folder.keep().display()),
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_is_done_twice_when_the_process_is_killed() {
    let tally = kill_again_and_again(seed(), KILLS).await;
    assert_eq!(tally.deaths, KILLS);
    assert!(tally.unanswered > 0 && tally.lost > 0 && tally.succeeded > 0, "{tally:?}");
    for kind in [
        "submitted",
        "replayed",
        "key reused",
        "claimed",
        "extended",
        "released",
        "finished",
        "changed",
        "lost",
        "illegal",
    ] {
        assert!(tally.answers.contains_key(kind), "nothing was {kind}: {tally:?}");
    }
}
