//! Which `@remotion/renderer` renders a site: one of exactly the version that the site was bundled with.
//!
//! Each lies in a folder of its own, named by its version, as npm installs it. The server never runs a project's npm
//! or webpack: what is installed here is Remotion's package and nothing else, without its install scripts.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

const PACKAGE: &str = "@remotion/renderer";
/// How long npm may take; on a slow line the compositor's 40 MB need some of it.
const INSTALL: Duration = Duration::from_secs(300);
/// Bytes of what npm says that are told on.
const TOLD: usize = 600;
/// Variables of our own environment that npm may need, in lower case, beside its own `npm_config_*`.
const FOR_NPM: [&str; 8] = [
    "home",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "node_extra_ca_certs",
    "ssl_cert_file",
    "ssl_cert_dir",
];

/// Why there is no renderer of a version.
#[derive(Debug, thiserror::Error)]
pub enum RendererError {
    /// A range, a tag, a URL: anything that could be another package tomorrow.
    #[error("`{0}` is no exact version of Remotion, such as 4.0.527")]
    NotExact(String),
    /// It is not here and could not be brought here.
    #[error(
        "there is no {PACKAGE} {version} on the server's machine, and {why}. Run `lastframe renderer add {version}` there, or copy \
         the folder renderers/{version} from the data folder of a server that has it"
    )]
    Missing {
        /// The version asked for.
        version: String,
        /// Why it could not be installed.
        why: String,
    },
    /// The disk failed.
    #[error("the renderer could not be stored")]
    Storage(#[from] io::Error),
}

/// The renderers of this machine.
#[derive(Debug)]
pub struct Renderers {
    folder: PathBuf,
    node: PathBuf,
    npm: Option<PathBuf>,
    most: usize,
    installing: Mutex<()>,
}

impl Renderers {
    /// The renderers in `folder`. `npm` installs more, with `node`, up to `most`.
    #[must_use]
    pub fn new(folder: PathBuf, node: PathBuf, npm: Option<PathBuf>, most: usize) -> Self {
        Self { folder, node, npm, most, installing: Mutex::default() }
    }

    /// The folder of `@remotion/renderer` in that version: the named one if it has it, else one of our own.
    #[must_use]
    pub fn find(&self, version: &str, named: Option<&Path>) -> Option<PathBuf> {
        let own = is_exact(version).then(|| in_prefix(&self.folder.join(version)));
        let fits = |folder: &Path| version_of(folder).as_deref() == Some(version);
        let found = named.map(Path::to_owned).into_iter().chain(own).find(|folder| fits(folder))?;
        // npm and pnpm link; who confines a sidecar needs the place itself.
        found.canonicalize().ok()
    }

    /// The folder of that version, which is installed first if it must be.
    ///
    /// # Errors
    /// When it is not there and npm cannot bring it.
    pub async fn obtain(&self, version: &str) -> Result<PathBuf, RendererError> {
        if !is_exact(version) {
            return Err(RendererError::NotExact(version.chars().take(100).collect()));
        }
        let missing = |why: String| RendererError::Missing { version: version.to_owned(), why };
        let _installing = self.installing.lock().await;
        if let Some(found) = self.find(version, None) {
            return Ok(found);
        }
        let npm = self.npm.as_ref().ok_or_else(|| missing("it has no npm to install it with".into()))?;
        if self.installed()?.len() >= self.most {
            let why = format!("it has {} already, and may not have more (sites.max_renderers)", self.most);
            return Err(missing(why));
        }
        tracing::info!(version, "installing {PACKAGE} with npm");
        let prefix = tempfile::Builder::new().prefix(INSTALLING).tempdir_in(&self.folder)?;
        self.install(npm, version, prefix.path()).await.map_err(missing)?;
        let_all_read(prefix.path())?;
        let target = self.folder.join(version);
        rustix::fs::syncfs(File::open(prefix.path())?).map_err(io::Error::from)?;
        if let Err(error) = std::fs::rename(prefix.path(), &target) {
            // Another process may have been faster.
            return self.find(version, None).ok_or_else(|| error.into());
        }
        drop(prefix.keep());
        File::open(&self.folder)?.sync_all()?;
        self.find(version, None).ok_or_else(|| missing("what npm installed is another version".into()))
    }

