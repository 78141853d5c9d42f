//! Asking DynamoDB: reads that see every write before them, searches in indexes, and errors that say whether to look again.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, Select};
use lastframe_core::error_chain;
use lastframe_core::ports::QueueError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::schema::Index;

/// An item as DynamoDB has it.
pub(super) type Item = HashMap<String, AttributeValue>;

/// Goes at a transaction before the queue is said to be busy.
const TRIES: u32 = 12;
/// Items of one question, as DynamoDB takes them.
const AT_A_TIME: usize = 100;

/// The name of an item.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) pk: String,
    pub(super) sk: String,
}

impl Key {
    pub(super) fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: sk.into() }
    }

    pub(super) fn of(item: &Item) -> Result<Self, QueueError> {
        Ok(Self::new(text(item, "pk")?, text(item, "sk")?))
    }

    pub(super) fn item(&self) -> Item {
        [("pk", &self.pk), ("sk", &self.sk)].map(|(name, value)| (name.to_owned(), s(value.clone()))).into()
    }
}

pub(super) fn s(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn n(value: impl ToString + Copy) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// An attribute that must be there.
pub(super) fn text<'a>(item: &'a Item, name: &str) -> Result<&'a str, QueueError> {
    let value = item.get(name).and_then(|value| value.as_s().ok());
    value.map(String::as_str).ok_or_else(|| storage(format!("an item has no {name}")))
}

/// An attribute that must be there.
pub(super) fn number<T: std::str::FromStr>(item: &Item, name: &str) -> Result<T, QueueError> {
    let value = item.get(name).and_then(|value| value.as_n().ok()?.parse().ok());
    value.ok_or_else(|| storage(format!("an item has no {name}")))
}

/// The item of that key with what `row` has, as far as it has it.
pub(super) fn to_item(key: &Key, row: &impl Serialize) -> Result<Item, QueueError> {
    let mut item: Item = serde_dynamo::to_item(row).map_err(storage)?;
    item.retain(|_, value| !matches!(value, AttributeValue::Null(_)));
    item.extend(key.item());
    Ok(item)
}

pub(super) fn from_item<T: DeserializeOwned>(item: Item) -> Result<T, QueueError> {
    serde_dynamo::from_item(item).map_err(storage)
}

/// The SHA-256 of a text.
pub(super) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// A number for a text, the same everywhere.
pub(super) fn hash(text: &str) -> u64 {
    digest(text).iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

pub(super) fn storage(why: impl Into<Box<dyn Error + Send + Sync>>) -> QueueError {
    QueueError::Storage(why.into())
}

/// Why a go at something came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Somebody else was faster, or DynamoDB wants it slower: look again.
    Again,
    Fault(QueueError),
}

impl From<QueueError> for Trouble {
    fn from(error: QueueError) -> Self {
        Self::Fault(error)
    }
}

/// What AWS said. Its code and its words, and nothing of what was sent or got: that may be secret.
#[expect(clippy::needless_pass_by_value, reason = "it stands where errors are mapped")]
pub(super) fn fault<E, R>(error: SdkError<E, R>) -> QueueError
where
    SdkError<E, R>: Error + ProvideErrorMetadata + 'static,
{
    if let Some(code) = error.code() {
        if throttled(code) {
            tracing::warn!(code, "AWS wants it slower");
            return QueueError::Busy;
        }
        let words: String = error.message().unwrap_or_default().chars().take(300).collect();
        return storage(format!("{code}: {words}"));
    }
    storage(error_chain(&error))
}

/// The same, where it may be that one has only to look again.
pub(super) fn trouble<E, R>(error: SdkError<E, R>) -> Trouble
where
    SdkError<E, R>: Error + ProvideErrorMetadata + 'static,
{
    match error.code() {
        Some(code) if passes(code) => Trouble::Again,
        _ => Trouble::Fault(fault(error)),
    }
}

/// Whether this error says that another go may work.
fn passes(code: &str) -> bool {
    throttled(code)
        || matches!(
            code,
            "ConditionalCheckFailed"
                | "ConditionalCheckFailedException"
                | "TransactionConflict"
                | "TransactionConflictException"
                | "TransactionInProgressException"
        )
}

/// Whether this error says that nothing was done because there was too much to do.
fn throttled(code: &str) -> bool {
    matches!(
        code,
        "ThrottlingError"
            | "ThrottlingException"
            | "ProvisionedThroughputExceeded"
            | "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded"
            // Of SQS, and of the bucket.
            | "RequestThrottled"
            | "KmsThrottled"
            | "SlowDown"
    )
}

