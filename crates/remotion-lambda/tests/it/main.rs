//! The crate against the official clients, request by request, and against something that speaks like S3.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod capture;
mod cases;
mod conformance;
mod differences;
mod environment;
mod failures;
mod ministack;
mod ours;
mod storage;
