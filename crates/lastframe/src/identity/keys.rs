//! The keys that the built-in issuer signs with: P-256, the newest first in `signing-keys.pem`.
//!
//! A rotation puts a new key before the others. Those stay for as long as tokens that they have signed are good, so
//! nobody is logged out by it.

use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::ecdsa::SigningKey;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use serde::Serialize;

use super::jwks::Keys;
use super::secret;
use crate::data::DataFolder;

const FILE: &str = "signing-keys.pem";
/// Where a single key was kept before there were several.
const FORMER_FILE: &str = "signing-key.pem";
/// Keys that are kept. Their tokens live for an hour: more rotations than these within one are for a key that has leaked.
const KEPT: usize = 4;
const END: &str = "-----END PRIVATE KEY-----";

/// The keys in use, and where they are kept.
pub(super) struct SigningKeys {
    folder: Arc<DataFolder>,
    ring: RwLock<Arc<Ring>>,
}

struct Ring {
    /// Newest first.
    pems: Vec<String>,
    encoding: EncodingKey,
    kid: String,
    public: JwkSet,
    keys: Keys,
}

impl SigningKeys {
    /// Reads them, making the first.
    pub(super) fn open(folder: Arc<DataFolder>) -> anyhow::Result<Self> {
        let text = folder.secret(FILE, || {
            let former = std::fs::read_to_string(folder.join(FORMER_FILE));
            former.or_else(|_| new_key())
        })?;
        let pems = text.split_inclusive(END).map(str::trim).filter(|pem| pem.ends_with(END));
        let ring = Ring::new(pems.map(str::to_owned).collect()).with_context(|| format!("in {FILE}"))?;
        drop(std::fs::remove_file(folder.join(FORMER_FILE)));
        Ok(Self { folder, ring: RwLock::new(Arc::new(ring)) })
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Signs with the newest.
    pub(super) fn sign(&self, claims: &impl Serialize) -> anyhow::Result<String> {
        let ring = self.ring();
        let header = Header { kid: Some(ring.kid.clone()), ..Header::new(Algorithm::ES256) };
        Ok(jsonwebtoken::encode(&header, claims, &ring.encoding)?)
    }

    /// The public halves, for others to verify with.
    pub(super) fn public(&self) -> JwkSet {
        self.ring().public.clone()
    }

    /// The public halves, to verify with.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Keys) -> T) -> T {
        look(&self.ring().keys)
    }

    /// Signs with a new key from now on, and forgets the others at once if they are not to be trusted any more. Returns
    /// the ids of the keys that are left, newest first.
    pub(super) fn rotate(&self, distrust: bool) -> anyhow::Result<Vec<String>> {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let mut pems = vec![new_key()?];
        if !distrust {
            pems.extend(ring.pems.iter().take(KEPT - 1).cloned());
        }
        let next = Ring::new(pems)?;
        // On disk before anything is signed with it.
        self.folder.write_secret(FILE, &(next.pems.join("\n") + "\n"))?;
        *ring = Arc::new(next);
        Ok(ring.public.keys.iter().filter_map(|key| key.common.key_id.clone()).collect())
    }
}

impl Ring {
    fn new(pems: Vec<String>) -> anyhow::Result<Self> {
        let newest = pems.first().context("there is no key")?;
        let encoding = EncodingKey::from_ec_pem(newest.as_bytes()).context("no P-256 key in PKCS#8")?;
        let public = JwkSet { keys: pems.iter().map(|pem| public(pem)).collect::<anyhow::Result<_>>()? };
        let kid = public.keys.first().and_then(|key| key.common.key_id.clone()).unwrap_or_default();
        let keys = Keys::new(&public);
        Ok(Self { pems, encoding, kid, public, keys })
    }
}

/// The public half of a key, named by its thumbprint (RFC 7638).
fn public(pem: &str) -> anyhow::Result<Jwk> {
    SigningKey::from_pkcs8_pem(pem).context("no P-256 key in PKCS#8")?;
    let mut key = Jwk::from_encoding_key(&EncodingKey::from_ec_pem(pem.as_bytes())?, Algorithm::ES256)?;
    key.common.key_id = Some(key.thumbprint(ThumbprintHash::SHA256)?);
    key.common.public_key_use = Some(PublicKeyUse::Signature);
    Ok(key)
}

fn new_key() -> anyhow::Result<String> {
    loop {
        // All but a vanishing few numbers of 256 bits are keys.
        if let Ok(key) = SigningKey::from_slice(&secret::random::<32>()?) {
            return Ok(key.to_pkcs8_pem(LineEnding::LF)?.trim().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(keys: &SigningKeys) -> Vec<String> {
        keys.public().keys.into_iter().filter_map(|key| key.common.key_id).collect()
    }

    #[test]
    fn a_rotation_keeps_the_keys_before_it_unless_they_are_distrusted() {
        let folder = tempfile::tempdir().unwrap();
        let open = || SigningKeys::open(Arc::new(DataFolder::open(folder.path()).unwrap())).unwrap();
        let keys = open();
        let first = ids(&keys);
        let both = keys.rotate(false).unwrap();
        assert_eq!((first.len(), both.len(), &both[1]), (1, 2, &first[0]));
        drop(keys);
        let keys = open();
        assert_eq!(ids(&keys), both, "they are the same after a restart");
        let newest = keys.rotate(true).unwrap();
        assert!(newest.len() == 1 && !both.contains(&newest[0]));
        for _ in 0..10 {
            assert!(keys.rotate(false).unwrap().len() <= KEPT);
        }
    }

    #[test]
    fn the_key_of_an_earlier_version_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let data = Arc::new(DataFolder::open(folder.path()).unwrap());
        let pem = new_key().unwrap();
        data.write_secret(FORMER_FILE, &pem).unwrap();
        let keys = SigningKeys::open(Arc::clone(&data)).unwrap();
        assert_eq!(keys.ring().pems, [pem]);
        assert!(!data.join(FORMER_FILE).exists());
    }
}
