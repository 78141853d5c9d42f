//! The queue on a stand-in for AWS as a subject of the contract, with a table, queues and a bucket of its own.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use aws_config::SdkConfig;
use lastframe_aws::queue::{AwsQueue, Options, schema};
use lastframe_core::conformance::{self, LEASE, RETRY, Subject};
use lastframe_core::outbox::Outbox;
use lastframe_core::ports::{Accounts, Directory, Queue};
use lastframe_core::{Limits, ManualClock};

use crate::stand_in::{Aws, sdk};

pub(crate) type World<A> = conformance::World<OnAws<A>>;

#[derive(Debug)]
pub(crate) struct OnAws<A> {
    pub(crate) sdk: SdkConfig,
    pub(crate) options: Options,
    pub(crate) queue: AwsQueue,
    stand_in: PhantomData<A>,
}

impl<A: Aws> OnAws<A> {
    /// The same queue, opened by another process, which may have been told something else.
    pub(crate) async fn another(&self, clock: &Arc<ManualClock>, options: Options) -> AwsQueue {
        AwsQueue::open(&self.sdk, options, Arc::clone(clock) as _, Arc::new(())).await.unwrap()
    }
}

#[async_trait]
impl<A: Aws> Subject for OnAws<A> {
    async fn new(clock: Arc<ManualClock>) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let table = format!("queue-{}", MADE.fetch_add(1, Ordering::Relaxed));
        let sdk = sdk::<A>().await;
        let queues = schema::create(&sdk, &table).await.unwrap();
        let s3 = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(true).build();
        aws_sdk_s3::Client::from_conf(s3).create_bucket().bucket(&table).send().await.unwrap();
        let options = Options {
            bucket: table.clone(),
            table,
            queue_url: queues.queue_url,
            dead_letters_url: Some(queues.dead_letters_url),
            timers_url: Some(queues.timers_url),
            lease: LEASE,
            retry: RETRY,
            limits: Limits::default(),
        };
        let queue = AwsQueue::open(&sdk, options.clone(), clock, Arc::new(())).await.unwrap();
        Self { sdk, options, queue, stand_in: PhantomData }
    }

    async fn reopen(&mut self, clock: Arc<ManualClock>, limits: Limits) {
        let options = Options { limits, ..self.options.clone() };
        self.queue = self.another(&clock, options).await;
    }

    async fn sweep(&self) {
        self.queue.sweep().await.unwrap();
    }

    fn queue(&self) -> &(dyn Queue + 'static) {
        &self.queue
    }

    fn directory(&self) -> &(dyn Directory + 'static) {
        &self.queue
    }

    fn accounts(&self) -> &(dyn Accounts + 'static) {
        &self.queue
    }

    fn outbox(&self) -> &(dyn Outbox + 'static) {
        &self.queue
    }
}
