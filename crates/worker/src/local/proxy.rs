//! The one way out of a sidecar: an HTTP proxy that leads to the public Internet, and to what a person has allowed.
//!
//! It resolves names itself and connects to the very address that it has judged, so that a name which leads
//! elsewhere a moment later gains nothing. What redirects say comes back as a request of its own, and is judged so.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use lastframe_core::net::{HostRule, is_public};
use tokio::net::{TcpListener, TcpStream, UdpSocket, lookup_host};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::sidecar::Printed;

/// Connections of one sidecar at once; more of them wait.
const CONNECTIONS: usize = 256;
/// How long a client may take to say what it wants.
const ASKING: Duration = Duration::from_secs(30);
/// How long a name may take to be resolved, and an address to answer.
const CONNECTING: Duration = Duration::from_secs(15);
/// How long to wait before the next try when the machine takes no connections.
const LACK: Duration = Duration::from_millis(100);
/// Why something was refused, for who reads headers.
const REFUSED: HeaderName = HeaderName::from_static("x-lastframe-refused");

type Body = Either<Full<Bytes>, Incoming>;

/// Lets everything that comes to `listener` out where it may go, until it is dropped.
pub(super) async fn serve(listener: TcpListener, rules: Arc<[HostRule]>, printed: Printed) {
    let door = Arc::new(Door { rules, printed });
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    // Owned here, so that nothing of it outlives the sidecar.
    let mut open = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        while open.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => {
                let door = Arc::clone(&door);
                open.spawn(async move {
                    connection(client, &door).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the proxy of a sidecar cannot take a connection");
                tokio::time::sleep(LACK).await;
            }
        }
    }
}

/// Who may go where.
struct Door {
    rules: Arc<[HostRule]>,
    printed: Printed,
}

/// Where a CONNECT has led, once the client has been told so.
struct Tunnel {
    client: OnUpgrade,
    server: TcpStream,
}

async fn connection(client: TcpStream, door: &Door) {
    let tunnel = Mutex::new(None);
    let answer = hyper::service::service_fn(|request| door.answer(request, &tunnel));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASKING)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(client), answer)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(error = lastframe_core::error_chain(&error), "a connection of a sidecar broke");
    }
    let Some(Tunnel { client, mut server }) = tunnel.into_inner().unwrap_or_else(PoisonError::into_inner)
    else {
        return;
    };
    if let Ok(client) = client.await {
        // Either end may break it off at any time; that is theirs to notice.
        drop(tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut server).await);
    }
}

/// Why a request goes nowhere.
#[derive(Debug)]
enum Denied {
    /// It may not; with the address it would have led to.
    Refused(IpAddr),
    /// It does not lead anywhere.
    Unreachable(String),
    /// It is not a request to a proxy.
    Nonsense,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(address) => {
                write!(f, "{address} is not public; render.allow_hosts can allow it")
            }
            Self::Unreachable(why) => f.write_str(why),
            Self::Nonsense => f.write_str("this is a proxy for http and https"),
        }
    }
}

impl Door {
    async fn answer(
        &self,
        request: Request<Incoming>,
        tunnel: &Mutex<Option<Tunnel>>,
    ) -> Result<Response<Body>, Infallible> {
        let asked = request.uri().clone();
        let answer = match *request.method() {
            Method::CONNECT => self.tunnel(request, tunnel).await,
            _ => self.forward(request).await,
        };
        Ok(answer.unwrap_or_else(|denied| {
            let status = match denied {
                Denied::Refused(_) => StatusCode::FORBIDDEN,
                Denied::Unreachable(_) => StatusCode::BAD_GATEWAY,
                Denied::Nonsense => StatusCode::BAD_REQUEST,
            };
            let why = denied.to_string();
            if let Denied::Refused(_) = denied {
                self.printed.once(format!("the proxy refused {}: {why}", target(&asked)));
            }
            let mut response = Response::new(Either::Left(Full::from(format!("{why}\n"))));
            *response.status_mut() = status;
            if let Ok(why) = HeaderValue::from_str(&why) {
                response.headers_mut().insert(REFUSED, why);
            }
            response
        }))
    }

    async fn tunnel(
        &self,
        request: Request<Incoming>,
        tunnel: &Mutex<Option<Tunnel>>,
    ) -> Result<Response<Body>, Denied> {
        let (host, port) = destination(request.uri(), None)?;
        let server = self.connect(&host, port).await?;
        let client = hyper::upgrade::on(request);
        *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(Tunnel { client, server });
        Ok(Response::new(Either::Left(Full::default())))
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Denied> {
        if request.uri().scheme_str() != Some("http") {
            return Err(Denied::Nonsense);
        }
        let (host, port) = destination(request.uri(), Some(80))?;
        let server = self.connect(&host, port).await?;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let (path, authority) = (path.parse::<Uri>(), HeaderValue::from_str(target(request.uri())));
        let (Ok(path), Ok(authority)) = (path, authority) else { return Err(Denied::Nonsense) };
        *request.uri_mut() = path;
        let headers = request.headers_mut();
        // One request for each connection that was judged.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(HOST, authority);
        headers.remove(PROXY_AUTHORIZATION);
        headers.remove(HeaderName::from_static("proxy-connection"));
        let broken = |error: hyper::Error| {
            Denied::Unreachable(format!("{host}: {}", lastframe_core::error_chain(&error)))
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(server)).await.map_err(broken)?;
        // Ends with the response, which its caller drops.
        tokio::spawn(connection);
        let mut response = sender.send_request(request).await.map_err(broken)?;
        response.headers_mut().remove(CONNECTION);
        Ok(response.map(Either::Right))
    }

    /// A connection to the first address of `host` that may be reached and answers.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Denied> {
        let unreachable = |why: &dyn fmt::Display| Denied::Unreachable(format!("{host}: {why}"));
        let found = match timeout(CONNECTING, lookup_host((host, port))).await {
            Ok(found) => found.map_err(|error| unreachable(&error))?,
            Err(late) => return Err(unreachable(&late)),
        };
        let mut denied = unreachable(&"it has no address");
        for address in found {
            if !self.lets_out(host, address).await {
                denied = Denied::Refused(address.ip());
                continue;
            }
            match timeout(CONNECTING, TcpStream::connect(address)).await {
                Ok(Ok(server)) => return Ok(server),
                Ok(Err(error)) => denied = unreachable(&error),
                Err(late) => denied = unreachable(&late),
            }
        }
        Err(denied)
    }

