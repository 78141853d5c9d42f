//! The keys that secrets in the database are sealed with: where they are kept, and how another one comes into use.
//!
//! The store seals, opens and seals anew; this room knows files. A key is on disk before anything is sealed with it, and stays
//! in its file when nothing needs it any more: backups of before do.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lastframe_core::ports::QueueError;
use lastframe_store::{BackupError, Key, KeyId, KeyInUse, Keys, OpenError, Resealed, Store};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::data;

/// The key file of a data folder, unless another is configured.
pub(crate) const KEY_FILE: &str = "encryption-key";
/// The environment variable that is used instead of a file.
pub(crate) const KEY_VARIABLE: &str = "LASTFRAME_ENCRYPTION_KEY";
/// How a key file marks keys that only backups may need.
const RETIRED: &str = "retired";
const HEADER: &str = "\
# The keys of this data folder's secrets, in base64. The first one seals, all open. Keep a copy of this file elsewhere, and
# not beside the backups: without it nobody can read what the database holds. `retired` ones open backups of before.
";
/// When sealing anew is tried again after a fault.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// Where the keys are.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// In the environment, as it was when the server started.
    Variable(Secret),
    /// In that file, which must be there.
    File(PathBuf),
    /// In the file of the data folder, which is made where none is needed yet.
    DataFolder(PathBuf),
}

/// A text that is not shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Whether secrets are sealed, and with what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether new values are sealed.
    pub enabled: bool,
    /// Where the keys are, also of values that were sealed when it was enabled.
    pub source: KeySource,
}

/// What is wrong with the keys; somebody has to put it right before anything can go on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct KeyError(String);

/// Whether it is about keys that are missing or wrong.
pub(crate) fn is_about_keys(error: &anyhow::Error) -> bool {
    let missing = |error: &OpenError| matches!(error, OpenError::KeyMissing { .. });
    error.is::<KeyError>()
        || error.downcast_ref().is_some_and(missing)
        || matches!(error.downcast_ref(), Some(BackupError::Open(error)) if missing(error))
}

impl Settings {
    /// The keys of the data folder: from the environment, else from the file that is configured, else its own.
    pub(crate) fn new(enabled: bool, file: Option<PathBuf>, data: &Path) -> Self {
        let variable = std::env::var(KEY_VARIABLE).ok().map(Zeroizing::new);
        let source = match (variable.filter(|text| !text.trim().is_empty()), file) {
            (Some(text), _) => KeySource::Variable(Secret(text)),
            (None, Some(file)) => KeySource::File(file),
            (None, None) => KeySource::DataFolder(data.join(KEY_FILE)),
        };
        Self { enabled, source }
    }

    /// The keys that are there, of which the first seals if that is enabled; none where their file is not.
    ///
    /// # Errors
    /// [`KeyError`]
    pub(crate) fn keys(&self) -> anyhow::Result<Keys> {
        let known = self.source.read()?.unwrap_or_default();
        Ok(self.of(&known))
    }

    /// The same for a server: makes a key where it is the data folder's own, missing, and not needed yet.
    ///
    /// # Errors
    /// [`KeyError`]
    pub(crate) fn keys_or_new(&self, folder: &Path) -> anyhow::Result<Keys> {
        let known = match (self.source.read()?, &self.source) {
            (Some(known), _) => known,
            (None, KeySource::DataFolder(file)) if self.enabled => {
                if lastframe_store::needs_key(folder)?.is_none() {
                    write(file, &[Kept::generate()?])?;
                    tracing::info!(file = %file.display(), "made a key for secrets; keep a copy of it elsewhere");
                    return self.keys();
                }
                Vec::new()
            }
            (None, _) => Vec::new(),
        };
        Ok(self.of(&known))
    }

    fn of(&self, known: &[Kept]) -> Keys {
        let keys = Keys::new(known.iter().map(Kept::key).collect(), self.source.to_string());
        if self.enabled { keys } else { keys.only_opening() }
    }
}

impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Variable(_) => write!(f, "in {KEY_VARIABLE}"),
            Self::File(file) | Self::DataFolder(file) => write!(f, "in {}", file.display()),
        }
    }
}

