//! Something that speaks like S3, on loopback, and a relay before it that breaks what goes through.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lastframe_core::percent;
use lastframe_stand_in::StandIn;
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::server::client;

/// The bucket; the documentation's policy names it so too.
pub(crate) const BUCKET: &str = "my-renders";

/// What befalls the requests that go through the relay.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    None,
    /// So many uploads break off in their middle.
    Cut(u32),
    /// So many uploads are answered with that status and that code.
    Refuse(u32, u16, &'static str),
    /// Every request waits so long before it is let through.
    Slow(Duration),
    /// Every connection is closed at once.
    Away,
}

/// The service, with a bucket, and a user who may do there what the documentation says.
pub(crate) struct S3 {
    aws: StandIn,
    /// Its user's secret.
    folder: tempfile::TempDir,
    relay: SocketAddr,
    fault: Arc<Mutex<Fault>>,
    bucket: String,
    key: String,
}

impl S3 {
    pub(crate) async fn start() -> Self {
        let (_, policy) = include_str!("../../../../docs/storage.md").split_once("```json\n").unwrap();
        Self::with(BUCKET, policy.split_once("```").unwrap().0).await
    }

    /// The same with that bucket, and a user who may do what that policy says.
    pub(crate) async fn with(bucket: &str, policy: &str) -> Self {
        let mut s3 = Self::of(bucket).await;
        s3.iam("CreateUser", "").await;
        let policy = percent::encode(policy);
        s3.iam("PutUserPolicy", &format!("&PolicyName=p&PolicyDocument={policy}")).await;
        let made = s3.iam("CreateAccessKey", "").await;
        let value = |tag: &str| {
            let (_, value) = made.split_once(&format!("<{tag}>")).unwrap();
            value.split_once('<').unwrap().0.to_owned()
        };
        s3.key = value("AccessKeyId");
        std::fs::write(s3.folder.path().join("secret"), value("SecretAccessKey")).unwrap();
        s3
    }

