//! A load generator: the same request again and again over connections that stay open.
//!
//! It speaks as little HTTP as it needs, so that on few cores it leaves them to the server it measures.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::closed_loop::{self, Caller, Figures, Until};

/// Requests on each connection before it counts.
const WARM_UP: usize = 20;

/// What is asked of whom.
#[derive(Debug)]
pub(crate) struct Request {
    address: String,
    bytes: Vec<u8>,
}

impl Request {
    /// A POST of `body` to `http://HOST:PORT/PATH`.
    pub(crate) fn post(url: &str, token: Option<&str>, body: &[u8]) -> anyhow::Result<Self> {
        let (address, path) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .context("not http://HOST:PORT/PATH")?;
        let authorization =
            token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "POST /{path} HTTP/1.1\r\nhost: {address}\r\n{authorization}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Ok(Self { address: address.to_owned(), bytes: [head.as_bytes(), body].concat() })
    }
}

struct Connection {
    stream: BufReader<TcpStream>,
    request: Arc<Request>,
    line: String,
    body: Vec<u8>,
}

impl Connection {
    async fn open(request: Arc<Request>) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(&request.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), request, line: String::new(), body: Vec::new() })
    }

    async fn read_line(&mut self) -> anyhow::Result<&str> {
        self.line.clear();
        self.stream.read_line(&mut self.line).await?;
        self.line.strip_suffix("\r\n").context("the server closed the connection")
    }
}

impl Caller for Connection {
    async fn call(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.request.bytes).await?;
        let accepted = self.read_line().await?.starts_with("HTTP/1.1 202 ");
        let status = self.line.clone();
        let mut length = None;
        loop {
            let line = self.read_line().await?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse()?);
            }
        }
        self.body.resize(length.context("an answer without content-length")?, 0);
        self.stream.read_exact(&mut self.body).await?;
        anyhow::ensure!(accepted, "{}{}", status, String::from_utf8_lossy(&self.body));
        Ok(())
    }
}

pub(crate) async fn measure(request: Request, connections: usize, until: Until) -> anyhow::Result<Figures> {
    let request = Arc::new(request);
    let mut callers = Vec::new();
    for _ in 0..connections {
        callers.push(Connection::open(Arc::clone(&request)).await?);
    }
    Ok(closed_loop::run(callers, WARM_UP, until).await?.figures())
}