/// Whether it was the condition of a write of one item that did not hold.
pub(super) fn condition_failed<E, R>(error: &SdkError<E, R>) -> bool
where
    SdkError<E, R>: ProvideErrorMetadata,
{
    error.code() == Some("ConditionalCheckFailedException")
}

/// Why a transaction was not made.
pub(super) fn cancelled<R: std::fmt::Debug + 'static>(
    error: SdkError<TransactWriteItemsError, R>,
) -> Trouble {
    if let Some(TransactWriteItemsError::TransactionCanceledException(why)) = error.as_service_error() {
        let mut codes = why.cancellation_reasons().iter().filter_map(|reason| reason.code());
        if codes.all(|code| code == "None" || passes(code)) {
            return Trouble::Again;
        }
    }
    trouble(error)
}

/// Tries until it works, it is clear that it never will, or it has been tried often enough.
pub(super) async fn retrying<T, F>(mut go: impl FnMut() -> F) -> Result<T, QueueError>
where
    F: Future<Output = Result<T, Trouble>>,
{
    for tried in 0..TRIES {
        match go().await {
            Ok(done) => return Ok(done),
            Err(Trouble::Fault(error)) => return Err(error),
            Err(Trouble::Again) => {
                let most = (10_u64 << tried).min(500);
                // Those who met here must not meet again.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=most))).await;
            }
        }
    }
    Err(QueueError::Busy)
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) client: Client,
    pub(super) name: String,
}

/// A search in one list of an index, or of the table.
#[derive(Clone, Debug)]
pub(super) struct Search {
    index: Option<Index>,
    partition: String,
    /// The condition on the sort key, with what it says.
    range: Option<(&'static str, Vec<String>)>,
    backwards: bool,
    limit: Option<i32>,
    filter: Option<(&'static str, Vec<AttributeValue>)>,
}

impl Search {
    pub(super) fn index(index: Index, partition: impl Into<String>) -> Self {
        let partition = partition.into();
        Self { index: Some(index), partition, range: None, backwards: false, limit: None, filter: None }
    }

    pub(super) fn table(partition: impl Into<String>) -> Self {
        let partition = partition.into();
        Self { index: None, partition, range: None, backwards: false, limit: None, filter: None }
    }

    fn range(mut self, condition: &'static str, values: Vec<String>) -> Self {
        self.range = Some((condition, values));
        self
    }

    pub(super) fn below(self, end: impl Into<String>) -> Self {
        self.range("#s < :s0", vec![end.into()])
    }

    pub(super) fn up_to(self, last: impl Into<String>) -> Self {
        self.range("#s <= :s0", vec![last.into()])
    }

    pub(super) fn above(self, start: impl Into<String>) -> Self {
        self.range("#s > :s0", vec![start.into()])
    }

    pub(super) fn between(self, first: impl Into<String>, last: impl Into<String>) -> Self {
        self.range("#s BETWEEN :s0 AND :s1", vec![first.into(), last.into()])
    }

    pub(super) fn beginning(self, with: impl Into<String>) -> Self {
        self.range("begins_with(#s, :s0)", vec![with.into()])
    }

    pub(super) fn backwards(mut self) -> Self {
        self.backwards = true;
        self
    }

    /// At most so many on a page.
    pub(super) fn page(mut self, limit: usize) -> Self {
        self.limit = Some(i32::try_from(limit.clamp(1, 1_000)).unwrap_or(1_000));
        self
    }

    /// Only those of which that holds, with values `:f0`, `:f1` and so on.
    pub(super) fn only(mut self, filter: &'static str, values: Vec<AttributeValue>) -> Self {
        self.filter = Some((filter, values));
        self
    }
}

/// A page of what was found, and where the next one begins.
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    pub(super) count: i32,
    pub(super) next: Option<Item>,
}

impl Table {
    /// The item as it is now.
    pub(super) async fn get(&self, key: &Key) -> Result<Option<Item>, QueueError> {
        let asked =
            self.client.get_item().table_name(&self.name).set_key(Some(key.item())).consistent_read(true);
        Ok(asked.send().await.map_err(fault)?.item)
    }

    pub(super) async fn row<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, QueueError> {
        self.get(key).await?.map(from_item).transpose()
    }

