//! Lastframe, composed: the queue of `lastframe-store`, the worker of `lastframe-worker`, an HTTP API over both, and
//! the commands.
//!
//! [`app::App::start`] is the server on one page; [`http`] is the API; [`commands`] is what a person types.

pub mod app;
mod client;
pub mod commands;
pub mod config;
mod data;
mod digest;
mod exit;
pub mod http;
pub mod identity;
mod links;
mod outputs;
mod retention;
mod sites;
mod space;
mod telemetry;
