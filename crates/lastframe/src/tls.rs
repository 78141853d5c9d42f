//! The certificate: read at the start, and again when its files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsFiles;

/// What is shown to clients, as fresh as its files.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    written: Written,
}

/// When the two files were written.
type Written = [Option<SystemTime>; 2];

impl Tls {
    /// # Errors
    /// When the files cannot be read, or do not belong together.
    pub(crate) fn open(files: TlsFiles) -> anyhow::Result<Self> {
        let written = written(&files);
        let config = load(&files)?;
        Ok(Self { files, loaded: Mutex::new(Loaded { config, written }) })
    }

    /// What the next client is shown. A renewed certificate that is not good leaves the one before in its place.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let written = written(&self.files);
        if written != loaded.written {
            // Once for each change, also of one that is refused: whoever mends it writes the file again.
            loaded.written = written;
            match load(&self.files) {
                Ok(config) => {
                    tracing::info!("the certificate was renewed");
                    loaded.config = config;
                }
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "a new certificate is not used");
                }
            }
        }
        Arc::clone(&loaded.config)
    }
}

fn written(files: &TlsFiles) -> Written {
    let written = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).ok();
    [written(&files.cert), written(&files.key)]
}

fn load(TlsFiles { cert, key }: &TlsFiles) -> anyhow::Result<Arc<ServerConfig>> {
    let unreadable = |path: &Path| format!("cannot read {} (tls)", path.display());
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.with_context(|| unreadable(cert))?;
    anyhow::ensure!(!chain.is_empty(), "{} holds no certificate in PEM (tls.cert)", cert.display());
    let secret = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable(key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .with_context(|| format!("{} and {} cannot be used together (tls)", cert.display(), key.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
