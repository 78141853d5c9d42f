//! What the environment says, in a process that has one of its own.

use std::process::{Command, Stdio};

use remotion_lambda::{Client, LogLevel};

use crate::capture::Capture;

const FUNCTION: &str = "remotion-render-4-0-527-mem2048mb-disk10240mb-120sec";

/// The other half of the test below, which runs it as a child.
#[tokio::test]
#[ignore = "it needs the environment that another test gives it"]
async fn as_a_child() {
    let version =
        Client::from_env("eu-west-1").await.get_function_version(FUNCTION, &LogLevel::Info).await.unwrap();
    assert_eq!(version, "4.0.527");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_endpoints_are_those_of_the_environment_in_remotions_order() {
    let capture = Capture::start().await;
    let folder = tempfile::tempdir().unwrap();
    let profiles = folder.path().join("credentials");
    let profile =
        |name: &str, id: &str| format!("[{name}]\naws_access_key_id = {id}\naws_secret_access_key = s\n");
    std::fs::write(&profiles, profile("default", "AKDEFAULT") + &profile("mine", "AKMINE")).unwrap();
    let aws = [("AWS_ACCESS_KEY_ID", "AKAWS"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let remotion = [("REMOTION_AWS_ACCESS_KEY_ID", "AKREMOTION"), ("REMOTION_AWS_SECRET_ACCESS_KEY", "s")];
    let mine = [("REMOTION_AWS_PROFILE", "mine")];
    let theirs = [("AWS_PROFILE", "mine")];
    for (variables, expected) in [
        (vec![], "AKDEFAULT"),
        (aws.to_vec(), "AKAWS"),
        ([&aws[..], &theirs[..]].concat(), "AKMINE"),
        ([&aws[..], &theirs[..], &remotion[..]].concat(), "AKREMOTION"),
        ([&aws[..], &remotion[..], &mine[..]].concat(), "AKMINE"),
    ] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "environment::as_a_child"])
            .env_clear()
            .env("HOME", folder.path())
            .env("AWS_SHARED_CREDENTIALS_FILE", &profiles)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            // One for all of AWS, where nobody listens, and one for Lambda.
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            .env("AWS_ENDPOINT_URL_LAMBDA", &capture.url)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(child.status.success(), "{expected}: {}", String::from_utf8_lossy(&child.stdout));
        let asked = capture.asked(expected);
        assert_eq!(asked.len(), 1, "{expected}");
        assert_eq!(asked[0]["region"], "eu-west-1");
    }
}
