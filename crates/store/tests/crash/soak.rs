//! All of it, for as long as one likes: `make soak`.

use std::time::Duration;

use lastframe_core::{Clock as _, SystemClock};

use crate::load::mix;
use crate::tally::Tally;
use crate::{fault, kill, power, seed};

const KILLS: usize = 25;
const LIVES: usize = 5;

#[tokio::test]
#[ignore = "it takes as long as it is told to"]
async fn soak() {
    let minutes = std::env::var("SOAK_MINUTES").map_or(10, |minutes| minutes.parse().unwrap());
    let seed = seed();
    println!("SOAK_SEED={seed} SOAK_MINUTES={minutes}");
    let clock = SystemClock::new();
    let (mut rounds, mut kills, mut cuts, mut faults) = (0, 0, 0, 0);
    let mut total = Tally::default();
    while clock.monotonic() < Duration::from_secs(60 * minutes) {
        let seed = mix(seed, rounds);
        rounds += 1;
        total.add(&kill::kill_again_and_again(seed, KILLS).await);
        kills += KILLS;
        total.add(&power::lose_power_again_and_again(seed, LIVES).await);
        cuts += LIVES * power::MOMENTS;
        for rule in fault::RULES {
            fault::lives_through(rule, seed).await;
            faults += 1;
        }
        println!("{rounds} rounds, {kills} kills, {cuts} failures of power, {faults} of the disk: {total}");
    }
    println!("lost of what was acknowledged: 0");
}
