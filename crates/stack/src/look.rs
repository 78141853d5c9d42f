//! How a stack is, and what its functions say.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use aws_sdk_sqs::types::QueueAttributeName;
use serde::Serialize;

use crate::error::said;
use crate::template::Parameters;
use crate::{Error, Stack};

/// Fewer functions at once than this, and one render of Remotion takes all of them.
const FEW: i32 = 100;
/// Functions that a render takes at the least: ours, Remotion's main one, and two that it divides the frames among.
const OF_A_RENDER: i32 = 4;
/// Functions that must find room beside all renders: `api` and `tend`.
const BESIDE: i32 = 2;
/// The least that SQS takes for renders at once.
const LEAST: i32 = 2;

/// What there is to know about a stack at one time.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its name.
    pub stack: String,
    /// Its region.
    pub region: String,
    /// Where CloudFormation says it stands.
    pub status: String,
    /// Why, where CloudFormation says so.
    pub reason: Option<String>,
    /// What it tells others.
    pub outputs: BTreeMap<String, String>,
    /// Its functions.
    pub functions: Vec<Function>,
    /// Its queues.
    pub queues: Vec<Queue>,
    /// Renders at once by the render function; `None` when it takes none.
    pub maximum_concurrency: Option<u32>,
    /// Functions at once that the account may have; `None` when that may not be asked.
    pub account_concurrency: Option<i32>,
    /// What a person should look at.
    pub hints: Vec<String>,
}

/// A function.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Function {
    /// `api`, `render` or `tend`.
    pub role: String,
    /// Its name.
    pub name: String,
    /// `Active` when it is well.
    pub state: String,
    /// `arm64` or `x86_64`.
    pub architecture: String,
    /// In MB.
    pub memory: i32,
    /// In seconds.
    pub timeout: i32,
    /// Of its code, in bytes.
    pub size: i64,
    /// When it changed last.
    pub changed: String,
}

/// How many messages a queue has.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// `queue`, `deadLetters` or `timers`.
    pub role: String,
    /// Messages that wait.
    pub waiting: u64,
    /// Messages that somebody works on.
    pub in_flight: u64,
    /// Messages that come later.
    pub delayed: u64,
}

/// Where a stack writes its logs.
pub const LOGS: [&str; 4] = ["api", "render", "tend", "access"];

/// A line of a log.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Milliseconds since 1970.
    pub at: i64,
    /// Which log it is from.
    pub log: &'static str,
    /// What it says.
    pub text: String,
}

/// What was read of the logs so far.
#[derive(Clone, Debug)]
pub struct Reading {
    from: i64,
    seen: HashSet<String>,
}

impl Reading {
    /// From a time on, in milliseconds since 1970.
    #[must_use]
    pub fn from(at: i64) -> Self {
        Self { from: at, seen: HashSet::new() }
    }
}

impl Stack {
    /// Looks at everything.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is no such stack; when AWS refuses or does not answer.
    pub async fn status(&self) -> Result<Status, Error> {
        let found = self.describe().await?.ok_or_else(|| self.missing())?;
        let mut status = Status {
            stack: self.name.clone(),
            region: self.region.clone(),
            status: found.status.as_str().to_owned(),
            reason: found.reason.clone(),
            outputs: found.outputs.clone(),
            functions: Vec::new(),
            queues: Vec::new(),
            maximum_concurrency: None,
            account_concurrency: None,
            hints: Vec::new(),
        };
        if found.is_wreck() {
            status
                .hints
                .push("it never came to be: `lastframe aws deploy` deletes it and begins anew".into());
        }
        if found.is_moving() {
            status.hints.push("CloudFormation is at work; `lastframe aws deploy` follows it".into());
        }
        if !found.outputs.is_empty() {
            for role in ["api", "render", "tend"] {
                status.functions.extend(self.function(role, &mut status.hints).await?);
            }
            for (role, output) in
                [("queue", "queueurl"), ("deadLetters", "deadLettersUrl"), ("timers", "timersUrl")]
            {
                if let Some(url) = found.outputs.get(output) {
                    status.queues.push(self.queue(role, url).await?);
                }
            }
            status.maximum_concurrency = maximum_concurrency(&found.parameters);
            status.account_concurrency = self.account_concurrency().await;
            status.hints.extend(
                status.account_concurrency.and_then(|most| lack_of_room(most, status.maximum_concurrency)),
            );
        }
        let letters = status.queues.iter().find(|queue| queue.role == "deadLetters");
        if let Some(letters) = letters.filter(|letters| letters.waiting > 0) {
            status.hints.push(format!(
                "{} dead letters: `lastframe list --status failed` says why, `lastframe redrive` queues them again",
                letters.waiting
            ));
        }
        Ok(status)
    }