impl KeySource {
    /// What is there; none when the data folder's own file is missing.
    fn read(&self) -> anyhow::Result<Option<Vec<Kept>>> {
        let (text, separator) = match self {
            Self::Variable(Secret(text)) => (text.clone(), ','),
            Self::File(file) | Self::DataFolder(file) => match read(file) {
                Ok(text) => (text, '\n'),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let Self::File(file) = self else { return Ok(None) };
                    let how = "make one: `(umask 077; openssl rand -base64 32 > FILE)`";
                    return Err(
                        KeyError(format!("the key file {} is not there; {how}", file.display())).into()
                    );
                }
                Err(error) => {
                    return Err(
                        KeyError(format!("cannot use the key file {}: {error}", file.display())).into()
                    );
                }
            },
        };
        let mut kept = Vec::new();
        for line in
            text.split(separator).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let key = Kept::parse(line).ok_or_else(|| {
                KeyError(format!("what is {self} is no list of keys: each must be 32 random bytes in base64"))
            })?;
            kept.push(key);
        }
        if kept.is_empty() {
            return Err(KeyError(format!("no key is {self}")).into());
        }
        // What seals comes first, whatever the file's order.
        kept.sort_by_key(|key| key.retired);
        Ok(Some(kept))
    }

    /// The file, if it is one.
    fn file(&self) -> Option<&Path> {
        match self {
            Self::Variable(_) => None,
            Self::File(file) | Self::DataFolder(file) => Some(file),
        }
    }
}

/// A key as it is kept.
#[derive(Clone)]
struct Kept {
    bytes: Zeroizing<[u8; 32]>,
    retired: bool,
}

impl Kept {
    fn generate() -> anyhow::Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        Ok(Self { bytes, retired: false })
    }

    fn parse(line: &str) -> Option<Self> {
        let (text, retired) = match line.split_once(char::is_whitespace) {
            None => (line, false),
            Some((text, mark)) => (text, (mark.trim() == RETIRED).then_some(true)?),
        };
        let decoded = Zeroizing::new(STANDARD.decode(text).ok()?);
        let mut bytes = Zeroizing::new([0; 32]);
        (decoded.len() == bytes.len()).then(|| bytes.copy_from_slice(&decoded))?;
        Some(Self { bytes, retired })
    }

    fn key(&self) -> Key {
        Key::new(&self.bytes)
    }
}

/// What the key file says, if it is this user's alone.
fn read(file: &Path) -> std::io::Result<Zeroizing<String>> {
    let mode = std::fs::metadata(file)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(std::io::Error::other("others may read or write it; `chmod 600` it"));
    }
    std::fs::read_to_string(file).map(Zeroizing::new)
}

/// Writes the key file, whole or not at all. On disk when it returns.
fn write(file: &Path, kept: &[Kept]) -> anyhow::Result<()> {
    let mut text = Zeroizing::new(String::with_capacity(HEADER.len() + kept.len() * 64));
    text.push_str(HEADER);
    for key in kept {
        let line = Zeroizing::new(STANDARD.encode(key.bytes.as_slice()));
        let mark = if key.retired { format!(" {RETIRED}") } else { String::new() };
        writeln!(text, "{}{mark}", *line)?;
    }
    data::write_private(file, &text)
}

/// The keys of a server at work.
#[derive(Debug)]
pub(crate) struct Encryption {
    store: Arc<Store>,
    settings: Settings,
    /// Held by who changes keys.
    changing: Mutex<()>,
    /// There is something to seal anew.
    due: Notify,
}

/// Why a rotation was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    /// Nothing is sealed.
    #[error("encryption is off: set `enabled = true` under [encryption] and start the server again")]
    Off,
    /// The server cannot write where they are.
    #[error(
        "the keys come from {KEY_VARIABLE}: put a new one before the others there, and start the server again \
         (`openssl rand -base64 32` makes one)"
    )]
    NotOurs,
    /// The file cannot be read or written.
    #[error("the key file cannot be changed")]
    File(#[source] anyhow::Error),
    /// The store cannot use it now.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// A key, and what it is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyState {
    /// New values are sealed with it.
    Current,
    /// What it has sealed is sealed anew.
    Leaving(jiff::Timestamp),
    /// Nothing in the database needs it; backups may.
    Retired,
}

/// What is known about the keys.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) enabled: bool,
    pub(crate) source: String,
    /// In the order of their states. No id stands for values that are not sealed.
    pub(crate) keys: Vec<(Option<KeyId>, KeyState)>,
}

/// The keys of secrets as the API knows them.
#[async_trait]
pub(crate) trait SealingKeys: std::fmt::Debug + Send + Sync {
    /// What is known about the keys.
    ///
    /// # Errors
    /// When the file or the store cannot be read.
    async fn status(&self) -> anyhow::Result<Status>;

