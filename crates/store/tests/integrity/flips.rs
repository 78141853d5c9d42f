//! One flipped bit, anywhere.

use std::path::Path;

use lastframe_core::RenderId;
use lastframe_store::Store;

use crate::library::{
    Answers, WAITING, ask, ask_accounts, checked, copied, everything, fill, fill_accounts, flip, open, wal,
};

/// Flips that are tried in each file. All of them would take an hour.
const TRIED: usize = 250;

/// Opens what is in the folder and asks it; none when it is refused.
async fn answers(folder: &Path, renders: &[RenderId]) -> Option<Answers> {
    let store = open(folder).await.ok()?;
    Some(ask(&store, renders).await)
}

fn is_noticed(folder: &Path) -> bool {
    !checked(folder).is_ok_and(|report| report.problems.is_empty())
}

/// Whether rows that an index or a key has lost can be why: nothing is found, or fewer than there are.
fn is_lost(question: &str, answer: &str, truth: &str) -> bool {
    let attempts = |text: &str| -> Vec<_> {
        text.trim_matches(['[', ']'])
            .split("Attempt ")
            .map(|part| part.trim_end_matches(", ").to_owned())
            .collect()
    };
    let fewer = || {
        let there = attempts(truth);
        question.starts_with("attempts ") && attempts(answer).iter().all(|attempt| there.contains(attempt))
    };
    answer == "None" || answer == "[]" || question.starts_with(WAITING) || fewer()
}

#[tokio::test]
async fn in_the_database_it_is_never_read_as_truth_and_a_check_finds_what_it_did() {
    let origin = tempfile::tempdir().unwrap();
    let store = open(origin.path()).await.unwrap();
    fill(&store).await;
    let renders = everything(&store).await;
    drop(store);
    let truth = answers(origin.path(), &renders).await.unwrap();
    assert!(!is_noticed(origin.path()), "{:?}", checked(origin.path()));
    let size = std::fs::metadata(origin.path().join(Store::FILE)).unwrap().len();
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut refused, mut wrong) = (0, 0);
    for _ in 0..TRIED {
        let bit = rng.usize(0..usize::try_from(size).unwrap() * 8);
        let folder = copied(origin.path());
        flip(&folder.path().join(Store::FILE), bit);
        let noticed = is_noticed(folder.path());
        let Some(answers) = answers(folder.path(), &renders).await else {
            refused += 1;
            continue;
        };
        for (question, answer) in answers {
            match answer {
                // Not to be found, because an index lost it: a check must say so.
                Ok(answer)
                    if truth[&question]
                        .as_ref()
                        .is_ok_and(|truth| *truth != answer && is_lost(&question, &answer, truth)) =>
                {
                    assert!(noticed, "bit {bit}: {question} is gone, and no check says so");
                    wrong += 1;
                }
                Ok(answer) => assert_eq!(Ok(answer), truth[&question], "bit {bit}: {question}"),
                Err(_) => {
                    assert!(noticed, "bit {bit}: {question} cannot be answered, and no check says why");
                    wrong += 1;
                }
            }
        }
    }
    assert!(refused > 0 && wrong > 0, "{refused} refused, {wrong} answers not given: the flips did nothing");
}

#[tokio::test]
async fn among_people_and_tokens_it_is_never_read_as_truth() {
    let origin = tempfile::tempdir().unwrap();
    let store = open(origin.path()).await.unwrap();
    fill_accounts(&store).await;
    let truth = ask_accounts(&store).await;
    assert!(truth.values().all(|answer| answer.as_ref().is_ok_and(|answer| answer != "None")), "{truth:?}");
    drop(store);
    let file = origin.path().join(Store::FILE);
    let bytes = std::fs::read(&file).unwrap();
    // Where the records are that name somebody: most of the file is something else.
    let named = (0..bytes.len() - 3).filter(|at| {
        b"ann bob cid hal".split(|byte| *byte == b' ').any(|name| bytes[*at..].starts_with(name))
    });
    let mut rng = fastrand::Rng::with_seed(14);
    let mut wrong = 0;
    for at in named {
        let bit = (at + rng.usize(0..64)).min(bytes.len() - 1) * 8 + rng.usize(0..8);
        let folder = copied(origin.path());
        flip(&folder.path().join(Store::FILE), bit);
        let noticed = is_noticed(folder.path());
        let Ok(store) = open(folder.path()).await else { continue };
        for (question, answer) in ask_accounts(&store).await {
            if answer != truth[&question] {
                assert!(answer.is_err() || answer == Ok("None".into()), "bit {bit}: {question}: {answer:?}");
                assert!(noticed, "bit {bit}: {question} cannot be answered, and no check says why");
                wrong += 1;
            }
        }
    }
    assert!(wrong > 20, "{wrong} answers not given: the flips did nothing");
}

/// What a process that was killed has left.
struct Died {
    folder: tempfile::TempDir,
    renders: Vec<RenderId>,
    truth: Answers,
    /// Bytes of its log.
    log: u64,
}

impl Died {
    async fn new() -> Self {
        let origin = tempfile::tempdir().unwrap();
        let store = open(origin.path()).await.unwrap();
        fill(&store).await;
        let renders = everything(&store).await;
        let folder = copied(origin.path());
        drop(store);
        let truth = answers(copied(folder.path()).path(), &renders).await.unwrap();
        let log = std::fs::metadata(wal(folder.path())).unwrap().len();
        Self { folder, renders, truth, log }
    }
}

#[tokio::test]
async fn in_the_log_it_loses_nothing_in_silence() {
    let Died { folder: died, renders, truth, log: size } = Died::new().await;
    let mut rng = fastrand::Rng::with_seed(12);
    let mut refused = 0;
    for _ in 0..TRIED {
        let bit = rng.usize(0..usize::try_from(size).unwrap() * 8);
        let folder = copied(died.path());
        flip(&wal(folder.path()), bit);
        match answers(folder.path(), &renders).await {
            None => refused += 1,
            Some(answers) => assert_eq!(answers, truth, "bit {bit}"),
        }
    }
    assert!(refused > TRIED / 2, "{refused} refused");
}

#[tokio::test]
async fn a_log_that_was_cut_short_loses_nothing_in_silence() {
    let Died { folder: died, renders, truth, log: size } = Died::new().await;
    let mut rng = fastrand::Rng::with_seed(13);
    for length in std::iter::once(0).chain(std::iter::repeat_with(|| rng.u64(0..size)).take(TRIED / 5)) {
        let folder = copied(died.path());
        std::fs::File::options().write(true).open(wal(folder.path())).unwrap().set_len(length).unwrap();
        if let Some(answers) = answers(folder.path(), &renders).await {
            assert_eq!(answers, truth, "cut to {length} of {size} bytes");
        }
    }
}