    async fn function(&self, role: &str, hints: &mut Vec<String>) -> Result<Option<Function>, Error> {
        let name = format!("{}-{role}", self.name);
        let asked = self.lambda.get_function_configuration().function_name(&name).send().await;
        let found = match asked.map_err(|error| said("lambda:GetFunctionConfiguration", error)) {
            Err(Error::Refused { code, .. }) if code == "ResourceNotFoundException" => {
                hints.push(format!("the function {name} is gone: somebody deleted it by hand"));
                return Ok(None);
            }
            found => found?,
        };
        let state = found.state.as_ref().map_or("Active", |state| state.as_str()).to_owned();
        if state == "Failed" {
            let why = found.state_reason().unwrap_or("it does not say why");
            hints.push(format!("the function {name} cannot run: {why}"));
        }
        Ok(Some(Function {
            role: role.to_owned(),
            state,
            architecture: found.architectures().first().map_or("x86_64", |found| found.as_str()).to_owned(),
            memory: found.memory_size.unwrap_or_default(),
            timeout: found.timeout.unwrap_or_default(),
            size: found.code_size(),
            changed: found.last_modified.unwrap_or_default(),
            name,
        }))
    }

    async fn queue(&self, role: &str, url: &str) -> Result<Queue, Error> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let asked = self.sqs.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec()));
        let found = asked.send().await.map_err(|error| said("sqs:GetQueueAttributes", error))?;
        let number = |name: &QueueAttributeName| {
            let value = found.attributes().and_then(|all| all.get(name));
            value.and_then(|value| value.parse().ok()).unwrap_or_default()
        };
        Ok(Queue {
            role: role.to_owned(),
            waiting: number(&names[0]),
            in_flight: number(&names[1]),
            delayed: number(&names[2]),
        })
    }

    /// How many functions the account may run at once in this region. Not to know it is no fault: who looks at a stack need
    /// not be allowed to look at the account.
    pub async fn account_concurrency(&self) -> Option<i32> {
        let settings = self.lambda.get_account_settings().send().await.ok()?;
        settings.account_limit().map(aws_sdk_lambda::types::AccountLimit::concurrent_executions)
    }

    /// The lines of these logs that were not read yet, oldest first.
    ///
    /// # Errors
    /// [`Error::Missing`] when there are no such logs; when AWS refuses or does not answer.
    pub async fn lines(
        &self,
        logs: &[&'static str],
        pattern: Option<&str>,
        reading: &mut Reading,
    ) -> Result<Vec<Line>, Error> {
        let pattern = pattern.map(quoted);
        let mut lines = Vec::new();
        let mut newest = reading.from;
        for log in logs {
            let group = match *log {
                "access" => format!("/aws/vendedlogs/lastframe/{}/access", self.name),
                log => format!("/lastframe/{}/{log}", self.name),
            };
            let mut next = None;
            loop {
                let asked = self.logs.filter_log_events().log_group_name(&group).start_time(reading.from);
                let asked = asked
                    .set_filter_pattern(pattern.as_deref().map(str::to_owned))
                    .set_next_token(next)
                    .send()
                    .await;
                let page = match asked.map_err(|error| said("logs:FilterLogEvents", error)) {
                    Err(Error::Refused { code, .. }) if code == "ResourceNotFoundException" => {
                        return Err(self.missing());
                    }
                    page => page?,
                };
                for event in page.events.unwrap_or_default() {
                    let at = event.timestamp.unwrap_or_default();
                    newest = newest.max(at);
                    if reading.seen.insert(event.event_id.unwrap_or_default()) {
                        let text = event.message.unwrap_or_default().trim_end().to_owned();
                        lines.push(Line { at, log, text });
                    }
                }
                next = page.next_token;
                if next.is_none() {
                    break;
                }
            }
        }
        // Lines come late, and not in their order: the last minute is looked at again.
        reading.from = reading.from.max(newest - 60_000);
        lines.sort_by_key(|line| line.at);
        Ok(lines)
    }
}

