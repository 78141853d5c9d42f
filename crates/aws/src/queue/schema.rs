//! The table: what its items are called, and which indexes it has.
//!
//! Everything is in one table. An item is found by `pk` and `sk`; five sparse indexes find items by other things, each by a
//! pair of attributes that an item has only while it should be found there. All of these are text, numbers in them have
//! leading zeros.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use aws_sdk_sqs::types::QueueAttributeName;
use lastframe_core::outbox::DeliveryStatus;
use lastframe_core::percent::encode;
use lastframe_core::ports::QueueError;
use lastframe_core::{RenderId, Status, TenantId};

use super::table::{Key, fault, storage};

/// An index of the table, with all text keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: &'static str,
    /// The attribute that says in which list an item stands.
    pub partition: &'static str,
    /// The attribute that says where in that list.
    pub sort: &'static str,
    /// What can be read from it beside all keys.
    pub include: &'static [&'static str],
}

/// What a search looks at. None of it ever changes, so that these indexes are not written when a render goes on.
const FIND: &[&str] = &["id", "fc", "fg", "sv"];

/// Renders of a tenant, its groups that have something to do, its deliveries.
pub(super) const LISTED: Index = Index { name: "listed", partition: "lp", sort: "ls", include: FIND };
/// Renders and deliveries of a tenant by how far they are.
pub(super) const STATUS: Index = Index { name: "status", partition: "sp", sort: "ss", include: FIND };
/// Renders of a group; what a tenant could have claimed now.
pub(super) const GROUPED: Index = Index { name: "grouped", partition: "gp", sort: "gs", include: FIND };
/// What is to happen at a time.
pub(super) const DUE: Index = Index {
    name: "due",
    partition: "dp",
    sort: "ds",
    include: &["id", "seq", "tenant", "since", "worker", "channel", "endpoint"],
};
/// Renders by when they ended.
pub(super) const ENDED: Index = Index { name: "ended", partition: "ep", sort: "es", include: &[] };

/// All indexes.
pub const INDEXES: [Index; 5] = [LISTED, STATUS, GROUPED, DUE, ENDED];
/// What the table finds items by.
pub const KEY: (&str, &str) = ("pk", "sk");
/// The attribute with the second since 1970 when an item may go.
pub const EXPIRES: &str = "expires";

/// Into so many parts a list of the whole queue is divided, because one of them takes a thousand writes a second.
pub(super) const PARTS: u32 = 4;
/// So many counters a tenant has of each sort, because two transactions cannot write to one at a time.
pub(super) const COUNTERS: u32 = 32;

/// A number as it stands in a key.
pub(super) fn padded(number: i64) -> String {
    format!("{:019}", number.max(0))
}

/// The part of a list that this item stands in.
pub(super) fn part(list: &str, pk: &str) -> String {
    format!("{list}/{}", crate::queue::table::hash(pk) % u64::from(PARTS))
}

/// All parts of a list.
pub(super) fn parts(list: &str) -> impl Iterator<Item = String> {
    (0..PARTS).map(move |part| format!("{list}/{part}"))
}

pub(super) fn render(id: RenderId) -> Key {
    Key::new(format!("render/{id}"), "render")
}

/// Something else of that render: `request`, `checkpoint`, `attempt/NUMBER`.
pub(super) fn of_render(id: RenderId, what: impl Into<String>) -> Key {
    Key::new(format!("render/{id}"), what)
}

pub(super) fn attempt(id: RenderId, number: u32) -> Key {
    of_render(id, format!("attempt/{number:09}"))
}

pub(super) fn lane(tenant: &TenantId, group: &str) -> Key {
    Key::new(format!("lane/{}/{}", encode(tenant.as_str()), encode(group)), "lane")
}

/// A render that waits in a lane.
pub(super) fn waiting(lane: &Key, seq: i64) -> Key {
    Key::new(lane.pk.clone(), format!("waits/{}", padded(seq)))
}

pub(super) fn control() -> Key {
    Key::new("control", "queue")
}

pub(super) fn tenant(tenant: &TenantId) -> Key {
    Key::new("tenants", tenant.as_str())
}

pub(super) fn notices(tenant: &TenantId) -> Key {
    Key::new(format!("tenant/{}", encode(tenant.as_str())), "notices")
}

pub(super) fn idempotency(tenant: &TenantId, key: &str) -> Key {
    Key::new(format!("key/{}/{}", encode(tenant.as_str()), encode(key)), "key")
}

pub(super) fn site(tenant: &TenantId, name: &str) -> Key {
    Key::new(sites(tenant), format!("name/{}", encode(name)))
}

pub(super) fn site_version(tenant: &TenantId, name: &str, version: &str) -> Key {
    Key::new(sites(tenant), format!("version/{}/{}", encode(name), encode(version)))
}

/// That a site of some tenant has this version.
pub(super) fn version(version: &str, tenant: &TenantId, name: &str) -> Key {
    Key::new(format!("version/{}", encode(version)), format!("{}/{}", encode(tenant.as_str()), encode(name)))
}

pub(super) fn sites(tenant: &TenantId) -> String {
    format!("sites/{}", encode(tenant.as_str()))
}

pub(super) fn delivery(id: i64) -> Key {
    Key::new(format!("delivery/{}", padded(id)), "delivery")
}

/// The list of a tenant's renders, all or those in that state.
pub(super) fn renders(tenant: &TenantId, status: Option<Status>) -> String {
    let tenant = encode(tenant.as_str());
    status.map_or_else(|| format!("renders/{tenant}"), |status| format!("renders/{tenant}/{status}"))
}

