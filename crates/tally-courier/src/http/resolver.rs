//! Names to addresses, without those that are not public: what is checked is what is connected to.
//!
//! Not here: literal addresses, which never meet a resolver.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::public::is_public;

/// The system's resolver behind a filter.
pub(super) struct PublicResolver {
    pub(super) allow_private: bool,
}

/// A name that leads only to addresses that are not public.
#[derive(Debug)]
pub(super) struct NotPublic(pub(super) Vec<IpAddr>);

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it leads to ")?;
        for (place, address) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            address.fmt(f)?;
        }
        f.write_str(", which is not a public address")
    }
}

impl std::error::Error for NotPublic {}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (public, other): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|address| allow_private || is_public(address.ip()));
            if public.is_empty() && !other.is_empty() {
                return Err(NotPublic(other.iter().map(SocketAddr::ip).collect()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}
