//! What is read and written in buckets, in something that speaks like S3.

use aws_sdk_s3::types::BucketVersioningStatus;
use remotion_lambda::{
    CancelRenderOptions, DeleteRenderOptions, Error, GetOrCreateBucketOptions, GetSitesOptions,
    PresignUrlOptions, RenderLocator,
};
use serde_json::{Value, json};

use crate::ministack::{Ministack, get};

const BUCKET: &str = "remotionlambda-useast1-abc123defg";

fn locator(render_id: &str) -> RenderLocator {
    RenderLocator {
        function_name: "remotion-render-4-0-527-mem2048mb-disk10240mb-120sec".to_owned(),
        bucket_name: BUCKET.to_owned(),
        render_id: render_id.to_owned(),
        ..RenderLocator::default()
    }
}

fn done(render_id: &str) -> String {
    json!({
        "cancellationEnabled": true, "chunks": [0, 0], "lambdasInvoked": 1, "functionLaunched": 1, "timeoutTimestamp": 2,
        "renderMetadata": {
            "type": "video", "renderId": render_id, "codec": "h264", "audioCodec": "aac", "totalChunks": 1,
            "frameRange": [0, 9], "everyNthFrame": 1, "startedDate": 1, "outName": null,
        },
        "postRenderData": {
            "cost": { "estimatedCost": 0.01, "estimatedDisplayCost": "$0.010", "currency": "USD", "disclaimer": "" },
            "outputFile": "https://x/out.mp4", "outputSize": 5, "timeToFinish": 7,
        },
    })
    .to_string()
}

