//! The functions, with events as AWS sends them.

mod gateway;
mod ministack;
mod notices;
mod rings;
mod tending;
mod world;
