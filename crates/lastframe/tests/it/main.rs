//! The promises of the whole program, on a real server with a real browser, over HTTP alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod api;
mod codecs;
mod control;
mod database;
mod demo;
mod faults;
mod identity;
mod order;
mod projects;
mod server;
mod shutdown;
mod sidecar;
mod sites;
