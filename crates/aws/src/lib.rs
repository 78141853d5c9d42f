//! Lastframe on AWS: the only room that knows an AWS SDK.
//!
//! [`render`] makes videos on Remotion Lambda, behind the worker's port; [`outputs`] reaches what it has made, where it lies.

pub mod outputs;
pub mod render;
