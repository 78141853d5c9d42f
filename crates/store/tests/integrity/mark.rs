//! A database that is not as far as it was.

use lastframe_store::{OpenError, Store};

use crate::library::{checked, copied, fill, open, render, submit, wal};

#[tokio::test]
async fn a_log_that_is_gone_is_noticed_and_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    fill(&store).await;
    let died = copied(folder.path());
    std::fs::remove_file(wal(died.path())).unwrap();
    let error = open(died.path()).await.unwrap_err();
    assert!(error.to_string().contains("lastframe restore FILE"), "{error}");
    assert!(checked(died.path()).is_err() || !checked(died.path()).unwrap().problems.is_empty());
}

#[tokio::test]
async fn an_older_copy_in_the_place_of_the_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    fill(&store).await;
    drop(store);
    let older = std::fs::read(folder.path().join(Store::FILE)).unwrap();
    let store = open(folder.path()).await.unwrap();
    submit(&store, "ann", render("later", None)).await;
    drop(store);
    std::fs::write(folder.path().join(Store::FILE), older).unwrap();
    match open(folder.path()).await {
        Err(OpenError::Behind { found, reached }) => assert!(found < reached),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn another_database_in_its_place_is_refused_however_far_it_is() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(open(folder.path()).await.unwrap());
    let store = open(other.path()).await.unwrap();
    fill(&store).await;
    drop(store);
    std::fs::copy(other.path().join(Store::FILE), folder.path().join(Store::FILE)).unwrap();
    assert!(matches!(open(folder.path()).await, Err(OpenError::OtherDatabase)));
}

#[tokio::test]
async fn a_database_that_is_gone_is_not_silently_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await.unwrap());
    std::fs::remove_file(folder.path().join(Store::FILE)).unwrap();
    assert!(matches!(open(folder.path()).await, Err(OpenError::DatabaseMissing { .. })));
    assert!(!folder.path().join(Store::FILE).exists());
}

#[tokio::test]
async fn without_its_mark_a_database_that_was_used_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    fill(&store).await;
    drop(store);
    for damage in [None, Some("nonsense")] {
        let folder = copied(folder.path());
        let mark = folder.path().join("high-water");
        match damage {
            None => std::fs::remove_file(&mark).unwrap(),
            Some(text) => std::fs::write(&mark, text).unwrap(),
        }
        assert!(matches!(open(folder.path()).await, Err(OpenError::NoMark)), "{damage:?}");
    }
}

#[tokio::test]
async fn a_start_that_died_before_its_mark_was_written_is_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await.unwrap());
    std::fs::remove_file(folder.path().join("high-water")).unwrap();
    assert!(open(folder.path()).await.is_ok());
}