    /// Makes a new key and seals with it from now on; what is sealed already follows by and by.
    ///
    /// # Errors
    /// See [`RotateError`]; what was in use is in use then.
    async fn rotate(&self) -> Result<KeyId, RotateError>;
}

#[async_trait]
impl SealingKeys for Encryption {
    async fn status(&self) -> anyhow::Result<Status> {
        let in_use = self.store.keys_in_use().await?;
        let known = self.settings.source.read()?.unwrap_or_default();
        let mut keys: Vec<_> = in_use
            .iter()
            .map(|KeyInUse { id, leaving, since }| {
                (*id, if *leaving { KeyState::Leaving(*since) } else { KeyState::Current })
            })
            .collect();
        for id in known.iter().map(|kept| kept.key().id()) {
            if !in_use.iter().any(|key| key.id == Some(id)) {
                keys.push((Some(id), KeyState::Retired));
            }
        }
        Ok(Status { enabled: self.settings.enabled, source: self.settings.source.to_string(), keys })
    }

    async fn rotate(&self) -> Result<KeyId, RotateError> {
        let _changing = self.changing.lock().await;
        if !self.settings.enabled {
            return Err(RotateError::Off);
        }
        let file = self.settings.source.file().ok_or(RotateError::NotOurs)?;
        let known = self.settings.source.read().map_err(RotateError::File)?.unwrap_or_default();
        let new = Kept::generate().map_err(RotateError::File)?;
        let id = new.key().id();
        let kept: Vec<_> = std::iter::once(new).chain(known).collect();
        // On disk before anything is sealed with it. If it stays unused, the next start uses it.
        write(file, &kept).map_err(RotateError::File)?;
        self.store.seal_with(self.settings.of(&kept)).await?;
        tracing::info!(key = %id, "secrets are sealed with another key");
        self.due.notify_one();
        Ok(id)
    }
}

impl Encryption {
    pub(crate) fn new(store: Arc<Store>, settings: Settings) -> Self {
        if !settings.enabled {
            tracing::warn!("encryption is off: secrets are written as they are");
        }
        Self { store, settings, changing: Mutex::default(), due: Notify::new() }
    }

    /// Seals anew what is not under the current key, whenever there is something, until told to stop.
    pub(crate) async fn run(&self, close: CancellationToken) {
        loop {
            let again = tokio::select! {
                () = close.cancelled() => return,
                again = self.turn() => again,
            };
            tokio::select! {
                () = close.cancelled() => return,
                () = self.due.notified() => {}
                () = tokio::time::sleep(TRY_AGAIN), if again => {}
            }
        }
    }

