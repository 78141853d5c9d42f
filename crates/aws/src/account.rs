//! AWS accounts, and what speaks with them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use remotion_lambda::Client;
use tokio::sync::Mutex;

/// Clients of Remotion Lambda, one for each account and region that is asked for.
///
/// An account is a number: its keys are `AWS_KEY_1` and `AWS_SECRET_1`, `AWS_KEY_2` and so on, as in Remotion's guide. What
/// has no number has the credentials that Remotion itself would find: `REMOTION_AWS_*`, `AWS_*`, a profile, a role.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    clients: Arc<Mutex<Clients>>,
}

/// By the account's number and the region.
type Clients = HashMap<(Option<u32>, String), Client>;

impl Accounts {
    /// Those of the environment. Nothing is asked of AWS before something is needed.
    #[must_use]
    pub fn of_environment() -> Self {
        Self::default()
    }

    /// Whether the keys of an account are there.
    ///
    /// # Errors
    /// `InvalidInput`, with the names of the variables that it lacks.
    pub fn check(account: Option<u32>) -> io::Result<()> {
        account.map_or(Ok(()), |account| keys(account).map(drop))
    }

    pub(crate) async fn client(&self, account: Option<u32>, region: &str) -> io::Result<Client> {
        let mut clients = self.clients.lock().await;
        let key = (account, region.to_owned());
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = match account {
            None => Client::from_env(region).await,
            Some(account) => {
                let config = aws_config::defaults(BehaviorVersion::latest())
                    .region(Region::new(region.to_owned()))
                    .credentials_provider(keys(account)?)
                    .load()
                    .await;
                Client::new(&config).map_err(|error| crate::fault(&error))?
            }
        };
        clients.insert(key, client.clone());
        Ok(client)
    }
}

fn keys(account: u32) -> io::Result<Credentials> {
    let names = [format!("AWS_KEY_{account}"), format!("AWS_SECRET_{account}")];
    let values = names.each_ref().map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    match values {
        [Some(id), Some(secret)] => Ok(Credentials::new(id, secret, None, None, "numbered keys")),
        _ => {
            let [id, secret] = names;
            let message = format!("account {account} needs {id} and {secret} in the environment");
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
    }
}
