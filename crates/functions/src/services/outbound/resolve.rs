//! Resolving names to addresses that may be asked.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::OutboundRules;

/// Asks the system.
#[derive(Debug)]
pub(in crate::services) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        }
        .boxed()
    }
}

/// Leaves out what the rules refuse.
///
/// The client connects to what this answers, so what was checked is what is asked, whatever the name resolves to
/// a moment later.
pub(in crate::services) struct GuardedResolver {
    pub(in crate::services) rules: Arc<OutboundRules>,
    pub(in crate::services) inner: Arc<dyn Resolve>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = Arc::clone(&self.rules);
        let host = name.as_str().to_owned();
        let found = self.inner.resolve(name);
        async move {
            let mut permitted = Vec::new();
            let mut refused = None;
            for address in found.await? {
                match rules.permits(&host, address.ip()) {
                    Ok(()) => permitted.push(address),
                    Err(reason) => refused = Some(reason),
                }
            }
            match refused {
                Some(refused) if permitted.is_empty() => Err(refused.into()),
                _ => Ok(Box::new(permitted.into_iter()) as Addrs),
            }
        }
        .boxed()
    }
}
