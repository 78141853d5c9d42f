//! What the stack tells a function, by its environment.

use std::time::Duration;

use anyhow::Context as _;
use lastframe::cloud::{Settings, Tenancy};

/// Which of the functions this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Answers requests.
    Api,
    /// Renders.
    Render,
    /// Does what time brings about.
    Tend,
}

/// What the stack says.
#[derive(Clone, Debug)]
pub struct Environment {
    /// `LASTFRAME_FUNCTION`
    pub role: Role,
    /// `LASTFRAME_TABLE`
    pub table: String,
    /// `LASTFRAME_QUEUE_URL`
    pub queue_url: String,
    /// `LASTFRAME_DEAD_LETTERS_URL`
    pub dead_letters_url: Option<String>,
    /// `LASTFRAME_TIMERS_URL`
    pub timers_url: Option<String>,
    /// `LASTFRAME_TIMEOUT`: how long the function is let run, in seconds.
    pub timeout: Option<Duration>,
    /// Who holds leases of this very instance.
    pub instance: String,
    /// What the composition needs.
    pub settings: Settings,
}

impl Environment {
    /// Reads it by asking for one variable after another.
    ///
    /// # Errors
    /// What is missing, or cannot be.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let needed = |name: &str| given(name).with_context(|| format!("{name} is missing: the stack sets it"));
        let role = match needed("LASTFRAME_FUNCTION")?.as_str() {
            "api" => Role::Api,
            "render" => Role::Render,
            "tend" => Role::Tend,
            other => anyhow::bail!("LASTFRAME_FUNCTION is `{other}`, and must be api, render or tend"),
        };
        let tenancy = match given("LASTFRAME_TENANCY").as_deref() {
            None | Some("shared") => Tenancy::Shared,
            Some("per-user") => Tenancy::PerUser,
            Some(other) => anyhow::bail!("LASTFRAME_TENANCY is `{other}`, and must be shared or per-user"),
        };
        let timeout = given("LASTFRAME_TIMEOUT").map(|seconds| {
            let seconds = seconds.parse().ok().filter(|seconds| *seconds > 0);
            seconds.map(Duration::from_secs).context("LASTFRAME_TIMEOUT must be a number of seconds")
        });
        // The instance's log has this very name.
        let instance = given("AWS_LAMBDA_LOG_STREAM_NAME").map_or_else(
            || format!("{}-{}", given("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default(), std::process::id()),
            |stream| format!("lambda:{stream}"),
        );
        Ok(Self {
            role,
            table: needed("LASTFRAME_TABLE")?,
            queue_url: needed("LASTFRAME_QUEUE_URL")?,
            dead_letters_url: given("LASTFRAME_DEAD_LETTERS_URL"),
            timers_url: given("LASTFRAME_TIMERS_URL"),
            timeout: timeout.transpose()?,
            instance,
            settings: Settings {
                text: given("LASTFRAME_SETTINGS").unwrap_or_default(),
                region: needed("AWS_REGION")?,
                endpoint: given("AWS_ENDPOINT_URL"),
                public_url: needed("LASTFRAME_PUBLIC_URL")?,
                bucket: needed("LASTFRAME_BUCKET")?,
                remotion_function: given("LASTFRAME_REMOTION_FUNCTION"),
                remotion_bucket: given("LASTFRAME_REMOTION_BUCKET"),
                user_pool: needed("LASTFRAME_USER_POOL_ID")?,
                user_pool_client: needed("LASTFRAME_USER_POOL_CLIENT_ID")?,
                tenancy,
                mail_from: given("LASTFRAME_MAIL_FROM"),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(name: &str) -> Option<String> {
        let value = match name {
            "LASTFRAME_FUNCTION" => "render",
            "LASTFRAME_TABLE" => "t",
            "LASTFRAME_QUEUE_URL" => "https://sqs.eu-central-1.amazonaws.com/1/q.fifo",
            "LASTFRAME_PUBLIC_URL" => "https://x.execute-api.eu-central-1.amazonaws.com",
            "LASTFRAME_BUCKET" => "b",
            "LASTFRAME_USER_POOL_ID" => "eu-central-1_abc",
            "LASTFRAME_USER_POOL_CLIENT_ID" => "c",
            "LASTFRAME_TIMEOUT" => "900",
            "LASTFRAME_REMOTION_FUNCTION" => "",
            "AWS_REGION" => "eu-central-1",
            "AWS_LAMBDA_LOG_STREAM_NAME" => "2026/03/01/[$LATEST]0123",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn what_the_stack_sets_is_read_and_what_is_empty_is_absent() {
        let read = Environment::read(stack).unwrap();
        assert_eq!((read.role, read.timeout), (Role::Render, Some(Duration::from_secs(900))));
        assert_eq!((read.settings.remotion_function, read.settings.tenancy), (None, Tenancy::Shared));
        assert_eq!(read.instance, "lambda:2026/03/01/[$LATEST]0123");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (name, value) in [
            ("LASTFRAME_TABLE", ""),
            ("LASTFRAME_FUNCTION", "web"),
            ("LASTFRAME_TENANCY", "mine"),
            ("LASTFRAME_TIMEOUT", "15m"),
        ] {
            let with = |asked: &str| if asked == name { Some(value.to_owned()) } else { stack(asked) };
            let error = Environment::read(with).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