/// The list of a tenant's deliveries, all or those that are so far.
pub(super) fn deliveries(tenant: &TenantId, status: Option<DeliveryStatus>) -> String {
    let tenant = encode(tenant.as_str());
    status.map_or_else(|| format!("deliveries/{tenant}"), |status| format!("deliveries/{tenant}/{status}"))
}

/// The list of a group's renders.
pub(super) fn renders_of(tenant: &TenantId, group: &str) -> String {
    format!("renders/{}/{}", encode(tenant.as_str()), encode(group))
}

/// The list of what a tenant could have claimed now.
pub(super) fn open(tenant: &TenantId) -> String {
    format!("open/{}", encode(tenant.as_str()))
}

/// The list of a tenant's groups.
pub(super) fn groups(tenant: &TenantId) -> String {
    format!("groups/{}", encode(tenant.as_str()))
}

/// The list of lanes whose rings came while their tenant was paused, or the whole queue.
pub(super) fn parked(tenant: Option<&TenantId>) -> String {
    tenant.map_or_else(|| "parked".into(), |tenant| format!("parked/{}", encode(tenant.as_str())))
}

/// One of the counters of a tenant's renders.
pub(super) fn counts(tenant: &TenantId, counter: u32) -> Key {
    Key::new(format!("counts/{}", counter % PARTS), format!("{}/{counter}", encode(tenant.as_str())))
}

/// One of the counters of all deliveries.
pub(super) fn delivery_counts(counter: u32) -> Key {
    Key::new("counts of deliveries", counter.to_string())
}

/// The counters of a tenant's hours.
pub(super) fn hours(tenant: &TenantId) -> String {
    format!("hours/{}", encode(tenant.as_str()))
}

/// The list of pauses that have ended while lanes are still to be rung for.
pub(super) const RESUMING: &str = "resuming";

/// That the lanes of a tenant, or of all, are to be rung for.
pub(super) fn resuming(tenant: Option<&TenantId>) -> Key {
    Key::new(
        RESUMING,
        tenant.map_or_else(|| "queue".into(), |tenant| format!("tenant/{}", encode(tenant.as_str()))),
    )
}

/// A person, by their address.
pub(super) fn user(email: &str) -> Key {
    Key::new("users", email)
}

/// The address of the person of that id.
pub(super) fn user_id(id: &str) -> Key {
    Key::new(format!("user/{}", encode(id)), "user")
}

pub(super) fn session(id: &str) -> Key {
    Key::new(format!("session/{}", encode(id)), "session")
}

pub(super) fn token(id: &str) -> Key {
    Key::new("tokens", id)
}

pub(super) fn secret(name: &str) -> Key {
    Key::new("secrets", name)
}

/// The queues of a stand-in for AWS.
#[derive(Clone, Debug)]
pub struct Queues {
    /// Of rings.
    pub queue_url: String,
    /// Of letters, and of rings that nobody could handle.
    pub dead_letters_url: String,
    /// Of what has to wait.
    pub timers_url: String,
}

/// Makes the table and the queues on a stand-in for AWS, as the stack's template makes them at AWS itself.
///
/// # Errors
/// What the stand-in said.
pub async fn create(sdk: &SdkConfig, table: &str) -> Result<Queues, QueueError> {
    let db = aws_sdk_dynamodb::Client::new(sdk);
    let text = |name: &str| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build()
    };
    let keys = |partition: &str, sort: &str| -> Result<Vec<KeySchemaElement>, QueueError> {
        [(partition, KeyType::Hash), (sort, KeyType::Range)]
            .into_iter()
            .map(|(name, kind)| {
                KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(storage)
            })
            .collect()
    };
    let mut request = db
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(keys(KEY.0, KEY.1)?));
    for name in
        [KEY.0, KEY.1].into_iter().chain(INDEXES.iter().flat_map(|index| [index.partition, index.sort]))
    {
        request = request.attribute_definitions(text(name).map_err(storage)?);
    }
    for index in INDEXES {
        let projection = if index.include.is_empty() {
            Projection::builder().projection_type(ProjectionType::KeysOnly)
        } else {
            let include = index.include.iter().map(|&name| name.to_owned()).collect();
            Projection::builder()
                .projection_type(ProjectionType::Include)
                .set_non_key_attributes(Some(include))
        };
        let index = GlobalSecondaryIndex::builder()
            .index_name(index.name)
            .set_key_schema(Some(keys(index.partition, index.sort)?))
            .projection(projection.build())
            .build();
        request = request.global_secondary_indexes(index.map_err(storage)?);
    }
    request.send().await.map_err(fault)?;

    let sqs = aws_sdk_sqs::Client::new(sdk);
    let make = async |name: String, attributes: &[(QueueAttributeName, &str)]| {
        let mut request = sqs.create_queue().queue_name(&name);
        for (attribute, value) in attributes {
            request = request.attributes(attribute.clone(), *value);
        }
        let made = request.send().await.map_err(fault)?;
        made.queue_url.ok_or_else(|| storage(format!("queue {name} has no URL")))
    };
    let fifo = [(QueueAttributeName::FifoQueue, "true")];
    Ok(Queues {
        queue_url: make(format!("{table}.fifo"), &fifo).await?,
        dead_letters_url: make(format!("{table}-dead.fifo"), &fifo).await?,
        timers_url: make(format!("{table}-timers"), &[]).await?,
    })
}
