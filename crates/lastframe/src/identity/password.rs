//! Passwords: argon2id, with the parameters that the library recommends.

use std::sync::OnceLock;

use anyhow::Context as _;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use lastframe_core::ports::QueueError;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The shortest password, in bytes.
pub(crate) const SHORTEST: usize = 8;
/// The longest, in bytes: each one is hashed whole.
pub(crate) const LONGEST: usize = 1_024;

/// Where all of this process are looked at.
static DESK: Desk = Desk::new(2, 32);

/// The PHC string of a password.
pub(super) async fn hash(password: String) -> anyhow::Result<String> {
    DESK.run(move || {
        let hash = Argon2::default().hash_password(password.as_bytes());
        hash.map(|hash| hash.to_string()).map_err(|error| anyhow::anyhow!("cannot hash a password: {error}"))
    })
    .await?
}

/// Whether it is the password of that PHC string. With none it takes as long, and is not: how long an answer takes
/// does not tell who is known here.
///
/// # Errors
/// [`QueueError::Busy`] when too many wait.
pub(super) async fn verify(password: String, phc: Option<String>) -> anyhow::Result<bool> {
    let _place = DESK.place()?;
    DESK.run(move || {
        static NOBODYS: OnceLock<Option<String>> = OnceLock::new();
        let nobodys = NOBODYS
            .get_or_init(|| Argon2::default().hash_password(b"nobody").ok().map(|hash| hash.to_string()));
        let known = phc.is_some();
        let phc = phc.as_ref().or(nobodys.as_ref()).context("cannot hash a password")?;
        let phc = PasswordHash::new(phc).map_err(|error| anyhow::anyhow!("no PHC string: {error}"))?;
        Ok(Argon2::default().verify_password(password.as_bytes(), &phc).is_ok() && known)
    })
    .await?
}

/// Bounds what passwords cost: each takes a core for some 20 ms, and 19 MiB.
struct Desk {
    at_once: Semaphore,
    /// Of people who sign in. Nobody else can make a crowd.
    places: Semaphore,
}

impl Desk {
    const fn new(at_once: usize, places: usize) -> Self {
        Self { at_once: Semaphore::const_new(at_once), places: Semaphore::const_new(places) }
    }

    fn place(&self) -> Result<SemaphorePermit<'_>, QueueError> {
        self.places.try_acquire().map_err(|_| QueueError::Busy)
    }

    async fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let permit = self.at_once.acquire().await?;
        let work = move || {
            // Until the work is done, whether or not somebody still waits for it.
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work).await.context("looking at a password panicked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_good_for_its_own_hash_alone() {
        let phc = hash("correct horse".into()).await.unwrap();
        assert!(phc.starts_with("$argon2id$"), "{phc}");
        assert!(verify("correct horse".into(), Some(phc.clone())).await.unwrap());
        assert!(!verify("correct house".into(), Some(phc.clone())).await.unwrap());
        assert_ne!(phc, hash("correct horse".into()).await.unwrap(), "each has a salt of its own");
        assert!(!verify("nobody".into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn who_hangs_up_makes_no_room_before_the_work_is_done() {
        static DESK: Desk = Desk::new(1, 1);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (tell, begun) = tokio::sync::oneshot::channel();
        let work = tokio::spawn(DESK.run(move || {
            tell.send(()).unwrap();
            wait.recv().unwrap();
        }));
        begun.await.unwrap();
        work.abort();
        assert!(work.await.unwrap_err().is_cancelled());
        assert_eq!(DESK.at_once.available_permits(), 0);
        go.send(()).unwrap();
        DESK.run(|| ()).await.unwrap();
    }

    #[test]
    fn a_crowd_is_turned_away() {
        static DESK: Desk = Desk::new(1, 2);
        let first = DESK.place().unwrap();
        let _second = DESK.place().unwrap();
        assert!(matches!(DESK.place(), Err(QueueError::Busy)));
        drop(first);
        assert!(DESK.place().is_ok());
    }
}
