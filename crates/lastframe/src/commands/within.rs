//! The server that a command speaks to: the one that runs, or one that lives as long as the command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lastframe_core::SystemClock;
use tokio_util::sync::CancellationToken;

use super::{Server, note};
use crate::app::App;
use crate::client::{self, Client, Failed};
use crate::config::{Config, Flags};
use crate::data;
use crate::exit::Exit;

/// How long a server that was announced may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(5);

/// A server, and the right to use it.
pub(super) struct Host {
    pub(super) client: Client,
    /// Set when it ends with this command.
    pub(super) within: Option<Within>,
}

impl Host {
    /// The server that was named or that runs on the data folder; else a new one on that folder.
    pub(super) async fn find(server: &Server) -> Result<Self, Failed> {
        if server.server.is_some() {
            return Ok(Self { client: server.client()?, within: None });
        }
        let folder = server.folder()?;
        // A server that was killed leaves its address behind.
        if let Some(url) = data::announced(&folder)
            && answers(&url).await
        {
            return Ok(Self { client: server.client()?, within: None });
        }
        let flags =
            Flags::of_environment().map_err(|error| Failed { exit: Exit::Usage, error: error.into() })?;
        let flags =
            Flags { data: Some(folder), listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..flags };
        let config = Config::load(flags).map_err(|error| Failed { exit: Exit::Usage, error })?;
        // On loopback, for this command alone.
        let config = Config { tls: None, ..config };
        super::serve::raise_open_files();
        let app = App::start(config, Arc::new(SystemClock::new())).await?;
        note(format!("no server runs; rendering here, on the data folder {}", app.data.display()));
        let url = format!("http://{}", app.address);
        let token = data::admin_token(&app.data);
        let within = Within { app };
        let client = token
            .ok_or_else(|| anyhow::anyhow!("the data folder has no admin token"))
            .and_then(|token| Client::new(&url, token, None));
        match client {
            Ok(client) => Ok(Self { client, within: Some(within) }),
            Err(error) => {
                within.stop().await?;
                Err(error.into())
            }
        }
    }
}

/// Whether a server is at that URL.
pub(super) async fn answers(url: &str) -> bool {
    let Ok(http) = client::http().timeout(ANSWER).build() else { return false };
    http.get(format!("{url}/healthz")).send().await.is_ok_and(|answer| answer.status().is_success())
}

/// A server within this process.
pub(super) struct Within {
    app: App,
}

impl Within {
    /// Stops it. What else it was rendering goes back to the queue at once.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let now = CancellationToken::new();
        now.cancel();
        self.app.stop(now).await
    }
}
