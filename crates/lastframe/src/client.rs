//! The API from the other side, for the commands.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Bytes;
use reqwest::header::HeaderName;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::digest::{self, REPR_DIGEST, STORED_SHA256};
use crate::encryption;
use crate::exit::Exit;
use crate::http::{NO_STREAMS, Problem};

/// Why a command ends, with the exit code for it.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
}

impl Failed {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, error: anyhow::Error::msg(message.into()) }
    }

    /// A key that is missing or wrong is a file that somebody has to put right, and no fault inside.
    pub(crate) fn about_keys(error: anyhow::Error) -> Self {
        let exit = if encryption::is_about_keys(&error) { Exit::Usage } else { Exit::Internal };
        Self { exit, error }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { exit: Exit::Internal, error: error.into() }
    }
}

/// What a server answers that has no room or no time, or what stands before it: the same question is good again later.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Later {
    message: String,
    /// When, where it says so.
    pub(crate) after: Option<Duration>,
}

/// What is no success.
struct Refusal {
    status: StatusCode,
    after: Option<Duration>,
    body: Bytes,
}

impl Refusal {
    fn failed(self) -> Failed {
        let message = refusal(self.status, &self.body);
        let error = match self.status.as_u16() {
            429 | 502..=504 => Later { message, after: self.after }.into(),
            _ => anyhow::Error::msg(message),
        };
        Failed { exit: Exit::Refused, error }
    }
}

/// What every HTTP client of this program begins with.
pub(crate) fn http() -> reqwest::ClientBuilder {
    let provider = rustls::crypto::ring::default_provider().install_default();
    // An earlier client in this process has installed the same one.
    drop(provider);
    reqwest::Client::builder()
}

/// A server and the right to use it.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    server: String,
    token: String,
}

impl Client {
    /// # Errors
    /// When the HTTP client cannot be set up, or `ca` holds no certificate.
    pub(crate) fn new(server: &str, token: String, ca: Option<&Path>) -> anyhow::Result<Self> {
        let mut http = http();
        if let Some(ca) = ca {
            let pem = std::fs::read(ca).with_context(|| format!("cannot read {} (--ca)", ca.display()))?;
            let trusted = reqwest::Certificate::from_pem_bundle(&pem);
            let trusted = trusted.with_context(|| format!("{} holds no certificate in PEM", ca.display()))?;
            http = http.tls_certs_merge(trusted);
        }
        let http = http.build().context("cannot set up HTTP")?;
        Ok(Self { http, server: server.trim_end_matches('/').to_owned(), token })
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.server)).bearer_auth(&self.token)
    }

    /// Sends, and turns whatever is not a success into words and an exit code.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failed> {
        self.ask(request).await?.map_err(Refusal::failed)
    }

    /// Sends. Within, what is not a success.
    async fn ask(&self, request: RequestBuilder) -> Result<Result<Response, Refusal>, Failed> {
        let response = request.send().await.map_err(|error| {
            let exit = if error.is_connect() { Exit::Unreachable } else { Exit::Internal };
            let context = format!(
                "no answer from {} (start one with `lastframe serve`, or name one with --server)",
                self.server
            );
            Failed { exit, error: anyhow::Error::new(error).context(context) }
        })?;
        if response.status().is_success() {
            return Ok(Ok(response));
        }
        let status = response.status();
        let after = response.headers().get(reqwest::header::RETRY_AFTER);
        let after = after.and_then(|seconds| seconds.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        Ok(Err(Refusal { status, after, body: response.bytes().await.unwrap_or_default() }))
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failed> {
        Ok(self
            .send(request)
            .await?
            .json()
            .await
            .context("the server answers what this program does not know")?)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        self.json(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        self.json(self.request(Method::POST, path)).await
    }

    /// Listens to server-sent events, from after the one with the id `last` on if the server still knows it; none where there
    /// are no events, and one has to look.
    pub(crate) async fn events(&self, path: &str, last: Option<&str>) -> Result<Option<Events>, Failed> {
        let mut request = self.request(Method::GET, path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        match self.ask(request).await? {
            Ok(response) => Ok(Some(Events { response, text: Vec::new() })),
            Err(refused) if is_without_streams(&refused.body) => Ok(None),
            Err(refused) => Err(refused.failed()),
        }
    }

    /// Writes the answer into a file, which appears only when it is whole and has the digest that the server names.
    pub(crate) async fn download(&self, path: &str, to: &Path) -> Result<u64, Failed> {
        use tokio::io::AsyncWriteExt as _;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let part = tempfile::Builder::new()
            .prefix(".lastframe-")
            .tempfile_in(folder)
            .with_context(|| format!("cannot write in {}", folder.display()))?;
        let mut file = tokio::fs::File::from_std(part.reopen()?);
        let mut response = self.send(self.request(Method::GET, path)).await?;
        let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        // A storage that the server sends us to has it as metadata.
        let named = header(REPR_DIGEST).and_then(digest::find).map(str::to_owned);
        let named = named.or_else(|| header(STORED_SHA256).and_then(digest::of_hex));
        let (mut size, mut hash) = (0, Sha256::new());
        while let Some(chunk) = response.chunk().await.context("the download broke off")? {
            file.write_all(&chunk).await.with_context(|| format!("cannot write {}", to.display()))?;
            hash.update(&chunk);
            size += chunk.len() as u64;
        }
        let found = digest::of(&hash.finalize());
        if let Some(named) = named.filter(|named| *named != found) {
            let message = format!(
                "{}{path} is damaged, on the server's disk or on its way: its digest is {found}, and was {named} when it \
                 was rendered. {} was not written",
                self.server,
                to.display()
            );
            return Err(Failed::new(Exit::Internal, message));
        }
        file.flush().await?;
        let file = part.persist(to).with_context(|| format!("cannot write {}", to.display()))?;
        // A temporary file is its owner's alone; a download is like any other file.
        std::fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.sync_all()?;
        Ok(size)
    }
}

/// A stream of server-sent events.
#[derive(Debug)]
pub(crate) struct Events {
    response: Response,
    /// What came and is no whole event yet.
    text: Vec<u8>,
}

/// A server-sent event. What only says where the stream is has no data.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SentEvent {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: String,
}

impl Events {
    /// The next one; none when the stream has ended or broken off.
    pub(crate) async fn next(&mut self) -> Option<SentEvent> {
        loop {
            if let Some(event) = cut_event(&mut self.text) {
                return Some(event);
            }
            self.text.extend_from_slice(&self.response.chunk().await.ok()??);
        }
    }
}

/// Takes the first event from what came, if it is whole.
fn cut_event(text: &mut Vec<u8>) -> Option<SentEvent> {
    let end = text.windows(2).position(|two| two == b"\n\n")?;
    let whole: Vec<u8> = text.drain(..end + 2).collect();
    let mut event = SentEvent::default();
    for line in String::from_utf8_lossy(&whole).lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut event.name),
            "id" => event.id = Some(value.to_owned()),
            "data" => event.data.push_str(value),
            _ => {}
        }
    }
    Some(event)
}

