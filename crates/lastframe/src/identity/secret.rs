//! Secrets that we hand out and keep the hash of: `lft_<id>_<secret>` for programs, `lfr_<id>_<secret>` for sessions.
//!
//! The prefix lets scanners for leaked secrets find them; the id finds the record; the secret has 256 random bits, so a
//! plain hash of it is as good as a slow one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lastframe_core::accounts::SecretHash;
use sha2::{Digest as _, Sha256};

/// What begins the token of a program.
pub(super) const API: &str = "lft";
/// What begins the refresh token of a session.
pub(super) const REFRESH: &str = "lfr";

/// A fresh secret, which nobody can read again.
pub(super) struct Secret {
    /// Its public half.
    pub(super) id: String,
    /// All of it, for whoever it was made for.
    pub(super) text: String,
    /// What is kept.
    pub(super) hash: SecretHash,
}

impl Secret {
    /// A secret of that kind; for an id that there is already, or a new one.
    pub(super) fn new(kind: &str, id: Option<&str>) -> anyhow::Result<Self> {
        let id = match id {
            Some(id) => id.to_owned(),
            None => lastframe_core::hex::encode(&random::<8>()?),
        };
        let secret = URL_SAFE_NO_PAD.encode(random::<32>()?);
        Ok(Self { hash: hash(&secret), text: format!("{kind}_{id}_{secret}"), id })
    }
}

/// The id and the hash of a secret of that kind; none when the text is not one.
pub(super) fn read<'a>(kind: &str, text: &'a str) -> Option<(&'a str, SecretHash)> {
    let (id, secret) = text.strip_prefix(kind)?.strip_prefix('_')?.split_once('_')?;
    Some((id, hash(secret)))
}

fn hash(secret: &str) -> SecretHash {
    Sha256::digest(secret).into()
}

/// So many bytes of the system's randomness.
pub(super) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_as_its_kind_alone() {
        let secret = Secret::new(API, None).unwrap();
        assert_eq!(read(API, &secret.text), Some((secret.id.as_str(), secret.hash)));
        assert_eq!(read(REFRESH, &secret.text), None);
        assert_eq!(read(API, "lft_"), None);
        let next = Secret::new(API, Some(&secret.id)).unwrap();
        assert!(next.id == secret.id && next.hash != secret.hash);
    }
}