    async fn lets_out(&self, host: &str, address: SocketAddr) -> bool {
        self.rules.iter().any(|rule| rule.allows(host, address.ip(), address.port()))
            || (is_public(address.ip()) && !is_our_own(address).await)
    }
}

/// Whether an address, public as it may be, is one of this machine, behind whatever protects it from outside.
async fn is_our_own(address: SocketAddr) -> bool {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    // Sends nothing: the kernel chooses the address we would speak from, which is the other end's own only here.
    let ours = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        socket.local_addr()
    };
    ours.await.is_ok_and(|ours| ours.ip() == address.ip())
}

/// The host and port that somebody asks for.
fn destination(uri: &Uri, usual_port: Option<u16>) -> Result<(String, u16), Denied> {
    let host = uri.host().ok_or(Denied::Nonsense)?;
    let port = uri.port_u16().or(usual_port).ok_or(Denied::Nonsense)?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

/// The host, and the port if it was named, as they were asked for; no name and password.
fn target(uri: &Uri) -> &str {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server that answers whatever it is asked with 200 and what it heard.
    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut heard = vec![0; 4096];
                let length = client.read(&mut heard).await.unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                client.write_all(head.as_bytes()).await.unwrap();
                client.write_all(&heard[..length]).await.unwrap();
            }
        });
        port
    }

    async fn proxy(rules: &[&str]) -> (SocketAddr, Printed) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, printed) = (listener.local_addr().unwrap(), Printed::default());
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        tokio::spawn(serve(listener, rules, printed.clone()));
        (address, printed)
    }

    async fn ask(proxy: SocketAddr, request: &str) -> String {
        let mut client = TcpStream::connect(proxy).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn what_is_not_public_is_refused_in_every_spelling() {
        let (proxy, printed) = proxy(&["10.9.9.9"]).await;
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "0.0.0.0",
            "0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "localhost",
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "[fd00:ec2::254]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:7f00:1::1]",
            "100.100.100.200",
            "10.0.0.1",
            "192.168.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[fe80::1]",
            "[ff02::1]",
        ] {
            for request in [
                format!("GET http://{host}:8787/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
                format!("CONNECT {host}:8787 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
            ] {
                let answer = ask(proxy, &request).await;
                assert!(answer.starts_with("HTTP/1.1 403"), "{request}{answer}");
            }
            let line = format!("the proxy refused {host}:8787: ");
            assert_eq!(printed.take().iter().filter(|said| said.starts_with(&line)).count(), 1, "{host}");
        }
    }

    #[tokio::test]
    async fn what_is_allowed_is_reached_at_its_port_alone() {
        let (port, other) = (echo().await, echo().await);
        let (proxy, _) = proxy(&[&format!("127.0.0.1:{port}")]).await;
        let get = |port: u16| {
            format!(
                "GET http://u:p@127.0.0.1:{port}/a?b HTTP/1.1\r\nHost: x\r\nProxy-Connection: keep-alive\r\nConnection: close\r\n\r\n"
            )
        };
        let answer = ask(proxy, &get(port)).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("GET /a?b HTTP/1.1\r\n"), "{answer}");
        assert!(answer.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{answer}");
        assert!(!answer.to_lowercase().contains("proxy-connection"), "{answer}");
        assert!(ask(proxy, &get(other)).await.starts_with("HTTP/1.1 403"));

        let mut tunnel = TcpStream::connect(proxy).await.unwrap();
        tunnel.write_all(format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        let mut head = [0; 4096];
        let length = tunnel.read(&mut head).await.unwrap();
        assert!(head[..length].starts_with(b"HTTP/1.1 200"));
        tunnel.write_all(b"through the tunnel").await.unwrap();
        let mut answer = String::new();
        tunnel.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("through the tunnel"), "{answer}");
    }

    #[tokio::test]
    async fn what_is_no_request_to_a_proxy_is_refused() {
        let (proxy, _) = proxy(&[]).await;
        for request in [
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        ] {
            assert!(ask(proxy, request).await.starts_with("HTTP/1.1 400"), "{request}");
        }
    }

    #[tokio::test]
    async fn an_address_of_this_machine_is_known_without_a_word() {
        assert!(is_our_own(([127, 0, 0, 1], 80).into()).await);
        assert!(!is_our_own(([192, 0, 2, 1], 80).into()).await);
    }
}
