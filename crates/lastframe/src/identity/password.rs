//! Passwords: argon2id, with the parameters that the library recommends.

use std::sync::OnceLock;

use anyhow::Context as _;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::Semaphore;

/// The shortest password, in bytes.
pub(crate) const SHORTEST: usize = 8;
/// The longest, in bytes: each one is hashed whole.
pub(crate) const LONGEST: usize = 1_024;

/// Passwords that are looked at at once: each takes a core for some 20 ms, and 19 MiB.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// The PHC string of a password.
pub(super) async fn hash(password: String) -> anyhow::Result<String> {
    blocking(move || {
        let hash = Argon2::default().hash_password(password.as_bytes());
        hash.map(|hash| hash.to_string()).map_err(|error| anyhow::anyhow!("cannot hash a password: {error}"))
    })
    .await?
}

/// Whether it is the password of that PHC string. With none it takes as long, and is not: how long an answer takes
/// does not tell who is known here.
pub(super) async fn verify(password: String, phc: Option<String>) -> anyhow::Result<bool> {
    blocking(move || {
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

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    let _permit = AT_ONCE.acquire().await?;
    tokio::task::spawn_blocking(work).await.context("hashing a password panicked")
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
}