fn is_without_streams(body: &[u8]) -> bool {
    serde_json::from_slice::<Problem>(body).is_ok_and(|problem| problem.code == NO_STREAMS)
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => {
            let mut text = problem.detail;
            for error in &problem.errors {
                let place = if error.pointer.is_empty() { "the body" } else { &error.pointer };
                text.push_str(&format!("\n  {place}: {}", error.detail));
            }
            text
        }
        Err(_) => format!("the server answers {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_nothing_is_streamed_one_looks_and_any_other_refusal_is_one() {
        let problem = async |axum::extract::Path(code): axum::extract::Path<String>| {
            let problem = Problem { status: 404, code, detail: "not here".into(), ..Problem::default() };
            (StatusCode::NOT_FOUND, axum::Json(problem))
        };
        let router = axum::Router::new().route("/{code}", axum::routing::get(problem));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await });
        let client = Client::new(&server, "token".into(), None).unwrap();
        assert!(client.events("/no_streams", None).await.unwrap().is_none());
        let Err(failed) = client.events("/not_here", None).await else { panic!("it is refused") };
        assert!(failed.exit == Exit::Refused && failed.error.to_string() == "not here");
    }

    #[test]
    fn events_are_cut_from_what_comes_in_whatever_pieces() {
        let mut text = b": \nid: a-1\n\nevent: render\nid: a-2\ndata: {\"a\": 1}\n\nevent: re".to_vec();
        let silence = SentEvent { id: Some("a-1".into()), ..SentEvent::default() };
        assert_eq!(cut_event(&mut text), Some(silence));
        let render = SentEvent { name: "render".into(), id: Some("a-2".into()), data: "{\"a\": 1}".into() };
        assert_eq!(cut_event(&mut text), Some(render));
        assert_eq!(cut_event(&mut text), None);
        text.extend_from_slice(b"set\ndata: {}\n\n");
        assert_eq!(cut_event(&mut text).unwrap().name, "reset");
        assert!(text.is_empty());
    }
}
