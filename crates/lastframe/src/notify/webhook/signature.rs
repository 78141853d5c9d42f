//! What a receiver checks: Remotion's signature, and that of Standard Webhooks.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use lastframe_core::hex;
use lastframe_core::outbox::Secret;
use sha2::{Sha256, Sha512};

/// How a secret of Standard Webhooks begins; its bytes follow in Base64.
const STANDARD: &str = "whsec_";

/// The value of `X-Remotion-Signature`. There can be one alone: with the oldest secret, a rotation breaks nobody before the
/// old one is removed.
pub(super) fn remotion(secrets: &[Secret], body: &[u8]) -> String {
    let Some(Secret(oldest)) = secrets.first() else { return "NO_SECRET_PROVIDED".to_owned() };
    let mac =
        keyed::<Hmac<Sha512>>(oldest.as_bytes()).map(|mac| mac.chain_update(body).finalize().into_bytes());
    format!("sha512={}", mac.map(|mac| hex::encode(&mac)).unwrap_or_default())
}

/// The value of `webhook-signature`: one for each secret. None without any.
pub(super) fn standard(secrets: &[Secret], id: &str, at: Timestamp, body: &[u8]) -> Option<String> {
    let signed = |Secret(secret): &Secret| {
        let mac = keyed::<Hmac<Sha256>>(&bytes(secret))?;
        let mac = mac.chain_update(format!("{id}.{}.", at.as_second())).chain_update(body).finalize();
        Some(format!("v1,{}", BASE64_STANDARD.encode(mac.into_bytes())))
    };
    let signatures: Vec<_> = secrets.iter().filter_map(signed).collect();
    (!signatures.is_empty()).then(|| signatures.join(" "))
}

/// A secret as Standard Webhooks uses it: what `whsec_` stands before, or its own bytes.
fn bytes(secret: &str) -> Vec<u8> {
    let standard = secret.strip_prefix(STANDARD).and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
    standard.unwrap_or_else(|| secret.as_bytes().to_vec())
}

/// Keys of any length are good for an HMAC.
fn keyed<M: hmac::digest::KeyInit>(key: &[u8]) -> Option<M> {
    M::new_from_slice(key).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standards_example() {
        let secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into());
        let at = Timestamp::from_second(1_614_265_330).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = standard(&[secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_secrets_sign_both_and_the_oldest_signs_for_remotion() {
        let (old, new) = (Secret("old".into()), Secret("whsec_bmV3".into()));
        let both = [old.clone(), new.clone()];
        let at = Timestamp::UNIX_EPOCH;
        let alone = |secret: &Secret| standard(std::slice::from_ref(secret), "id", at, b"{}").unwrap();
        assert_eq!(standard(&both, "id", at, b"{}").unwrap(), format!("{} {}", alone(&old), alone(&new)));
        assert_eq!(alone(&new), alone(&Secret("new".into())), "the same bytes");
        assert_eq!(remotion(&both, b"{}"), remotion(&[old], b"{}"));
        assert_eq!(remotion(&[], b"{}"), "NO_SECRET_PROVIDED");
        assert_eq!(standard(&[], "id", at, b"{}"), None);
    }
}
