//! Something that speaks like S3 and STS, on loopback.

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::config::{Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use lastframe_stand_in::StandIn;
use remotion_lambda::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The service. It ends with this.
pub(crate) struct Ministack(StandIn);

impl Ministack {
    pub(crate) fn start() -> Self {
        Self(StandIn::ministack())
    }

    pub(crate) async fn config(&self, region: &'static str) -> SdkConfig {
        aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region))
            .endpoint_url(self.0.url())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .load()
            .await
    }

    pub(crate) async fn client(&self, region: &'static str) -> Client {
        Client::new(&self.config(region).await).unwrap()
    }

    /// S3 itself, to put there and to look.
    pub(crate) async fn bucket(&self, name: &str) -> Bucket {
        let s3 = aws_sdk_s3::Client::new(&self.config("us-east-1").await);
        s3.create_bucket().bucket(name).send().await.unwrap();
        Bucket { s3, name: name.to_owned() }
    }
}

/// A bucket.
pub(crate) struct Bucket {
    pub(crate) s3: aws_sdk_s3::Client,
    name: String,
}

impl Bucket {
    pub(crate) async fn put(&self, key: &str, body: impl Into<Vec<u8>>) {
        let body = ByteStream::from(body.into());
        self.s3.put_object().bucket(&self.name).key(key).body(body).send().await.unwrap();
    }

    pub(crate) async fn read(&self, key: &str) -> String {
        let object = self.s3.get_object().bucket(&self.name).key(key).send().await.unwrap();
        String::from_utf8(object.body.collect().await.unwrap().to_vec()).unwrap()
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        let listed = self.s3.list_objects_v2().bucket(&self.name).send().await.unwrap();
        listed.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
    }
}

/// What a browser would get.
pub(crate) async fn get(url: &str) -> std::io::Result<String> {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut connection = TcpStream::connect(host).await?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
