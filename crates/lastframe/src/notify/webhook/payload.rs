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
            put("costs", costs(output.and_then(|output| output.cost_in_usd)));
        }
        Type::Error => put("errors", json!([error(ended)])),
        Type::Timeout => {}
    }
    Value::Object(fields)
}

/// What it has cost, in US dollars, as Remotion writes it.
fn costs(estimated: Option<f64>) -> Value {
    let (cost, shown, disclaimer) = match estimated {
        Some(cost) => {
            (json!(cost), display(cost), "Estimated by Remotion Lambda, without storage and transfer.")
        }
        None => (json!(0), "$0.00".into(), "Rendered on a server of your own: its cost is not estimated."),
    };
    json!({"estimatedCost": cost, "estimatedDisplayCost": shown, "currency": "USD", "disclaimer": disclaimer})
}

/// Thousandths of a dollar, which is what a render costs.
fn display(cost: f64) -> String {
    if cost < 0.001 { "<$0.001".into() } else { format!("${cost:.3}") }
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
    match key.split_once("://")? {
        ("s3", rest) => rest.split('/').next(),
        // The region comes first.
        ("lambda", rest) => rest.split('/').nth(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_told_by_the_key_of_its_object() {
        for (key, bucket) in [
            ("render/1.mp4", None),
            ("s3://videos/prefix/render/1.mp4", Some("videos")),
            ("lambda://eu-central-1/remotionlambda-x/renders/r/out.mp4", Some("remotionlambda-x")),
            ("lambda://2@eu-central-1/remotionlambda-x/renders/r/out.mp4", Some("remotionlambda-x")),
        ] {
            assert_eq!(bucket_of(key), bucket, "{key}");
        }
    }

    #[test]
    fn what_it_cost_is_told_where_that_is_known() {
        assert_eq!(costs(None)["estimatedDisplayCost"], "$0.00");
        assert_eq!(costs(Some(0.0004))["estimatedDisplayCost"], "<$0.001");
        assert_eq!(costs(Some(0.0126))["estimatedDisplayCost"], "$0.013");
        assert_eq!(costs(Some(0.0126))["estimatedCost"], 0.0126);
    }
}