    /// Those of the items that are there, as they are now.
    pub(super) async fn get_all(&self, keys: &[Key]) -> Result<HashMap<Key, Item>, QueueError> {
        let mut found = HashMap::new();
        for keys in keys.chunks(AT_A_TIME) {
            let mut left: Vec<Item> = keys.iter().map(Key::item).collect();
            for tried in 0..TRIES {
                if left.is_empty() {
                    break;
                }
                if tried > 0 {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=10_u64 << tried.min(6))))
                        .await;
                }
                let wanted = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
                let asked = self.client.batch_get_item().request_items(&self.name, wanted.map_err(storage)?);
                let answer = asked.send().await.map_err(fault)?;
                for item in answer.responses.unwrap_or_default().remove(&self.name).unwrap_or_default() {
                    found.insert(Key::of(&item)?, item);
                }
                let unprocessed = answer.unprocessed_keys.unwrap_or_default().remove(&self.name);
                left = unprocessed.map(|keys| keys.keys).unwrap_or_default();
            }
            if !left.is_empty() {
                return Err(QueueError::Busy);
            }
        }
        Ok(found)
    }

    /// Writes an item unless there is one of its key; whether it was written.
    pub(super) async fn put_new(&self, item: Item) -> Result<bool, QueueError> {
        let put = self.client.put_item().table_name(&self.name).set_item(Some(item));
        match put.condition_expression("attribute_not_exists(pk)").send().await {
            Ok(_) => Ok(true),
            Err(error) if condition_failed(&error) => Ok(false),
            Err(error) => Err(fault(error)),
        }
    }

    async fn ask(&self, search: &Search, from: Option<Item>, count: bool) -> Result<Page, QueueError> {
        let (partition, sort) =
            search.index.map_or(super::schema::KEY, |index| (index.partition, index.sort));
        let mut query = self
            .client
            .query()
            .table_name(&self.name)
            .set_index_name(search.index.map(|index| index.name.to_owned()))
            // Only the table itself can be asked for what is true now.
            .consistent_read(search.index.is_none())
            .scan_index_forward(!search.backwards)
            .set_limit(search.limit)
            .set_exclusive_start_key(from)
            .expression_attribute_names("#p", partition)
            .expression_attribute_values(":p", s(search.partition.clone()));
        if count {
            query = query.select(Select::Count);
        }
        let mut condition = "#p = :p".to_owned();
        if let Some((range, values)) = &search.range {
            condition = format!("{condition} AND {range}");
            query = query.expression_attribute_names("#s", sort);
            for (index, value) in values.iter().enumerate() {
                query = query.expression_attribute_values(format!(":s{index}"), s(value.clone()));
            }
        }
        if let Some((filter, values)) = &search.filter {
            query = query.filter_expression(*filter);
            for (index, value) in values.iter().enumerate() {
                query = query.expression_attribute_values(format!(":f{index}"), value.clone());
            }
        }
        let answer = query.key_condition_expression(condition).send().await.map_err(fault)?;
        let next = answer.last_evaluated_key.filter(|key| !key.is_empty());
        Ok(Page { count: answer.count, items: answer.items.unwrap_or_default(), next })
    }

    /// One page of what is found, from there on.
    pub(super) async fn page(&self, search: &Search, from: Option<Item>) -> Result<Page, QueueError> {
        self.ask(search, from, false).await
    }

    /// All that is found, but no more than `most`.
    pub(super) async fn find(&self, search: Search, most: usize) -> Result<Vec<Item>, QueueError> {
        let (mut found, mut from) = (Vec::new(), None);
        let search = if search.filter.is_none() && most < 1_000 { search.page(most) } else { search };
        while found.len() < most {
            let page = self.page(&search, from).await?;
            found.extend(page.items);
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        found.truncate(most);
        Ok(found)
    }

    /// How many are found, counting no further than `most`.
    pub(super) async fn count(&self, search: Search, most: usize) -> Result<usize, QueueError> {
        let (mut counted, mut from) = (0, None);
        let search = search.page(most);
        while counted < most {
            let page = self.ask(&search, from, true).await?;
            counted += usize::try_from(page.count).unwrap_or(0);
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        Ok(counted.min(most))
    }

    /// Draws so many numbers that were never drawn before, greater than all that were; returns the first.
    pub(super) async fn draw(&self, counter: &str, count: usize) -> Result<i64, QueueError> {
        let drawn = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(Key::new("counter", counter).item()))
            .update_expression("ADD drawn :n")
            .expression_attribute_values(":n", n(count))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::UpdatedNew)
            .send()
            .await
            .map_err(fault)?;
        let last: i64 = number(&drawn.attributes.unwrap_or_default(), "drawn")?;
        Ok(last - i64::try_from(count).unwrap_or(0) + 1)
    }
}
