//! What goes wrong on the way, and what errors and `Debug` say.

use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::config::{Credentials, Region};
use remotion_lambda::{
    Client, Codec, Error, InputProps, OutName, RenderMediaOptions, RenderMediaOutput, S3OutputProvider,
    Webhook,
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::capture::{Capture, Script};

const FUNCTION: &str = "remotion-render-4-0-527-mem2048mb-disk10240mb-120sec";

fn loader(url: &str) -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(url)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(Credentials::new("AKTEST", "s3cret-key", None, None, "test"))
}

async fn render(config: &SdkConfig) -> Result<RenderMediaOutput, Error> {
    let options = RenderMediaOptions::new(FUNCTION, "my-site", "main", Codec::H264);
    Client::new(config).unwrap().render_media_on_lambda(&options).await
}

async fn answered(answer: Value) -> Error {
    let capture = Capture::start().await;
    capture.play("AKTEST", Script { answer: Some(answer), ..Script::default() });
    let error = render(&loader(&capture.url).load().await).await.unwrap_err();
    assert_eq!(capture.asked("AKTEST").len(), 1, "a function is called once, whatever comes");
    error
}

#[tokio::test]
async fn throttling_is_no_attempt_and_says_how_long_to_wait() {
    let headers = json!({ "x-amzn-errortype": "TooManyRequestsException", "retry-after": "7" });
    let error =
        answered(json!({ "status": 429, "headers": headers, "body": { "message": "Rate Exceeded." } })).await;
    assert!(error.is_throttled() && error.is_transient() && !error.may_have_happened());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(error.advice().unwrap().contains("concurrent"));
}

#[tokio::test]
async fn a_missing_function_is_named_with_its_region() {
    let headers = json!({ "x-amzn-errortype": "ResourceNotFoundException" });
    let error = answered(json!({ "status": 404, "headers": headers, "body": {} })).await;
    assert_eq!(error.to_string(), format!("there is no function {FUNCTION} in us-east-1"));
    assert!(!error.is_transient() && !error.may_have_happened());
}

#[tokio::test]
async fn a_fault_of_aws_may_have_started_the_render() {
    let error = answered(json!({ "status": 502, "body": { "message": "bad gateway" } })).await;
    assert!(matches!(error, Error::Aws { status: 502, .. }), "{error:?}");
    assert!(error.is_transient() && error.may_have_happened());
}

#[tokio::test]
async fn a_closed_port_started_nothing_and_a_lost_connection_may_have() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = render(&loader(&format!("http://{closed}")).load().await).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { sent: false, .. }), "{error:?}");
    assert!(error.is_transient() && !error.may_have_happened());

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.read_exact(&mut [0; 16]).await.unwrap();
    });
    let error = render(&loader(&format!("http://{address}")).load().await).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { sent: true, .. }), "{error:?}");
    assert!(error.is_transient() && error.may_have_happened());
}

#[tokio::test(start_paused = true)]
async fn a_function_that_does_not_answer_is_waited_for_as_long_as_it_may_run() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = loader(&url).timeout_config(TimeoutConfig::disabled()).load().await;
    let start = tokio::time::Instant::now();
    let error = render(&config).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }) && error.may_have_happened(), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 120 + 30);
}

#[tokio::test]
async fn missing_credentials_are_told_as_such() {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let asking = ProviderConfig::default().with_http_client(http);
    let nobody =
        ProfileFileCredentialsProvider::builder().configure(&asking).profile_name("no-such-profile").build();
    let config = loader("http://127.0.0.1:9").credentials_provider(nobody).load().await;
    let error = render(&config).await.unwrap_err();
    assert!(matches!(error, Error::Credentials { .. }), "{error:?}");
    assert!(error.advice().unwrap().contains("REMOTION_AWS_ACCESS_KEY_ID"));
}

#[tokio::test]
async fn what_cannot_be_right_is_not_sent() {
    let capture = Capture::start().await;
    let client = Client::new(&loader(&capture.url).load().await).unwrap();
    let unknown = RenderMediaOptions::new("my-function", "my-site", "main", Codec::H264);
    let error = client.render_media_on_lambda(&unknown).await.unwrap_err();
    assert!(matches!(error, Error::VersionUnknown { .. }), "{error:?}");
    assert!(capture.asked("AKTEST").is_empty());
    let chosen = RenderMediaOptions { version: Some("4.0.1".to_owned()), ..unknown };
    client.render_media_on_lambda(&chosen).await.unwrap();
    let asked = capture.asked("AKTEST");
    assert_eq!(
        (&asked[0]["body"]["version"], &asked[0]["path"]),
        (&json!("4.0.1"), &json!("/2015-03-31/functions/my-function/invocations"))
    );
    let nowhere = SdkConfig::builder().build();
    assert!(matches!(Client::new(&nowhere), Err(Error::Invalid { option: "region", .. })));
    for text in ["", "[]", "null", "{", "{} {}", "\"{}\""] {
        assert!(matches!(InputProps::from_json(text), Err(Error::Invalid { .. })), "{text}");
    }
}

#[tokio::test]
async fn debug_shows_no_secrets_and_json_keeps_everything() {
    const SECRET: &str = "hush-hush";
    let provider = S3OutputProvider {
        endpoint: "https://x".to_owned(),
        secret_access_key: Some(SECRET.into()),
        ..S3OutputProvider::default()
    };
    let mut options = RenderMediaOptions {
        input_props: InputProps::new(&json!({ "password": SECRET })).unwrap(),
        env_variables: [("KEY".to_owned(), SECRET.into())].into(),
        webhook: Some(Webhook {
            url: "https://x".to_owned(),
            secret: Some(SECRET.into()),
            custom_data: None,
        }),
        license_key: Some(SECRET.into()),
        out_name: Some(OutName::Place {
            bucket_name: "b-1".to_owned(),
            key: "k".to_owned(),
            s3_output_provider: Some(provider),
        }),
        force_fps: Some(29.97),
        ..RenderMediaOptions::new(FUNCTION, "my-site", "main", Codec::Other("av1".to_owned()))
    };
    options.extra.0.insert("newKey".to_owned(), SECRET.into());
    let shown = format!("{options:?}");
    assert!(!shown.contains(SECRET) && shown.contains("newKey"), "{shown}");
    let json = serde_json::to_string(&options).unwrap();
    assert_eq!(json.matches(SECRET).count(), 6);
    assert_eq!(serde_json::from_str::<RenderMediaOptions>(&json).unwrap(), options);
    let client = Client::new(&loader("http://127.0.0.1:9").load().await).unwrap();
    assert!(!format!("{client:?}").contains("s3cret-key"));
}
