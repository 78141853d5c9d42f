//! The queue on AWS, held against what every queue promises, on two stand-ins for AWS that know nothing of each other; and
//! what only this queue has to promise.
//!
//! Where a stand-in differs from what AWS documents, the documentation counts: see the notes in `own`.
#![expect(clippy::unwrap_used, reason = "in a test, what must not happen is a failure of the test")]

mod ministack {
    lastframe_core::conformance!(crate::world::OnAws<crate::stand_in::MiniStack>);
}
mod moto {
    lastframe_core::conformance!(crate::world::OnAws<crate::stand_in::Moto>);
}
mod own;
mod peer;
mod stand_in;
mod world;
