//! The body of a webhook, as Remotion Lambda sends it: the same fields in the same order.

use lastframe_core::outbox::{Due, Ended};
use lastframe_core::{Failure, Status};
use serde_json::{Map, Value, json};

/// Which of Remotion's three webhooks it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Success,
    Error,
    Timeout,
}

impl Type {
    pub(super) fn of(ended: &Ended) -> Self {
        let out_of_time = |failure: &Failure| failure.code == "render_timeout";
        match ended.status {
            Status::Succeeded => Self::Success,
            Status::Failed if ended.error.as_ref().is_some_and(out_of_time) => Self::Timeout,
            _ => Self::Error,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

/// What is told. `bucket` is where outputs go by default, `link` makes the URL of the one there is.
pub(super) fn payload(due: &Due, bucket: &str, link: impl Fn(&lastframe_core::Output) -> String) -> Value {
    let (ended, kind) = (&due.ended, Type::of(&due.ended));
    let output = ended.output.as_ref();
    let bucket = output.and_then(|output| bucket_of(&output.key)).unwrap_or(bucket);
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("type", kind.as_str().into());
    put("renderId", due.delivery.render.to_string().into());
    put("expectedBucketOwner", "".into());
    put("bucketName", bucket.into());
    put("customData", due.notice.custom_data.clone().map_or(Value::Null, Value::Object));
    match kind {
        Type::Success => {
            let url = output.map_or(Value::Null, |output| link(output).into());
            put("outputUrl", url.clone());
            put("lambdaErrors", json!([]));
            put("outputFile", url);
            let took = ended
                .started_at
                .map_or(0, |started| ended.finished_at.as_millisecond() - started.as_millisecond());
            put("timeToFinish", took.into());
            put(
                "costs",
                json!({
                    "estimatedCost": 0,
                    "estimatedDisplayCost": "$0.00",
                    "currency": "USD",
                    "disclaimer": "Rendered on a server of your own: its cost is not estimated.",
                }),
            );
        }
        Type::Error => put("errors", json!([error(ended)])),
        Type::Timeout => {}
    }
    Value::Object(fields)
}

fn error(ended: &Ended) -> Value {
    let (message, name, stack) = match (&ended.status, &ended.error) {
        // What went wrong before is not why it ended.
        (Status::Cancelled, _) => ("The render was cancelled".to_owned(), "CancelledError".to_owned(), None),
        (_, Some(failure)) => (failure.message.clone(), failure.name.clone(), failure.stack.clone()),
        (_, None) => ("The render failed".to_owned(), "RenderError".to_owned(), None),
    };
    let stack = stack.unwrap_or_else(|| format!("{name}: {message}"));
    json!({"message": message, "name": name, "stack": stack})
}

/// The bucket of an output's key; none for a file of this machine.
fn bucket_of(key: &str) -> Option<&str> {
    key.strip_prefix("s3://")?.split('/').next()
}
