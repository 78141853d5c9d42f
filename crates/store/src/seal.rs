//! Secrets at rest: what is sealed before it is written, and opened when it is read.
//!
//! A sealed value is a version byte, the id of its key, a nonce, and what XChaCha20-Poly1305 made of the text. The nonce is
//! random: with 192 bits of it nobody has to count, however many values a key seals and however often a database is
//! restored. What the value is bound to, its column and what identifies its row, is authenticated with it: moved to
//! another row it does not open.
//!
//! In the schema such a column is `ANY`: a text is plain, a blob is sealed.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use chacha20poly1305::{AeadInOut as _, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use lastframe_core::ports::QueueError;
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::integrity;
use crate::writer::storage;

/// The layout of a sealed value.
const VERSION: u8 = 1;
/// The version and the id of the key.
pub(crate) const HEADER: usize = 1 + 8;
const NONCE: usize = 24;
const TAG: usize = 16;

/// Tells a key from any other, and says nothing about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// What every value that is sealed with the key begins with.
    pub(crate) fn header(self) -> [u8; HEADER] {
        let mut header = [VERSION; HEADER];
        header[1..].copy_from_slice(&self.0);
        header
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for KeyId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
        id.map(|id| Self(id.to_be_bytes())).ok_or("is no id of a key: 16 hex digits")
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A key that seals and opens. Wiped from memory when nobody has it any more; what is shown of it is its id.
#[derive(Clone)]
pub struct Key(Arc<(KeyId, XChaCha20Poly1305)>);

impl Key {
    /// The key of these bytes, which must be random.
    #[must_use]
    pub fn new(bytes: &Zeroizing<[u8; 32]>) -> Self {
        let hash = Sha256::new().chain_update("lastframe key id 1\0").chain_update(**bytes).finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        Self(Arc::new((KeyId(id), XChaCha20Poly1305::new((&**bytes).into()))))
    }

    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.0.0
    }

    fn seal(&self, place: &Place, plain: &str) -> Result<Vec<u8>, QueueError> {
        let mut nonce = XNonce::default();
        getrandom::fill(&mut nonce).map_err(storage)?;
        let header = self.id().header();
        let mut sealed = Vec::with_capacity(HEADER + NONCE + plain.len() + TAG);
        sealed.extend_from_slice(&header);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain.as_bytes());
        let bound = place.bound_to(&header);
        let text = &mut sealed[HEADER + NONCE..];
        let tag = self.0.1.encrypt_inout_detached(&nonce, &bound, text.into());
        let tag = tag.map_err(|_| storage(std::io::Error::other("a value is too long to be sealed")))?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    fn open(&self, place: &Place, sealed: &[u8]) -> Option<String> {
        let (header, rest) = sealed.split_at_checked(HEADER)?;
        let (nonce, rest) = rest.split_at_checked(NONCE)?;
        let (text, tag) = rest.split_at_checked(rest.len().checked_sub(TAG)?)?;
        let (nonce, tag) = (XNonce::try_from(nonce).ok()?, Tag::try_from(tag).ok()?);
        let mut text = text.to_vec();
        let bound = place.bound_to(header);
        self.0.1.decrypt_inout_detached(&nonce, &bound, text.as_mut_slice().into(), &tag).ok()?;
        String::from_utf8(text).ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

/// The keys at hand: one that seals, unless nothing is to be sealed, and all that open.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    known: Vec<Key>,
    seals: bool,
    source: String,
}

impl Keys {
    /// The first seals, all open. `source` says where they are from, for whoever misses one.
    #[must_use]
    pub fn new(known: Vec<Key>, source: impl Into<String>) -> Self {
        Self { seals: !known.is_empty(), known, source: source.into() }
    }

    /// The same keys, of which none seals: what is written is plain.
    #[must_use]
    pub fn only_opening(self) -> Self {
        Self { seals: false, ..self }
    }

    /// The key that seals.
    #[must_use]
    pub fn current(&self) -> Option<KeyId> {
        self.sealing().map(Key::id)
    }

    /// Where they are from.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    fn sealing(&self) -> Option<&Key> {
        self.known.first().filter(|_| self.seals)
    }

    pub(crate) fn has(&self, id: KeyId) -> bool {
        self.find(id).is_some()
    }

    fn find(&self, id: KeyId) -> Option<&Key> {
        self.known.iter().find(|key| key.id() == id)
    }

    /// The text, as it may be written in that place.
    pub(crate) fn seal(&self, place: &Place, plain: String) -> Result<Stored, QueueError> {
        match self.sealing() {
            Some(key) => key.seal(place, &plain).map(Stored::Sealed),
            None => Ok(Stored::Plain(plain)),
        }
    }

    /// The text that was written in that place.
    pub(crate) fn open(&self, place: &Place, stored: ValueRef<'_>) -> Result<String, Unopened> {
        match stored {
            ValueRef::Text(plain) => String::from_utf8(plain.to_vec()).map_err(|_| Unopened::Damaged),
            ValueRef::Blob(sealed) => {
                let id = sealed_with(sealed).ok_or(Unopened::Damaged)?;
                let key = self.find(id).ok_or(Unopened::KeyMissing(id))?;
                key.open(place, sealed).ok_or(Unopened::Damaged)
            }
            _ => Err(Unopened::Damaged),
        }
    }
}