    async fn install(&self, npm: &Path, version: &str, prefix: &Path) -> Result<(), String> {
        std::fs::write(prefix.join("package.json"), r#"{"private":true}"#)
            .map_err(|error| error.to_string())?;
        let mut command = Command::new(npm);
        command
            .args([
                "install",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--no-save",
                "--no-package-lock",
                "--omit=dev",
            ])
            .arg("--update-notifier=false")
            .arg(format!("{PACKAGE}@{version}"))
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_for_npm(name)))
            .env("PATH", self.path())
            .current_dir(prefix)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = match timeout(INSTALL, command.output()).await {
            Ok(output) => output.map_err(|error| format!("npm could not be started: {error}"))?,
            Err(_) => return Err(format!("npm took longer than {} s to install it", INSTALL.as_secs())),
        };
        if !output.status.success() {
            return Err(format!("npm could not install it: {}", told(&output.stderr)));
        }
        let scope = prefix.join("node_modules/@remotion");
        let has_compositor = std::fs::read_dir(scope).map_err(|error| error.to_string())?.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("compositor-"))
        });
        if !has_compositor {
            return Err("npm has no package @remotion/compositor-* of it for this machine".into());
        }
        Ok(())
    }

    /// npm is a script that looks for `node`: it shall find ours.
    fn path(&self) -> OsString {
        let own = std::env::var_os("PATH").unwrap_or_default();
        let folders = self.node.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&own));
        std::env::join_paths(folders).unwrap_or(own)
    }

    /// The versions that are installed, in no order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn installed(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.filter(|name: &io::Result<String>| name.as_ref().map_or(true, |name| is_exact(name))).collect()
    }

    /// Removes an installed version. False when it is not there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, version: &str) -> io::Result<bool> {
        if !is_exact(version) {
            return Ok(false);
        }
        match std::fs::remove_dir_all(self.folder.join(version)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true),
        }
    }

    /// Removes what was being installed when an earlier process ended.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(INSTALLING) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

const INSTALLING: &str = ".installing-";

/// Lets everybody read what is below a folder, and run what its owner can: sidecars may be users of their own, and what we
/// write is for nobody else.
fn let_all_read(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_symlink() {
            continue;
        }
        let mode = path.metadata()?.permissions().mode();
        let read_and_run = (mode & 0o500) >> 3;
        std::fs::set_permissions(&path, Permissions::from_mode(mode | read_and_run | read_and_run >> 3))?;
        if kind.is_dir() {
            let_all_read(&path)?;
        }
    }
    Ok(())
}

/// The version that a folder of `@remotion/renderer` says it has; none when it is no such folder.
#[must_use]
pub fn version_of(folder: &Path) -> Option<String> {
    let package = std::fs::read(folder.join("package.json")).ok()?;
    let package: serde_json::Value = serde_json::from_slice(&package).ok()?;
    (package["name"] == PACKAGE).then(|| package["version"].as_str().map(str::to_owned)).flatten()
}

fn in_prefix(prefix: &Path) -> PathBuf {
    prefix.join("node_modules").join(PACKAGE)
}