#[tokio::test]
async fn a_render_is_followed_cancelled_and_deleted_in_its_bucket() {
    let ministack = Ministack::start();
    let client = ministack.client("us-east-1").await;
    let bucket = ministack.bucket(BUCKET).await;
    assert_eq!(client.get_render_progress_from_bucket(&locator("one")).await.unwrap(), None);

    let cancel = CancelRenderOptions { bucket_name: BUCKET.to_owned(), render_id: "one".to_owned() };
    let missing = client.cancel_render_on_lambda(&cancel).await.unwrap_err();
    assert!(matches!(missing, Error::RenderMissing { .. }), "{missing:?}");
    bucket.put("renders/one/progress.json", r#"{"cancellationEnabled":false}"#).await;
    let refused = client.cancel_render_on_lambda(&cancel).await.unwrap_err();
    assert!(matches!(refused, Error::NotCancellable { .. }), "{refused:?}");

    bucket.put("renders/one/progress.json", done("one")).await;
    bucket.put("renders/one/out.mp4", "video").await;
    let progress = client.get_render_progress_from_bucket(&locator("one")).await.unwrap().unwrap();
    assert!(progress.done && progress.is_over() && !progress.fatal_error_encountered);
    assert_eq!(progress.out_key.as_deref(), Some("renders/one/out.mp4"));
    assert_eq!(progress.output_size_in_bytes, Some(5));

    client.cancel_render_on_lambda(&cancel).await.unwrap();
    let signal: Value = serde_json::from_str(&bucket.read("renders/one/cancel.json").await).unwrap();
    assert!(signal["cancelledAt"].as_i64().unwrap() > 1_700_000_000_000);

    bucket.put("renders/one-more/progress.json", done("one-more")).await;
    let delete = DeleteRenderOptions {
        bucket_name: BUCKET.to_owned(),
        render_id: "one".to_owned(),
        custom_credentials: None,
    };
    let deleted = client.delete_render(&delete).await.unwrap();
    let size = done("one").len() + signal.to_string().len();
    // The output is deleted before the folder is looked at.
    assert_eq!(deleted.freed_bytes, size as u64);
    assert_eq!(bucket.keys().await, ["renders/one-more/progress.json"]);
    let again = client.delete_render(&delete).await.unwrap_err();
    assert!(matches!(again, Error::RenderMissing { .. }), "{again:?}");
}

#[tokio::test]
async fn what_is_no_progress_is_an_error_and_not_a_panic() {
    let ministack = Ministack::start();
    let client = ministack.client("us-east-1").await;
    let bucket = ministack.bucket(BUCKET).await;
    for nonsense in ["", "[]", "{\"chunks\":7}", "null", r#"{"postRenderData":{}}"#] {
        bucket.put("renders/one/progress.json", nonsense).await;
        let error = client.get_render_progress_from_bucket(&locator("one")).await.unwrap_err();
        assert!(matches!(error, Error::Reply { .. }), "{nonsense}: {error:?}");
    }
    // A newer version may write more, and an older one less.
    bucket.put("renders/one/progress.json", r#"{"framesRendered":3,"brandNew":{"a":[1]}}"#).await;
    let progress = client.get_render_progress_from_bucket(&locator("one")).await.unwrap().unwrap();
    assert_eq!((progress.frames_rendered, progress.is_over()), (3, false));
}

#[tokio::test]
async fn the_only_bucket_is_found_and_one_is_made_where_there_is_none() {
    let ministack = Ministack::start();
    for region in ["us-east-1", "eu-central-1"] {
        let client = ministack.client(region).await;
        let made = client.get_or_create_bucket(&GetOrCreateBucketOptions::default()).await.unwrap();
        assert!(!made.already_existed);
        let start = format!("remotionlambda-{}-", region.replace('-', ""));
        assert!(made.bucket_name.starts_with(&start), "{}", made.bucket_name);

        let expiring = GetOrCreateBucketOptions { enable_folder_expiry: Some(true) };
        let found = client.get_or_create_bucket(&expiring).await.unwrap();
        assert_eq!((found.bucket_name.as_str(), found.already_existed), (made.bucket_name.as_str(), true));

        let s3 = aws_sdk_s3::Client::new(&ministack.config(region).await);
        let policy = s3.get_bucket_policy().bucket(&made.bucket_name).send().await.unwrap();
        let policy: Value = serde_json::from_str(policy.policy().unwrap()).unwrap();
        assert_eq!(policy["Statement"][0]["Action"], "s3:GetObject");
        let rules = s3.get_bucket_lifecycle_configuration().bucket(&made.bucket_name).send().await.unwrap();
        let rules: Vec<_> =
            rules.rules().iter().map(|rule| rule.expiration().unwrap().days().unwrap()).collect();
        assert_eq!(rules, [1, 3, 7, 30]);
        let versions = s3.get_bucket_versioning().bucket(&made.bucket_name).send().await.unwrap();
        assert_ne!(versions.status(), Some(&BucketVersioningStatus::Enabled));

        let without = GetOrCreateBucketOptions { enable_folder_expiry: Some(false) };
        client.get_or_create_bucket(&without).await.unwrap();
        assert!(s3.get_bucket_lifecycle_configuration().bucket(&made.bucket_name).send().await.is_err());
    }
    ministack.bucket(BUCKET).await;
    let client = ministack.client("us-east-1").await;
    let several = client.get_or_create_bucket(&GetOrCreateBucketOptions::default()).await.unwrap_err();
    assert!(matches!(&several, Error::SeveralBuckets { buckets, .. } if buckets.len() == 2), "{several:?}");
}

#[tokio::test]
async fn a_signed_address_gives_the_object_and_another_does_not() {
    let ministack = Ministack::start();
    let client = ministack.client("us-east-1").await;
    let bucket = ministack.bucket("videos").await;
    bucket.put("renders/a b/größe.mp4", "video").await;
    let mut asked = PresignUrlOptions {
        bucket_name: "videos".to_owned(),
        object_key: "renders/a b/größe.mp4".to_owned(),
        expires_in_seconds: 60,
        check_if_object_exists: true,
    };
    let url = client.presign_url(&asked).await.unwrap().unwrap();
    let answer = get(&url).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("video"), "{answer}");
    asked.object_key = "other.mp4".to_owned();
    assert_eq!(client.presign_url(&asked).await.unwrap(), None);
    asked.check_if_object_exists = false;
    assert!(client.presign_url(&asked).await.unwrap().is_some());
}

#[tokio::test]
async fn sites_are_listed_with_their_versions() {
    let ministack = Ministack::start();
    let client = ministack.client("us-east-1").await;
    let bucket = ministack.bucket(BUCKET).await;
    bucket.put("sites/one/index.html", "window.remotion_version = '4.0.527';").await;
    bucket.put("sites/one/bundle.js", "12345").await;
    bucket.put("sites/two/index.html", "old").await;
    bucket.put("sites/stray", "not a site").await;
    let found = client.get_sites(&GetSitesOptions::default()).await.unwrap();
    let sites: Vec<_> = found
        .sites
        .iter()
        .map(|site| (site.id.as_str(), site.size_in_bytes, site.version.as_deref()))
        .collect();
    assert_eq!(sites, [("one", 41, Some("4.0.527")), ("two", 3, None)]);
    assert_eq!(found.buckets.len(), 1);
    let url = format!("https://{BUCKET}.s3.us-east-1.amazonaws.com/sites/one/index.html");
    assert_eq!(found.sites[0].serve_url, url);
    let compatible =
        GetSitesOptions { compatible_with: Some("4.0.527".to_owned()), ..GetSitesOptions::default() };
    assert_eq!(client.get_sites(&compatible).await.unwrap().sites.len(), 1);
}
