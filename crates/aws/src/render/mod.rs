//! The renderer on Remotion Lambda.
//!
//! [`LambdaRenderer`] turns a job into a run; `course` is one attempt from top to bottom, `trace` what the next attempt
//! must know of it, `fleet` the functions there are, `remote` what is asked of AWS and `client` how, `sites` brings
//! bundles to the bucket, `cause` explains what went wrong.

mod cause;
mod course;
mod fleet;
mod remote;
mod run;
#[cfg(test)]
mod tests;
mod trace;

pub(crate) use self::trace::Address;
pub use self::trace::is_on_lambda;
