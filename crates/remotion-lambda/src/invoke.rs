//! Calling a function, and what it answers.

use std::str::FromStr as _;
use std::time::Duration;

use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::error::ProvideErrorMetadata;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{InvocationType, InvokeWithResponseStreamResponseEvent as Event};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::cut;
use crate::stream::{Message, Messages};
use crate::{Client, Error, FunctionName};

const INVOKE: &str = "lambda:InvokeFunction";

/// How long Lambda lets a function run at most, in seconds; for names that do not tell.
const LONGEST: u32 = 900;

/// How long the way there and back may take, and the start of a cold function.
const AROUND: Duration = Duration::from_secs(30);

/// The most a still's answer may say before it is nonsense, in bytes.
const STREAM_LIMIT: usize = 16 * 1024 * 1024;

/// What every answer of Remotion's has, and what Lambda's own has when a function breaks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    #[serde(rename = "type")]
    kind: Option<String>,
    message: Option<String>,
    stack: Option<String>,
    error_message: Option<String>,
    error_type: Option<String>,
    #[serde(default, alias = "stackTrace")]
    trace: Vec<Value>,
}

impl Client {
    /// Calls `function` and waits for its answer. It is called once: what may be tried again only the caller knows.
    pub(crate) async fn call<R: DeserializeOwned>(
        &self,
        function: &str,
        version: &str,
        payload: Vec<u8>,
    ) -> Result<R, Error> {
        let limit = TimeoutConfig::builder().operation_timeout(longest_wait(function)).build();
        let answer = self
            .lambda
            .invoke()
            .function_name(function)
            .invocation_type(InvocationType::RequestResponse)
            .payload(Blob::new(payload))
            .customize()
            .config_override(aws_sdk_lambda::config::Builder::new().timeout_config(limit))
            .send()
            .await
            .map_err(|error| match error.code() {
                Some("ResourceNotFoundException") => self.missing(function),
                _ => Error::aws(INVOKE, &error),
            })?;
        let body = answer.payload.map(Blob::into_inner).unwrap_or_default();
        if answer.function_error.is_some() {
            return Err(broken(&body));
        }
        read(&body, version)
    }

    /// Calls `function`, and gives what it says bit by bit to `hear` until that has what it wants.
    pub(crate) async fn call_streaming<R>(
        &self,
        function: &str,
        version: &str,
        payload: Vec<u8>,
        hear: impl FnMut(Message) -> Result<Option<R>, Error>,
    ) -> Result<R, Error> {
        let whole = self.call_streaming_without_end(function, version, payload, hear);
        tokio::time::timeout(longest_wait(function), whole)
            .await
            .unwrap_or(Err(Error::TimedOut { action: INVOKE }))
    }

    async fn call_streaming_without_end<R>(
        &self,
        function: &str,
        version: &str,
        payload: Vec<u8>,
        mut hear: impl FnMut(Message) -> Result<Option<R>, Error>,
    ) -> Result<R, Error> {
        let call =
            self.lambda.invoke_with_response_stream().function_name(function).payload(Blob::new(payload));
        let mut answer = call.send().await.map_err(|error| match error.code() {
            Some("ResourceNotFoundException") => self.missing(function),
            _ => Error::aws(INVOKE, &error),
        })?;
        let mut messages = Messages::default();
        loop {
            let event = answer.event_stream.recv().await.map_err(|error| Error::aws_event(INVOKE, &error))?;
            match event {
                Some(Event::PayloadChunk(chunk)) => {
                    messages.push(chunk.payload.map(Blob::into_inner).unwrap_or_default());
                    if messages.waiting().len() > STREAM_LIMIT {
                        return Err(Error::Reply {
                            action: INVOKE,
                            message: "a message without an end".to_owned(),
                        });
                    }
                    while let Some(message) = messages.next()? {
                        if let Some(result) = hear(message)? {
                            return Ok(result);
                        }
                    }
                }
                Some(Event::InvokeComplete(end)) if end.error_code.is_some() => {
                    let details = end.error_details.unwrap_or_default();
                    return Err(fault(end.error_code, &details, Vec::new()));
                }
                Some(_) => {}
                None => break,
            }
        }
        // Before it begins to stream, Remotion answers with JSON.
        match read::<Value>(messages.waiting(), version) {
            Err(error @ (Error::Render { .. } | Error::Throttled { .. } | Error::VersionMismatch { .. })) => {
                Err(error)
            }
            _ => Err(Error::Reply { action: INVOKE, message: "it ended without a result".to_owned() }),
        }
    }

