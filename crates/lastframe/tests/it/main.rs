//! The promises of the whole program, on a real server with a real browser, over HTTP alone.

mod api;
mod codecs;
mod demo;
mod faults;
mod order;
mod server;
mod shutdown;
mod sidecar;
