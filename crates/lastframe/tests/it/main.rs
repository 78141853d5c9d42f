//! The promises of the whole program, on a real server with a real browser, over HTTP alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod api;
#[cfg(feature = "stack")]
mod aws;
#[cfg(feature = "stack")]
mod cloud;
mod codecs;
mod commands;
mod control;
mod dashboard;
mod database;
mod demo;
mod docs;
mod doctor;
mod email;
mod encryption;
mod events;
mod faults;
#[cfg(feature = "aws")]
mod function;
mod hardening;
mod identity;
mod issuers;
#[cfg(feature = "aws")]
mod lambda;
mod limits;
mod logs;
mod malformed;
mod metrics;
#[cfg(feature = "stack")]
mod network;
mod notices;
mod order;
mod peer;
mod projects;
mod s3;
mod sandbox;
mod server;
mod shutdown;
mod sidecar;
mod sites;
#[cfg(feature = "stack")]
mod stack;
mod storage;
mod upgrade;
mod webhooks;
#[cfg(feature = "stack")]
mod work;