/// Three numbers, and a pre-release if need be: nothing that npm would have to resolve, or a path.
fn is_exact(version: &str) -> bool {
    let (numbers, pre) =
        version.split_once('-').map_or((version, None), |(numbers, pre)| (numbers, Some(pre)));
    let number = |part: &str| (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let word = |part: &str| {
        (1..=64).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    numbers.split('.').count() == 3
        && numbers.split('.').all(number)
        && pre.is_none_or(|pre| pre.len() <= 64 && pre.split('.').all(word))
}

fn is_for_npm(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    name.starts_with("npm_config_") || FOR_NPM.contains(&name.as_str())
}

/// The beginning of what npm says, which is where the reason stands, without where its log lies.
fn told(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().map(|line| line.trim_start_matches("npm error").trim());
    let lines: Vec<_> = lines.filter(|line| !line.is_empty() && !line.contains("complete log")).collect();
    lines.join("; ").chars().take(TOLD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, version: &str) {
        std::fs::create_dir_all(folder).unwrap();
        let package = format!(r#"{{"name":"@remotion/renderer","version":"{version}"}}"#);
        std::fs::write(folder.join("package.json"), package).unwrap();
    }

    fn renderers(folder: &Path, npm: Option<PathBuf>) -> Renderers {
        Renderers::new(folder.to_owned(), "/usr/bin/node".into(), npm, 2)
    }

    /// A program in the place of npm.
    fn npm(folder: &Path, script: &str) -> PathBuf {
        let file = folder.join("npm");
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    const INSTALLS: &str = r#"for last; do :; done
version=${last##*@}
mkdir -p node_modules/@remotion/renderer node_modules/@remotion/compositor-linux-x64-gnu
echo "{\"name\":\"@remotion/renderer\",\"version\":\"$version\"}" >node_modules/@remotion/renderer/package.json"#;

    #[test]
    fn only_an_exact_version_is_a_version() {
        for version in ["4.0.527", "4.1.0-alpha12", "4.0.0-canary.3"] {
            assert!(is_exact(version), "{version}");
        }
        for version in [
            "",
            "4",
            "4.0",
            "^4.0.527",
            "latest",
            "4.0.x",
            "4.0.527 ",
            "../4.0.527",
            "4.0.527/../..",
            "4.0.0-../..",
            "4.0.0-",
            "4.0.0-a..b",
            "https://example.com/x.tgz",
            "4.0.527 || 1",
            "npm:other@1.0.0",
            "4.0.+1",
        ] {
            assert!(!is_exact(version), "{version}");
        }
    }

    #[test]
    fn the_named_folder_renders_as_long_as_it_has_the_version_and_else_our_own_does() {
        let folder = tempfile::tempdir().unwrap();
        let (own, named) = (in_prefix(&folder.path().join("4.0.1")), folder.path().join("named"));
        let renderers = renderers(folder.path(), None);
        let find =
            || renderers.find("4.0.1", Some(&named)).map(|found| found.file_name().unwrap().to_owned());
        assert_eq!(find(), None);
        put(&own, "4.0.1");
        assert_eq!(find().unwrap(), "renderer");
        put(&named, "4.0.1");
        assert_eq!(find().unwrap(), "named");
        put(&named, "4.0.2");
        assert_eq!(find().unwrap(), "renderer", "somebody has brought the project up to date");
        put(&own, "4.0.2");
        assert_eq!(find(), None, "a folder is not believed by its name");
    }

    #[tokio::test]
    async fn a_version_is_installed_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let count = elsewhere.path().join("count");
        let script = format!("umask 077\necho once >>{}\n{INSTALLS}", count.display());
        let renderers = renderers(folder.path(), Some(npm(elsewhere.path(), &script)));
        let (one, other) = tokio::join!(renderers.obtain("4.0.1"), renderers.obtain("4.0.1"));
        let installed = one.unwrap();
        assert_eq!(installed, other.unwrap());
        for (path, mode) in [(installed.clone(), 0o755), (installed.join("package.json"), 0o644)] {
            let found = path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "sidecars of other users read {}", path.display());
        }
        assert_eq!(std::fs::read_to_string(count).unwrap(), "once\n");
        assert_eq!(renderers.installed().unwrap(), ["4.0.1"]);
        assert!(renderers.remove("4.0.1").unwrap());
        assert!(!renderers.remove("4.0.1").unwrap());
        assert_eq!(renderers.find("4.0.1", None), None);
    }

    #[tokio::test]
    async fn what_could_not_be_installed_leaves_nothing_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        for (script, why) in [
            (Some("echo 'npm error code E404' >&2; exit 1"), "npm could not install it: code E404"),
            (Some("mkdir -p node_modules/@remotion/renderer"), "no package @remotion/compositor-*"),
            (None, "no npm"),
        ] {
            let npm = script.map(|script| npm(elsewhere.path(), script));
            let error = renderers(folder.path(), npm).obtain("4.0.1").await.unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("lastframe renderer add 4.0.1"), "{error}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
        let refused = renderers(folder.path(), None).obtain("latest").await;
        assert!(matches!(refused, Err(RendererError::NotExact(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn no_more_are_installed_than_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let renderers = renderers(folder.path(), Some(npm(elsewhere.path(), INSTALLS)));
        renderers.obtain("4.0.1").await.unwrap();
        renderers.obtain("4.0.2").await.unwrap();
        let error = renderers.obtain("4.0.3").await.unwrap_err().to_string();
        assert!(error.contains("sites.max_renderers"), "{error}");
        assert!(renderers.obtain("4.0.2").await.is_ok(), "what is there is used");
    }

    #[test]
    fn npm_sees_nothing_of_our_environment_that_it_does_not_need() {
        for name in ["HOME", "npm_config_registry", "HTTPS_PROXY"] {
            assert!(is_for_npm(OsStr::new(name)), "{name}");
        }
        for name in ["LASTFRAME_TOKEN", "AWS_SECRET_ACCESS_KEY", "NODE_OPTIONS"] {
            assert!(!is_for_npm(OsStr::new(name)), "{name}");
        }
    }
}