/// Renders at once by the render function; `None` when it takes none.
#[must_use]
pub fn maximum_concurrency(parameters: &Parameters) -> Option<u32> {
    let is = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    let renders = is("RenderOnLambda") == "yes" && !is("RemotionFunction").is_empty();
    if renders { is("MaximumConcurrency").parse().ok() } else { None }
}

/// What to do where an account may run so few functions that renders at once would wait for room that they take themselves.
#[must_use]
pub fn lack_of_room(account: i32, at_once: Option<u32>) -> Option<String> {
    let at_once = i32::try_from(at_once?).unwrap_or(i32::MAX);
    if account < 1 {
        return None;
    }
    let fit = ((account - BESIDE) / OF_A_RENDER).max(LEAST);
    let ask = "ask for more under Service Quotas, Lambda";
    if at_once > fit {
        return Some(format!(
            "the account may run {account} functions at once, and each of {at_once} renders takes {OF_A_RENDER} or more: they would wait for \
             room that they take themselves. `lastframe aws deploy -p MaximumConcurrency={fit}`, and {ask}"
        ));
    }
    (account < FEW).then(|| {
        format!(
            "the account may run {account} functions at once, and one render can take more: say `framesPerLambda`, so that it takes fewer, and {ask}"
        )
    })
}

/// A pattern as CloudWatch takes it. A word with a hyphen in it, such as the id of a render, must stand in quotes; a hyphen
/// before a word means lines without it.
fn quoted(pattern: &str) -> Cow<'_, str> {
    let is_word = pattern.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_word && pattern.contains('-') && !pattern.starts_with('-') {
        format!("\"{pattern}\"").into()
    } else {
        pattern.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_that_would_wait_for_themselves_are_too_many() {
        for (account, at_once, fit) in
            [(10, 10, "=2`"), (10, 3, "=2`"), (50, 20, "=12`"), (1_000, 500, "=249`"), (3, 5, "=2`")]
        {
            let said = lack_of_room(account, Some(at_once)).unwrap();
            assert!(said.contains(&format!("MaximumConcurrency{fit}")), "{account}, {at_once}: {said}");
        }
        assert!(lack_of_room(10, Some(2)).unwrap().contains("framesPerLambda"));
        for (account, at_once) in
            [(1_000, Some(10)), (1_000, Some(249)), (100, Some(10)), (10, None), (0, Some(10))]
        {
            assert_eq!(lack_of_room(account, at_once), None, "{account}, {at_once:?}");
        }
        let with = |function: &str, renders: &str| {
            maximum_concurrency(&Parameters::from([
                ("RemotionFunction".to_owned(), function.to_owned()),
                ("RenderOnLambda".to_owned(), renders.to_owned()),
                ("MaximumConcurrency".to_owned(), "7".to_owned()),
            ]))
        };
        assert_eq!((with("f", "yes"), with("f", "no"), with("", "yes")), (Some(7), None, None));
    }

    #[test]
    fn the_id_of_a_render_is_a_pattern_and_what_is_one_already_stays_as_it_is() {
        let id = "0198f3a4-7c1e-7b52-9d0e-3f6a1c2b4d5e";
        assert_eq!(quoted(id), format!("\"{id}\""));
        for pattern in
            ["ERROR", "-DEBUG", "\"a-b\"", "{ $.level = \"ERROR\" }", "?a-b ?c-d", "%a-b%", "a-b c", ""]
        {
            assert_eq!(quoted(pattern), pattern);
        }
    }
}