/// The key of a sealed value; none when it makes no sense.
pub(crate) fn sealed_with(sealed: &[u8]) -> Option<KeyId> {
    let (version, rest) = sealed.split_first()?;
    (*version == VERSION).then_some(KeyId(*rest.first_chunk()?))
}

/// Why a value was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// Its key is not at hand.
    KeyMissing(KeyId),
    /// It is not what was written there.
    Damaged,
}

impl Unopened {
    /// The same as an error of a row that is damaged.
    pub(crate) fn of(self, what: &str) -> rusqlite::Error {
        integrity::damaged(match self {
            Self::KeyMissing(id) => format!("{what}, sealed with the key {id}, which is not at hand,"),
            Self::Damaged => format!("{what}, which does not open with its key,"),
        })
    }
}

/// A value as it is written.
#[derive(Debug)]
pub(crate) enum Stored {
    Plain(String),
    Sealed(Vec<u8>),
}

impl ToSql for Stored {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Plain(text) => ValueRef::Text(text.as_bytes()),
            Self::Sealed(sealed) => ValueRef::Blob(sealed),
        }))
    }
}

/// Where a value stands: a column, and what identifies its row for ever.
#[derive(Debug)]
pub(crate) struct Place(Vec<u8>);

impl Place {
    pub(crate) fn new(column: &str, row: &[&str]) -> Self {
        let mut place = Vec::new();
        for part in std::iter::once(&column).chain(row) {
            place.extend_from_slice(&(part.len() as u64).to_le_bytes());
            place.extend_from_slice(part.as_bytes());
        }
        Self(place)
    }

    fn bound_to(&self, header: &[u8]) -> Vec<u8> {
        [header, &self.0].concat()
    }
}

/// The keys of an open store. Another key becomes the one that seals only between two transactions.
#[derive(Debug)]
pub(crate) struct Ring(RwLock<Arc<Keys>>);

impl Ring {
    pub(crate) fn new(keys: Keys) -> Self {
        Self(RwLock::new(Arc::new(keys)))
    }

    /// The keys as they are now: asked for after a value was read, they have the one it needs.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace(&self, keys: Keys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(number: u8) -> Keys {
        Keys::new(vec![Key::new(&Zeroizing::new([number; 32]))], "a test")
    }

    fn sealed(keys: &Keys, place: &Place, plain: &str) -> Vec<u8> {
        match keys.seal(place, plain.into()).unwrap() {
            Stored::Sealed(sealed) => sealed,
            Stored::Plain(_) => panic!("it is plain"),
        }
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_with_its_key_and_nowhere_else() {
        let (mine, place) = (keys(1), Place::new("request.body", &["a", "b"]));
        for plain in ["", "x", "{\"text\":\"Größe\"}"] {
            let sealed = sealed(&mine, &place, plain);
            let open = |keys: &Keys, place: &Place| keys.open(place, ValueRef::Blob(&sealed));
            assert_eq!(open(&mine, &place), Ok(plain.into()));
            for other in
                [("request.body", ["ab", ""]), ("request.body", ["b", "a"]), ("site.body", ["a", "b"])]
            {
                assert_eq!(open(&mine, &Place::new(other.0, &other.1)), Err(Unopened::Damaged), "{other:?}");
            }
            assert_eq!(open(&keys(2), &place), Err(Unopened::KeyMissing(mine.current().unwrap())));
        }
    }

    #[test]
    fn no_two_sealed_values_are_alike_and_none_shows_its_text() {
        let (keys, place) = (keys(1), Place::new("request.body", &["a"]));
        let (one, other) = (sealed(&keys, &place, "a secret"), sealed(&keys, &place, "a secret"));
        assert_ne!(one[HEADER..], other[HEADER..]);
        assert!(!one.windows(6).any(|part| part == b"secret"));
    }

    #[test]
    fn with_a_flipped_bit_or_cut_short_it_does_not_open() {
        let (keys, place) = (keys(1), Place::new("request.body", &["a"]));
        let sealed = sealed(&keys, &place, "secret");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open(&place, ValueRef::Blob(&flipped)).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(keys.open(&place, ValueRef::Blob(&sealed[..length])).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn keys_that_only_open_write_plain_text_and_what_is_shown_of_a_key_is_its_id() {
        let place = Place::new("request.body", &["a"]);
        let secret = sealed(&keys(1), &place, "secret");
        let opening = keys(1).only_opening();
        assert!(matches!(opening.seal(&place, "x".into()).unwrap(), Stored::Plain(text) if text == "x"));
        assert_eq!(opening.open(&place, ValueRef::Blob(&secret)), Ok("secret".into()));
        assert_eq!(opening.open(&place, ValueRef::Text(b"plain")), Ok("plain".into()));
        let shown = format!("{:?}", keys(1));
        assert!(
            shown.contains(&keys(1).current().unwrap().to_string()) && !shown.contains("1, 1"),
            "{shown}"
        );
    }
}