    /// Whether it must be tried again.
    async fn turn(&self) -> bool {
        match self.store.reseal().await {
            Ok(Resealed { values, damaged }) => {
                if values > 0 {
                    tracing::info!(values, "sealed anew what was under another key");
                }
                if damaged > 0 {
                    tracing::error!(
                        values = damaged,
                        "damaged secrets stay under a key that therefore stays in use; `lastframe check` names them"
                    );
                }
                if let Err(error) = self.mark_retired().await {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the key file does not say which keys are retired"
                    );
                }
                false
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot seal anew; trying again later"
                );
                true
            }
        }
    }

    /// Lets the key file say which keys only backups may need.
    async fn mark_retired(&self) -> anyhow::Result<()> {
        let _changing = self.changing.lock().await;
        let Some(file) = self.settings.source.file() else { return Ok(()) };
        let Some(mut kept) = self.settings.source.read()? else { return Ok(()) };
        let in_use = self.store.keys_in_use().await?;
        let mut changed = false;
        // The first is what a server that encrypts begins with.
        for (index, key) in kept.iter_mut().enumerate() {
            let id = key.key().id();
            let retired = index > 0 && !in_use.iter().any(|used| used.id == Some(id));
            changed |= retired != key.retired;
            key.retired = retired;
        }
        if changed {
            write(file, &kept).context("cannot write the key file")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lastframe_core::ports::Directory as _;

    use super::*;

    fn source(text: &str) -> KeySource {
        KeySource::Variable(Secret(Zeroizing::new(text.to_owned())))
    }

    fn base64(byte: u8) -> String {
        STANDARD.encode([byte; 32])
    }

    fn id(byte: u8) -> KeyId {
        Key::new(&Zeroizing::new([byte; 32])).id()
    }

    #[test]
    fn of_several_keys_the_first_that_is_not_retired_seals() {
        let settings = |text: &str| Settings { enabled: true, source: source(text) };
        let first = |text: &str| settings(text).keys().unwrap().current();
        assert_eq!(first(&format!("{}, {}", base64(1), base64(2))), Some(id(1)));
        assert_eq!(first(&format!("{} retired, {}", base64(1), base64(2))), Some(id(2)));
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        for wrong in ["hunter2", &base64(1)[1..], &format!("{} retird", base64(1)), " , "] {
            let error = source(wrong).read().map(drop).unwrap_err().to_string();
            assert!(
                error.contains(KEY_VARIABLE) && (wrong.trim().len() < 4 || !error.contains(wrong)),
                "{error}"
            );
        }
        assert!(!format!("{:?}", source("hunter2")).contains("hunter2"));
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        write(&file, &[Kept::generate().unwrap(), Kept { bytes: Zeroizing::new([1; 32]), retired: true }])
            .unwrap();
        let kept = KeySource::File(file.clone()).read().unwrap().unwrap();
        assert_eq!(kept.iter().map(|key| key.retired).collect::<Vec<_>>(), [false, true]);
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = KeySource::File(file.clone()).read().map(drop).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    async fn open(settings: &Settings, folder: &Path) -> Encryption {
        let clock = Arc::new(lastframe_core::ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let keys = settings.keys_or_new(folder).unwrap();
        let options = lastframe_store::Options { keys, ..lastframe_store::Options::default() };
        let store = Store::open(folder, clock, options).await.unwrap();
        let site = lastframe_core::site::SiteVersion {
            name: "site".into(),
            version: "v1".into(),
            remotion_version: "4.0.527".into(),
            renderer: None,
            url: None,
            size_in_bytes: 1,
            compositions: Vec::new(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
        };
        store.put_site(&lastframe_core::TenantId::new("ann"), site).await.unwrap();
        Encryption::new(Arc::new(store), settings.clone())
    }

    #[tokio::test]
    async fn a_key_that_nothing_needs_any_more_is_kept_and_marked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(KEY_FILE);
        let settings = Settings { enabled: true, source: KeySource::DataFolder(file) };
        let encryption = open(&settings, folder.path()).await;
        let first = settings.keys().unwrap().current();
        let second = Some(encryption.rotate().await.unwrap());
        let leaving = KeyState::Leaving(jiff::Timestamp::UNIX_EPOCH);
        let keys = async || encryption.status().await.unwrap().keys;
        assert_eq!(keys().await, [(second, KeyState::Current), (first, leaving)]);
        assert_eq!(settings.keys().unwrap().current(), second, "it is on disk");
        let marks = || -> Vec<_> {
            settings
                .source
                .read()
                .unwrap()
                .unwrap()
                .iter()
                .map(|kept| (Some(kept.key().id()), kept.retired))
                .collect()
        };
        assert_eq!(marks(), [(second, false), (first, false)]);
        assert!(!encryption.turn().await);
        assert_eq!(keys().await, [(second, KeyState::Current), (first, KeyState::Retired)]);
        assert_eq!(marks(), [(second, false), (first, true)]);
    }

    #[tokio::test]
    async fn keys_that_the_server_cannot_write_are_not_changed_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { enabled: true, source: source(&base64(1)) };
        let encryption = open(&settings, folder.path()).await;
        assert!(matches!(encryption.rotate().await, Err(RotateError::NotOurs)));
        drop(encryption);
        let off = Settings { enabled: false, ..settings };
        let encryption = open(&off, folder.path()).await;
        assert!(matches!(encryption.rotate().await, Err(RotateError::Off)));
    }

    #[test]
    fn a_key_is_made_for_a_new_folder_and_never_in_the_place_of_one_that_is_configured() {
        let folder = tempfile::tempdir().unwrap();
        let settings = |source| Settings { enabled: true, source };
        let missing = folder.path().join("missing");
        let error = settings(KeySource::File(missing.clone())).keys_or_new(folder.path()).unwrap_err();
        assert!(error.is::<KeyError>() && !missing.exists(), "{error}");
        let own = settings(KeySource::DataFolder(folder.path().join(KEY_FILE)));
        let made = own.keys_or_new(folder.path()).unwrap().current();
        assert!(made.is_some());
        assert_eq!(own.keys_or_new(folder.path()).unwrap().current(), made);
        let off = Settings { enabled: false, ..own };
        assert_eq!(off.keys_or_new(folder.path()).unwrap().current(), None);
    }
}
