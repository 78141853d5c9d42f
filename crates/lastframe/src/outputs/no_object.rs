//! In the place of `object`, where this program is built without S3.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use axum::body::Bytes;
use lastframe_core::ports::{OutputBytes, Queue};
use lastframe_core::{Output, RenderId};

use crate::config::Storage;

/// Why new outputs cannot go where they should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {}

impl Unfit {
    pub(crate) fn may_pass(&self) -> bool {
        match *self {}
    }
}

/// None.
#[derive(Debug)]
pub(super) struct Buckets;

impl Buckets {
    pub(super) fn open(storage: &Storage) -> io::Result<Self> {
        if storage.place.is_some() { Err(unknown()) } else { Ok(Self) }
    }

    pub(super) fn key(&self, _: &str) -> Option<String> {
        None
    }

    pub(super) async fn probe(&self) -> Result<(), Unfit> {
        Ok(())
    }

    pub(super) async fn put(&self, _: &Output, _: &str, _: &Path) -> io::Result<()> {
        Err(unknown())
    }

    pub(super) async fn read(&self, _: &str, _: Range<u64>) -> io::Result<Option<OutputBytes>> {
        Err(unknown())
    }

    pub(super) async fn link(&self, _: &Output, _: &str, _: Duration) -> io::Result<Option<String>> {
        Err(unknown())
    }

    pub(super) async fn delete(&self, _: &str) -> io::Result<()> {
        Err(unknown())
    }

    pub(super) async fn put_poster(&self, _: &str, _: &Path) -> io::Result<()> {
        Err(unknown())
    }

    pub(super) async fn whole(&self, _: &str) -> io::Result<Option<Bytes>> {
        Err(unknown())
    }

    pub(super) async fn sweep(&self, _: &dyn Queue, _: Option<RenderId>) -> io::Result<usize> {
        Ok(0)
    }

    pub(super) async fn examine(&self, _: &Output) -> io::Result<Option<String>> {
        Err(unknown())
    }
}

fn unknown() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this program was built without its feature `s3`, and knows no `s3://`",
    )
}
