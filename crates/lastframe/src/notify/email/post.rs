//! Handing a mail over to whoever brings it.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use lettre::Address;

/// Why a mail was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It will never be taken for this recipient.
    #[error("{said}")]
    Refused {
        /// Of the answer; absent where nobody was even asked.
        code: Option<u16>,
        /// What was said, for whoever the render belongs to.
        said: String,
    },
    /// It may be taken later, or once somebody has put the settings right.
    #[error("{said}")]
    Passing {
        /// Of the answer, if there was one.
        code: Option<u16>,
        /// What was said, for whoever the render belongs to.
        said: String,
    },
}

/// Takes mails.
#[async_trait]
pub trait Post: Debug + Send + Sync {
    /// Hands a mail over. When this returns, the other side has it and answers for it; it gives what that said. A mail whose
    /// taker went silent may be sent although this says that it was not.
    ///
    /// # Errors
    /// Why it was not taken.
    async fn send(&self, from: &Address, to: &Address, mail: &[u8]) -> Result<u16, Fault>;
}

#[async_trait]
impl Post for Arc<dyn Post> {
    async fn send(&self, from: &Address, to: &Address, mail: &[u8]) -> Result<u16, Fault> {
        self.as_ref().send(from, to, mail).await
    }
}
