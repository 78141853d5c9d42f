//! Copies to keep, and putting one back.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lastframe_core::Status;
use lastframe_core::ports::Queue as _;
use lastframe_store::{BackupError, OpenError, Store, backup, restore};

use crate::library::{
    ask, checked, claim, copied, everything, fill, flip, open, render, submit, succeeded, usual, wal,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_while_the_server_works_holds_all_that_was_acknowledged_before_it_began() {
    let (folder, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Arc::new(open(folder.path()).await.unwrap());
    fill(&store).await;
    let (before, stop) = (everything(&store).await, Arc::new(AtomicBool::new(false)));
    let (busy, stopped) = (Arc::clone(&store), Arc::clone(&stop));
    let (began, has_begun) = tokio::sync::oneshot::channel();
    let load = tokio::spawn(async move {
        submit(&busy, "ann", render("meanwhile", None)).await;
        began.send(()).unwrap();
        let mut submitted = 1;
        while !stopped.load(Ordering::Relaxed) {
            submit(&busy, "ann", render("meanwhile", Some("g"))).await;
            if let Some(lease) = claim(&busy).await {
                busy.finish(lease.render.id, &lease.token, succeeded()).await.unwrap();
            }
            submitted += 1;
        }
        submitted
    });
    has_begun.await.unwrap();
    let file = kept.path().join("a.backup");
    let from = folder.path().to_owned();
    let taken = file.clone();
    let report = tokio::task::spawn_blocking(move || backup(&from, &taken, &usual(), &mut |_| ()).unwrap())
        .await
        .unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    stop.store(true, Ordering::Relaxed);
    assert!(load.await.unwrap() > 1);

    let fresh = tempfile::tempdir().unwrap();
    assert_eq!(restore(fresh.path(), &file, &usual(), false, &mut |_| ()).unwrap(), None);
    let restored = open(fresh.path()).await.unwrap();
    for id in before {
        let now = restored.get(id).await.unwrap();
        assert!(now.is_some(), "{id} is not in the backup");
    }
    while let Some(lease) = claim(&restored).await {
        assert_eq!(
            restored.finish(lease.render.id, &lease.token, succeeded()).await.unwrap(),
            Status::Succeeded
        );
    }
    drop(restored);
    assert_eq!(checked(fresh.path()).unwrap().problems, [""; 0]);
}

#[tokio::test]
async fn a_restore_lowers_the_mark_and_what_it_replaced_is_kept_and_cannot_come_back_unnoticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.backup");
    let store = open(folder.path()).await.unwrap();
    fill(&store).await;
    let renders = everything(&store).await;
    backup(folder.path(), &file, &usual(), &mut |_| ()).unwrap();
    let later = submit(&store, "ann", render("later", None)).await;
    let truth = ask(&store, &renders).await;
    drop(store);

    let replaced = restore(folder.path(), &file, &usual(), false, &mut |_| ()).unwrap().unwrap();
    let store = open(folder.path()).await.unwrap();
    let answers = ask(&store, &renders).await;
    for (question, answer) in &answers {
        // One render fewer waits.
        if question != "tenant ann" {
            assert_eq!(Some(answer), truth.get(question), "{question}");
        }
    }
    assert_eq!(store.get(later.id).await.unwrap(), None);
    drop(store);

    std::fs::copy(replaced.join(Store::FILE), folder.path().join(Store::FILE)).unwrap();
    assert!(matches!(open(folder.path()).await, Err(OpenError::OtherDatabase)));
}

#[tokio::test]
async fn who_wants_to_go_on_with_what_is_left_backs_it_up_and_restores_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    fill(&store).await;
    drop(store);
    let store = open(folder.path()).await.unwrap();
    let lost = submit(&store, "ann", render("lost", None)).await;
    let died = copied(folder.path());
    std::fs::remove_file(wal(died.path())).unwrap();
    assert!(matches!(open(died.path()).await, Err(OpenError::Behind { .. })));
    let file = died.path().join("a.backup");
    backup(died.path(), &file, &usual(), &mut |_| ()).unwrap();
    restore(died.path(), &file, &usual(), false, &mut |_| ()).unwrap();
    let store = open(died.path()).await.unwrap();
    assert_eq!(store.get(lost.id).await.unwrap(), None);
    assert!(claim(&store).await.is_some());
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    fill(&store).await;
    let file = folder.path().join("a.backup");
    backup(folder.path(), &file, &usual(), &mut |_| ()).unwrap();
    drop(store);
    let bytes = std::fs::read(&file).unwrap();
    let row = b"v1ann-7queued";
    // Wherever it stands: a page may still hold what it held before.
    for (at, _) in bytes.windows(row.len()).enumerate().filter(|(_, bytes)| bytes == row) {
        flip(&file, (at + 3) * 8);
    }
    let refused = restore(folder.path(), &file, &usual(), false, &mut |_| ());
    assert!(matches!(refused, Err(BackupError::Damaged(_))), "{refused:?}");
    assert!(open(folder.path()).await.is_ok());
    assert!(restore(folder.path(), &file, &usual(), true, &mut |_| ()).is_ok());
    assert!(open(folder.path()).await.is_ok());
}

#[tokio::test]
async fn a_backup_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await.unwrap());
    let file = folder.path().join("a.backup");
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(backup(folder.path(), &file, &usual(), &mut |_| ()), Err(BackupError::Exists(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}