    fn missing(&self, function: &str) -> Error {
        Error::FunctionMissing { function: function.to_owned(), region: self.region().to_owned() }
    }
}

fn longest_wait(function: &str) -> Duration {
    let seconds = FunctionName::from_str(function).map_or(LONGEST, |name| name.timeout_in_seconds());
    Duration::from_secs(u64::from(seconds)) + AROUND
}

/// An answer of Remotion's. Functions that stream may write several objects one after another; the last one counts.
fn read<R: DeserializeOwned>(body: &[u8], version: &str) -> Result<R, Error> {
    let odd = |message: String| Error::Reply { action: INVOKE, message };
    let not_json = |error: serde_json::Error| {
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]);
        odd(format!("it is not JSON ({error}): {shown}"))
    };
    let mut last: Option<&RawValue> = None;
    for object in serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>() {
        last = Some(object.map_err(not_json)?);
    }
    let Some(last) = last else { return Err(odd("it is empty".to_owned())) };
    let envelope: Envelope = serde_json::from_str(last.get()).map_err(not_json)?;
    if envelope.error_message.is_some() {
        return Err(envelope.into_fault());
    }
    if envelope.kind.as_deref() == Some("error") {
        let message = envelope.message.unwrap_or_default();
        return Err(Error::from_remotion(&message, &envelope.stack.unwrap_or_default(), version));
    }
    serde_json::from_str(last.get()).map_err(|error| odd(error.to_string()))
}

/// What Lambda says of a function that broke.
fn broken(body: &[u8]) -> Error {
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) => envelope.into_fault(),
        Err(_) => fault(None, &String::from_utf8_lossy(body), Vec::new()),
    }
}

impl Envelope {
    fn into_fault(self) -> Error {
        let line = |line: Value| match line {
            Value::String(line) => line,
            other => other.to_string(),
        };
        let trace = self.trace.into_iter().map(line).collect();
        fault(self.error_type, &self.error_message.unwrap_or_default(), trace)
    }
}

fn fault(kind: Option<String>, message: &str, trace: Vec<String>) -> Error {
    let message = cut(message);
    if message.contains("Task timed out after") || kind.as_deref() == Some("Sandbox.Timedout") {
        return Error::FunctionTimedOut { message };
    }
    Error::Function { kind, message, trace }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(body: &str) -> Error {
        read::<Value>(body.as_bytes(), "4.0.527").unwrap_err()
    }

    #[test]
    fn the_last_object_is_the_answer() {
        let answer: Value = read(br#"{"type":"x"}{"type":"success","renderId":"a"}"#, "4.0.527").unwrap();
        assert_eq!(answer["renderId"], "a");
    }

    #[test]
    fn errors_are_told_apart() {
        assert!(matches!(reading(""), Error::Reply { .. }));
        assert!(matches!(reading("<html>"), Error::Reply { .. }));
        assert!(matches!(reading(r#"{"type":"error","message":"m","stack":"s"}"#), Error::Render { .. }));
        let throttled = r#"{"type":"error","message":"Rate Exceeded.","stack":"TooManyRequestsException: Rate Exceeded."}"#;
        assert!(reading(throttled).is_throttled());
        let other = reading(r#"{"type":"error","message":"Version mismatch: When calling ..."}"#);
        assert!(matches!(&other, Error::VersionMismatch { sent, .. } if sent == "4.0.527"));
        assert!(matches!(reading(r#"{"errorMessage":"m","errorType":"E"}"#), Error::Function { .. }));
        let timed_out =
            broken(br#"{"errorMessage":"2026-11-25T10:00:00Z 1a Task timed out after 120.01 seconds"}"#);
        assert!(matches!(timed_out, Error::FunctionTimedOut { .. }));
        assert!(matches!(broken(b"\xff"), Error::Function { .. }));
        let crashed = broken(
            br#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: 1 Error: exit status 1"}"#,
        );
        assert!(matches!(crashed, Error::Function { kind: Some(kind), .. } if kind == "Runtime.ExitError"));
    }
}