    /// The same with that bucket, and nobody but its owner.
    pub(crate) async fn of(bucket: &str) -> Self {
        // Signatures and policies count.
        let aws = StandIn::ministack_at(
            Ipv4Addr::LOCALHOST.into(),
            &[("AUTH", "true"), ("MINISTACK_HOST", "localhost")],
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = listener.local_addr().unwrap();
        let fault = Arc::new(Mutex::new(Fault::None));
        let to = aws.url().strip_prefix("http://").unwrap().parse().unwrap();
        tokio::spawn(accept(listener, to, Arc::clone(&fault)));
        let folder = tempfile::tempdir().unwrap();
        let s3 = Self { aws, folder, relay, fault, bucket: bucket.into(), key: String::new() };
        s3.as_root("s3", Method::PUT, &format!("/{bucket}"), "").await;
        s3
    }

    /// What the service has written about itself.
    pub(crate) fn log(&self) -> String {
        self.aws.log()
    }

    /// A request of the owner, whose signature the service does not look at.
    pub(crate) async fn as_root(
        &self,
        service: &str,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> String {
        self.as_root_with(service, method, path, &[], body).await
    }

    /// The same, with headers of its own.
    pub(crate) async fn as_root_with(
        &self,
        service: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> String {
        let signed = format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=x"
        );
        let mut request =
            client().request(method, format!("{}{path}", self.aws.url())).header("authorization", signed);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body(body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {text}");
        text
    }

    async fn iam(&self, action: &str, more: &str) -> String {
        let body = format!("Action={action}&Version=2010-05-08&UserName=lastframe{more}");
        self.as_root("iam", Method::POST, "/", body).await
    }

    /// The configuration of a server that puts its outputs here, by way of the relay.
    pub(crate) fn config(&self, more: &str) -> String {
        format!("{}\n[storage]\nurl = \"s3://{BUCKET}/videos\"\n{}\n{more}", queue(), self.access())
    }

    /// Where it is itself.
    pub(crate) fn url(&self) -> &str {
        self.aws.url()
    }

    /// Where the relay is.
    pub(crate) fn relayed(&self) -> String {
        format!("http://{}", self.relay)
    }

    /// The user's access key, and the secret that belongs to it.
    pub(crate) fn keys(&self) -> (String, String) {
        let secret = std::fs::read_to_string(self.folder.path().join("secret")).unwrap();
        (self.key.clone(), secret.trim().to_owned())
    }

    /// The same, for a server that keeps its outputs itself and still knows how to reach this.
    pub(crate) fn access_only(&self) -> String {
        format!("{}\n[storage]\n{}", queue(), self.access())
    }

    fn access(&self) -> String {
        let secret = self.folder.path().join("secret");
        format!(
            "endpoint = \"http://{}\"\nregion = \"us-east-1\"\naccess_key_id = \"{}\"\nsecret_access_key_file = \"{}\"",
            self.relay,
            self.key,
            secret.display()
        )
    }

    /// From now on, this befalls what goes through the relay.
    pub(crate) fn befall(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// What is left of a fault that befalls so many.
    pub(crate) fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    /// The keys of all objects.
    pub(crate) async fn objects(&self) -> Vec<String> {
        self.objects_in(&self.bucket).await
    }

    pub(crate) async fn objects_in(&self, bucket: &str) -> Vec<String> {
        let listed = self.as_root("s3", Method::GET, &format!("/{bucket}?list-type=2"), "").await;
        listed.split("<Key>").skip(1).map(|key| key.split_once('<').unwrap().0.to_owned()).collect()
    }

    /// The names of all buckets.
    pub(crate) async fn buckets(&self) -> Vec<String> {
        let listed = self.as_root("s3", Method::GET, "/", "").await;
        listed.split("<Name>").skip(1).map(|name| name.split_once('<').unwrap().0.to_owned()).collect()
    }

    /// Uploads that were begun and neither completed nor given up.
    pub(crate) async fn unfinished(&self) -> usize {
        let listed = self.as_root("s3", Method::GET, &format!("/{}?uploads", self.bucket), "").await;
        listed.matches("<UploadId>").count()
    }

    pub(crate) async fn remove(&self, key: &str) {
        self.as_root("s3", Method::DELETE, &format!("/{}/{key}", self.bucket), "").await;
    }

    pub(crate) async fn put(&self, key: &str, body: impl Into<reqwest::Body>) {
        self.put_in(&self.bucket, key, body).await;
    }

    pub(crate) async fn put_in(&self, bucket: &str, key: &str, body: impl Into<reqwest::Body>) {
        self.as_root("s3", Method::PUT, &format!("/{bucket}/{key}"), body).await;
    }
}

fn queue() -> &'static str {
    "[render]\nconcurrency = 2\n[queue]\nlease = \"3s\"\nretry_delay = \"200ms\"\n"
}

async fn accept(listener: TcpListener, to: SocketAddr, fault: Arc<Mutex<Fault>>) {
    while let Ok((from, _)) = listener.accept().await {
        // Whatever breaks here breaks for the one who asks.
        tokio::spawn(relay(from, to, Arc::clone(&fault)));
    }
}

/// Lets one request through, and closes: the next one comes with a connection of its own, and so with its own fault.
async fn relay(mut from: TcpStream, to: SocketAddr, fault: Arc<Mutex<Fault>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let head = loop {
        if from.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        if let Some(end) = request.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let rest = length.unwrap_or(0usize).saturating_sub(request.len() - head);
    match met(&fault, text.starts_with("put ")) {
        Fault::None => {}
        Fault::Slow(time) => tokio::time::sleep(time).await,
        Fault::Away => return Ok(()),
        Fault::Refuse(_, status, code) => {
            tokio::io::copy(&mut (&mut from).take(rest as u64), &mut tokio::io::sink()).await?;
            let body = format!("<Error><Code>{code}</Code></Error>");
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} No\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            from.write_all(answer.as_bytes()).await?;
            return from.shutdown().await;
        }
        Fault::Cut(_) => {
            let mut service = TcpStream::connect(to).await?;
            service.write_all(&request).await?;
            tokio::io::copy(&mut (&mut from).take(rest as u64 / 2), &mut service).await?;
            return Ok(());
        }
    }
    let mut service = TcpStream::connect(to).await?;
    let line = request.windows(2).position(|end| end == b"\r\n").unwrap() + 2;
    service.write_all(&request[..line]).await?;
    service.write_all(b"connection: close\r\n").await?;
    service.write_all(&request[line..]).await?;
    tokio::io::copy_bidirectional(&mut from, &mut service).await?;
    Ok(())
}

/// The fault that this request meets, counted.
fn met(fault: &Mutex<Fault>, is_upload: bool) -> Fault {
    let mut fault = fault.lock().unwrap();
    match &mut *fault {
        Fault::Cut(left) | Fault::Refuse(left, ..) => {
            if !is_upload || *left == 0 {
                return Fault::None;
            }
            *left -= 1;
        }
        Fault::None | Fault::Slow(_) | Fault::Away => {}
    }
    *fault
}
