//! All that functions stand on, over the queue of one machine: ports are ports.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use lastframe::cloud::{Address, Around, Cloud, Fault, Ports, Post, Settings, new_link_key};
use lastframe_core::accounts::{Accounts as _, ApiToken, Scopes};
use lastframe_core::ports::{Directory as _, NewRender, Queue as _};
use lastframe_core::request::QueueOptions;
use lastframe_core::site::SiteVersion;
use lastframe_core::{Kind, RenderId, RenderRequest, Scope, SystemClock, TenantId};
use lastframe_store::{Options, Store};

/// The text of a token, and the SHA-256 of its secret half.
const TOKEN: &str = "lft_0123_secret";
const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

/// Takes every mail, and keeps to whom it was, and what it was.
#[derive(Debug, Default)]
pub(crate) struct Letters(pub(crate) Mutex<Vec<(String, String)>>);

#[async_trait]
impl Post for Letters {
    async fn send(&self, _: &Address, to: &Address, mail: &[u8]) -> Result<u16, Fault> {
        self.0.lock().unwrap().push((to.to_string(), String::from_utf8_lossy(mail).into_owned()));
        Ok(200)
    }
}

pub(crate) struct World {
    pub(crate) store: Arc<Store>,
    pub(crate) cloud: Cloud,
    pub(crate) letters: Arc<Letters>,
    _folder: tempfile::TempDir,
}

impl World {
    /// Everything of AWS but the queue is at that URL.
    pub(crate) async fn at(endpoint: &str) -> Self {
        Self::with(endpoint, None).await
    }

    /// The same with a function of Remotion Lambda.
    pub(crate) async fn with(endpoint: &str, remotion_function: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::new());
        let store = Store::open(folder.path(), Arc::clone(&clock) as _, Options::default()).await.unwrap();
        let store = Arc::new(store);
        let settings = Settings {
            // Receivers of tests are on this machine.
            text: "[webhook]\nallow_private = true".into(),
            region: "eu-central-1".into(),
            endpoint: Some(endpoint.into()),
            public_url: "https://api.example".into(),
            bucket: "bucket".into(),
            remotion_function: remotion_function.map(str::to_owned),
            remotion_bucket: Some("remotionlambda-eucentral1-abc".into()),
            user_pool: "eu-central-1_abc".into(),
            user_pool_client: "client".into(),
            mail_from: Some("Renders <renders@example.com>".into()),
            ..Settings::default()
        };
        let ports = Ports {
            queue: Arc::clone(&store) as _,
            directory: Arc::clone(&store) as _,
            accounts: Arc::clone(&store) as _,
            outbox: Arc::clone(&store) as _,
        };
        let link_key = new_link_key().unwrap();
        let letters = Arc::new(Letters::default());
        let around = Around { ports, link_key, post: Arc::clone(&letters) as _, clock };
        let cloud = Cloud::open(&settings, settings.config().unwrap(), around).unwrap();
        let admin = ApiToken {
            id: "0123".into(),
            name: "admin".into(),
            tenant: TenantId::new("default"),
            scopes: Scopes::from_iter([Scope::Admin]),
            created_at: Timestamp::now(),
            expires_at: None,
            revoked_at: None,
        };
        let mut hash = [0; 32];
        for (index, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&HASH[2 * index..2 * index + 2], 16).unwrap();
        }
        store.add_token(admin, hash).await.unwrap();
        Self { store, cloud, letters, _folder: folder }
    }

    /// What an administrator's program sends.
    pub(crate) fn bearer() -> String {
        format!("Bearer {TOKEN}")
    }

    /// A render that waits.
    pub(crate) async fn render(&self) -> RenderId {
        self.render_with(RenderRequest::default()).await
    }

    /// The same, with what it says beside its site.
    pub(crate) async fn render_with(&self, more: RenderRequest) -> RenderId {
        let tenant = TenantId::new("default");
        let site = SiteVersion {
            name: "site".into(),
            version: "v1".into(),
            remotion_version: "4.0.527".into(),
            renderer: None,
            url: None,
            size_in_bytes: 1,
            compositions: Vec::new(),
            created_at: Timestamp::now(),
        };
        self.store.put_site(&tenant, site).await.unwrap();
        let request = RenderRequest {
            serve_url: "site".into(),
            composition: "main".into(),
            queue: Some(QueueOptions { group: Some("g".into()), ..QueueOptions::default() }),
            ..more
        };
        let new =
            NewRender { kind: Kind::Media, site_version: "v1".into(), request, default_max_attempts: 3 };
        self.store.submit(&tenant, vec![new], None).await.unwrap().renders[0].id
    }
}
