//! Whether a queue on AWS can be reached from here.

use std::sync::{Arc, Mutex, PoisonError};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::{BoxError, ProvideErrorMetadata};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::QueueAttributeName;
use jiff::{SignedDuration, Timestamp};
use lastframe_core::Clock;

use super::Sight;

/// By how much the clock may differ from that of AWS: leases end by the clocks of those who work, and one that is ahead takes
/// away from others what they are still rendering.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// Looks at a queue from where this runs: the credentials, the region, the table, the queue of messages, and how far this
/// machine's clock is from that of AWS. It changes nothing.
pub async fn inspect_queue(sdk: &SdkConfig, table: &str, queue_url: &str, clock: &dyn Clock) -> Sight {
    let region = sdk.region().map(ToString::to_string);
    let what = match &region {
        Some(region) => format!("{} in {region}", name(queue_url)),
        None => name(queue_url).to_owned(),
    };
    let mut sight = Sight { what, well: Vec::new(), doubts: Vec::new(), faults: Vec::new() };
    if let Err(fault) = look(sdk, region.as_deref(), table, queue_url, clock, &mut sight).await {
        sight.faults.push(fault);
    }
    sight
}

type Fault = (String, String);

async fn look(
    sdk: &SdkConfig,
    region: Option<&str>,
    table: &str,
    queue_url: &str,
    clock: &dyn Clock,
    sight: &mut Sight,
) -> Result<(), Fault> {
    let fault = |found: String, mend: &str| Err((found, mend.to_owned()));
    let Some(region) = region else {
        return fault("no region is named".into(), "set AWS_REGION, or say --region");
    };
    if let Some(other) = region_of(queue_url).filter(|other| *other != region) {
        let mend = format!("say --region {other}, or name the queue of {region}");
        return fault(format!("the queue's URL is of {other}, and the region is {region}"), &mend);
    }
    if let Err(error) = crate::credentials(sdk).await {
        let mend = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (--profile), or give the machine a role";
        return fault(error.to_string(), mend);
    }
    // Nothing lies there; whether one may ask is what counts.
    let key = || AttributeValue::S("lastframe".into());
    let asked = aws_sdk_dynamodb::Client::new(sdk).get_item().table_name(table);
    let asked = asked.key("pk", key()).key("sk", key()).customize();
    let date = Heard::default();
    if let Err(error) = asked.interceptor(date.clone()).send().await {
        return Err(of_table(table, region, &error));
    }
    if let Some(off) = date.take().map(|theirs| clock.now().duration_since(theirs))
        && off.abs() > SKEW
    {
        let way = if off.is_negative() { "behind" } else { "ahead" };
        let found = format!("the clock of this machine is {} s {way}", off.abs().as_secs());
        return fault(found, "set it, and keep it right: timedatectl set-ntp true, or chrony");
    }
    sight.well.push(format!("table {table}"));
    let asked = aws_sdk_sqs::Client::new(sdk).get_queue_attributes().queue_url(queue_url);
    match asked.attribute_names(QueueAttributeName::ApproximateNumberOfMessages).send().await {
        Ok(found) => {
            let waiting = found
                .attributes
                .and_then(|mut all| all.remove(&QueueAttributeName::ApproximateNumberOfMessages));
            sight.well.push(format!("{} rings waiting", waiting.unwrap_or_else(|| "0".into())));
            Ok(())
        }
        Err(error) if is_denied(error.code()) => {
            sight.doubts.push((
                "how many rings wait is not known".into(),
                "allow sqs:GetQueueAttributes to these credentials".into(),
            ));
            Ok(())
        }
        Err(error) => Err(of_queue(queue_url, region, &error)),
    }
}

/// What AWS said that time it was.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<Option<Timestamp>>>);

impl Heard {
    fn take(&self) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Intercept for Heard {
    fn name(&self) -> &'static str {
        "Heard"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

fn is_denied(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.starts_with("AccessDenied"))
}

fn of_table(table: &str, region: &str, error: &(impl ProvideErrorMetadata + std::error::Error)) -> Fault {
    let (found, mend) = match error.code() {
        Some("ResourceNotFoundException") => (
            "it is not there",
            "name the stack (--stack), or its table and region: `lastframe aws status` shows them",
        ),
        Some("ValidationException") => ("it is no table of Lastframe", "name the table of the stack"),
        Some("UnrecognizedClientException" | "InvalidSignatureException" | "ExpiredTokenException") => {
            ("the credentials are not good", "get new ones, and look at AWS_PROFILE and AWS_ACCESS_KEY_ID")
        }
        code if is_denied(code) => (
            "the credentials may not use it",
            "give them the policy that docs/aws.md has for `lastframe work`",
        ),
        code => {
            let why = code.map_or_else(|| lastframe_core::error_chain(error), str::to_owned);
            return (
                format!("the table {table} in {region}: {why}"),
                "look at the way to AWS, and at AWS_ENDPOINT_URL".into(),
            );
        }
    };
    (format!("the table {table} in {region}: {found}"), mend.into())
}

fn of_queue(url: &str, region: &str, error: &(impl ProvideErrorMetadata + std::error::Error)) -> Fault {
    match error.code() {
        Some(
            "AWS.SimpleQueueService.NonExistentQueue"
            | "QueueDoesNotExist"
            | "com.amazonaws.sqs#QueueDoesNotExist",
        ) => (
            format!("there is no queue {url} in {region}"),
            "name the stack (--stack), or its queue and region: `lastframe aws status` shows them".into(),
        ),
        code => {
            let why = code.map_or_else(|| lastframe_core::error_chain(error), str::to_owned);
            (format!("the queue {url}: {why}"), "look at the way to AWS, and at AWS_ENDPOINT_URL".into())
        }
    }
}

/// The last part of a queue's URL.
fn name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// The region that a queue's URL tells, if it is one of AWS's own.
fn region_of(url: &str) -> Option<&str> {
    let host = url.split_once("://")?.1.split('/').next()?;
    let region = host.strip_prefix("sqs.")?.split('.').next()?;
    host.contains(".amazonaws.").then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queues_url_tells_its_region() {
        let of = |url| (name(url).to_owned(), region_of(url).map(str::to_owned));
        assert_eq!(
            of("https://sqs.eu-central-1.amazonaws.com/123456789012/lastframe.fifo"),
            ("lastframe.fifo".into(), Some("eu-central-1".into()))
        );
        assert_eq!(of("http://127.0.0.1:4566/000000000000/q.fifo"), ("q.fifo".into(), None));
        assert_eq!(of("q"), ("q".into(), None));
    }
}
