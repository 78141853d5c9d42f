//! Lastframe, composed: the queue of `lastframe-store`, the worker of `lastframe-worker`, an HTTP API over both, and
//! the commands.
//!
//! [`app::App::start`] is the server on one page; [`http`] is the API; [`commands`] is what a person types.

pub mod app;
mod audit;
mod client;
#[cfg(feature = "aws")]
pub mod cloud;
pub mod commands;
pub mod config;
mod data;
mod digest;
pub mod encryption;
mod exit;
#[cfg(feature = "stack")]
mod fleet;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod identity;
#[cfg(feature = "aws")]
mod lambda;
#[cfg(not(feature = "aws"))]
#[path = "no_lambda.rs"]
mod lambda;
mod links;
mod listener;
mod live;
mod machine;
mod metrics;
mod notify;
mod outputs;
mod rate;
mod renderers;
mod retention;
mod sites;
mod space;
mod telemetry;
mod tls;
