//! The functions, with events as AWS sends them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]
#![expect(clippy::disallowed_methods, reason = "what stands for Lambda has the time of the machine")]

mod gateway;
mod ministack;
mod notices;
mod rings;
mod tending;
mod world;
