//! The disk loses power, and with it whatever was not synced.

use std::path::PathBuf;

use lastframe_store::Store;

use crate::child::Lives;
use crate::disk::{self, Disk, Happened, Image, Lie, Watched};
use crate::load::mix;
use crate::seed;
use crate::tally::Tally;

const LIVES: usize = 5;
/// Moments of each life at which its power fails.
pub(crate) const MOMENTS: usize = 10;

/// What has been heard and what is on the disk when the power fails.
pub(crate) struct Moment {
    lives: Lives,
    image: Image,
}

/// A life that is over: killed, or cut short before that.
pub(crate) struct Lived<'a> {
    before: &'a Moment,
    watched: Watched,
    said: Vec<u8>,
}

impl Moment {
    /// Nothing was ever heard, and nothing is there.
    pub(crate) fn first(seed: u64) -> Self {
        Self { lives: Lives::new(seed), image: Image::new() }
    }

    /// What comes of it when the power is back, for so many entries and under these rules.
    pub(crate) fn live(&self, entries: usize, rules: &[(usize, &str)]) -> Lived<'_> {
        let watched = Watched::new(&self.image);
        let said = self.lives.live_and_die(&watched.files(), entries, rules, &watched.environment());
        Lived { before: self, watched, said }
    }

    pub(crate) async fn check(&self) -> Result<Tally, String> {
        let folder = tempfile::tempdir().unwrap();
        disk::write(&self.image, folder.path());
        let checked = self.lives.check(folder.path()).await;
        checked.map_err(|error| {
            disk::write(&self.image, folder.path());
            format!("kept in {}: {error}", folder.keep().display())
        })
    }
}

impl Lived<'_> {
    /// Had the process been killed, and nothing else.
    pub(crate) fn killed(&self) -> (Lives, PathBuf) {
        let mut lives = self.before.lives.clone();
        lives.hear(&self.said);
        (lives, self.watched.files())
    }

    /// Had the power failed, at one of so many moments. What a lie costs must show whatever the seed is: its moments are
    /// spread over the whole life.
    pub(crate) fn moments(&self, seed: u64, count: usize, lie: Lie) -> Vec<Moment> {
        let happened = self.watched.happened();
        let mut rng = fastrand::Rng::with_seed(seed);
        let end = happened.len();
        let mut cuts: Vec<_> = match lie {
            Lie::None => (0..count).map(|_| rng.usize(0..=end)).collect(),
            Lie::Files(_) | Lie::Folder => (1..=count).map(|number| end * number / count).collect(),
        };
        cuts.sort_unstable();
        let mut disk = Disk::new(&self.before.image, lie, seed);
        let (mut noted, mut heard) = (0, 0);
        let mut moments = Vec::new();
        for (number, cut) in (0..).zip(cuts) {
            for happened in &happened[noted..cut] {
                disk.note(happened);
                if let Happened::Said(bytes) = happened {
                    heard += bytes;
                }
            }
            noted = cut;
            let mut lives = self.before.lives.clone();
            lives.hear(&self.said[..heard]);
            moments.push(Moment { lives, image: disk.clone().lose_power(mix(seed, number)) });
        }
        moments
    }
}

pub(crate) async fn lose_power_again_and_again(seed: u64, lives: usize) -> Tally {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut last = Moment::first(seed);
    let mut tally = Tally::default();
    for _ in 0..lives {
        let mut moments = last.live(rng.usize(0..1_500), &[]).moments(rng.u64(..), MOMENTS, Lie::None);
        for moment in &moments {
            tally = moment.check().await.unwrap_or_else(|error| panic!("SOAK_SEED={seed}, {error}"));
            assert_eq!(tally.failed(), 0, "SOAK_SEED={seed}: {tally:?}");
        }
        last = moments.pop().unwrap();
    }
    tally
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_disk_loses_power() {
    let tally = lose_power_again_and_again(seed(), LIVES).await;
    assert_eq!(tally.deaths, LIVES);
}

/// What the checker says of the moments of one life on a disk that lies.
async fn errors(lie: Lie, entries: usize) -> Vec<String> {
    let seed = seed();
    let first = Moment::first(seed);
    let mut errors = Vec::new();
    for moment in first.live(entries, &[]).moments(seed, MOMENTS, lie) {
        let folder = tempfile::tempdir().unwrap();
        disk::write(&moment.image, folder.path());
        errors.extend(moment.lives.check(folder.path()).await.err());
    }
    errors
}

#[tokio::test]
async fn a_log_that_is_not_synced_loses_what_was_acknowledged_and_the_store_says_so() {
    let errors = errors(Lie::Files("-wal"), 500).await;
    // When it is opened, or when what is damaged is read.
    let said = |error: &String| error.contains("lastframe restore") || error.ends_with("is damaged");
    assert!(!errors.is_empty() && errors.iter().all(said), "{errors:?}");
}

#[tokio::test]
async fn a_folder_that_is_not_synced_loses_what_was_acknowledged() {
    let errors = errors(Lie::Folder, 500).await;
    assert!(errors.iter().any(|error| error.contains("acknowledged and lost")), "{errors:?}");
}

#[tokio::test]
async fn a_database_that_is_not_synced_is_damaged_or_lost() {
    // Long enough for the log to be folded in and then written over.
    assert!(!errors(Lie::Files(Store::FILE), 2_000).await.is_empty());
}
