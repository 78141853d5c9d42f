//! Where webhooks may go. Whoever submits a render names a URL, and must not reach by it what only this server can.
//!
//! What counts is the address that is connected to, not what the name led to a moment before.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use lastframe_core::net::is_public;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

use crate::config::Webhooks;

/// Leads from names to addresses.
#[async_trait]
pub(super) trait Lookup: Debug + Send + Sync {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// As everything on this machine does it.
#[derive(Debug)]
pub(super) struct System;

#[async_trait]
impl Lookup for System {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// There is no address there that may be reached.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} is not on the public Internet; the server's administrator can allow it with `allow_hosts` or `allow_private` in \
     [webhook]"
)]
pub(super) struct NotPublic(String);

/// The rules.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub(super) rules: Arc<Webhooks>,
    pub(super) lookup: Arc<dyn Lookup>,
}

impl Reach {
    fn allows(&self, name: &str, address: IpAddr, port: u16) -> bool {
        is_public(address)
            || self.rules.allow_private
            || self.rules.allow_hosts.iter().any(|rule| rule.allows(name, address, port))
    }

    /// Refuses an address that stands in a URL itself: nothing resolves it.
    pub(super) fn check(&self, host: &Host<&str>, port: u16) -> Result<(), NotPublic> {
        let address = match host {
            Host::Domain(_) => return Ok(()),
            Host::Ipv4(address) => IpAddr::from(*address),
            Host::Ipv6(address) => IpAddr::from(*address),
        };
        if self.allows(&address.to_string(), address, port) {
            Ok(())
        } else {
            Err(NotPublic(host.to_string()))
        }
    }

    /// Resolves names for connections to that port.
    pub(super) fn at(&self, port: u16) -> Resolver {
        Resolver { reach: self.clone(), port }
    }
}

/// Gives only addresses that may be connected to.
pub(super) struct Resolver {
    reach: Reach,
    port: u16,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, port) = (self.reach.clone(), self.port);
        Box::pin(async move {
            let found = reach.lookup.lookup(name.as_str()).await?;
            let allowed = found.into_iter().filter(|address| reach.allows(name.as_str(), *address, port));
            let allowed: Vec<_> = allowed.map(|address| SocketAddr::new(address, port)).collect();
            if allowed.is_empty() {
                return Err(NotPublic(name.as_str().to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
