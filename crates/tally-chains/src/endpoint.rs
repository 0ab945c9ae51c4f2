//! A node's address and how to sign in to it, read from the settings.
//!
//! Not here: connections.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;
use tally_ports::PortError;

use crate::settings::{ChainSettings, EndpointSettings, Secret};

/// Where a node is.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) url: Url,
    pub(crate) auth: Auth,
    label: String,
    authority: String,
    loopback: bool,
}

/// How to sign in.
#[derive(Clone)]
pub(crate) enum Auth {
    None,
    Basic { user: String, password: Secret },
    Cookie(PathBuf),
}

impl Endpoint {
    /// The node's name in messages: scheme, host and port, since a path or a query may hold a key.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The node's name in metrics: host and port.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether the node is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.loopback
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// The chain's endpoints, at least one. `schemes` are those that its transport speaks.
pub(crate) fn endpoints(settings: &ChainSettings, schemes: &[&str]) -> Result<Vec<Endpoint>, PortError> {
    if settings.rpc.is_empty() {
        return Err(settings.refuse("rpc names no node"));
    }
    let read = |(index, one)| endpoint(one, schemes).map_err(|why| refuse_one(settings, index, &why));
    settings.rpc.iter().enumerate().map(read).collect()
}

fn refuse_one(settings: &ChainSettings, index: usize, why: &str) -> PortError {
    settings.refuse(format_args!("rpc[{index}]: {why}"))
}

fn endpoint(settings: &EndpointSettings, schemes: &[&str]) -> Result<Endpoint, String> {
    let url = Url::parse(&settings.url).map_err(|error| format!("url is not a URL ({error})"))?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("url begins with {}://, not with {}://", url.scheme(), schemes.join(":// or ")));
    }
    let Some(host) = url.host_str().map(str::to_owned) else {
        return Err("url names no host".to_owned());
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("url holds a user or password; they belong into user and password".to_owned());
    }
    let label = match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    };
    let authority = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    Ok(Endpoint { url, auth: auth(settings)?, label, authority, loopback })
}

fn auth(settings: &EndpointSettings) -> Result<Auth, String> {
    match (&settings.user, &settings.password, &settings.cookie) {
        (None, None, None) => Ok(Auth::None),
        (None, None, Some(path)) => Ok(Auth::Cookie(path.clone())),
        (Some(user), password, None) if !user.contains(':') => {
            let password = password.clone().unwrap_or_else(|| Secret::from(String::new()));
            Ok(Auth::Basic { user: user.clone(), password })
        }
        (Some(_), _, None) => Err("user contains a colon".to_owned()),
        (None, Some(_), None) => Err("password without user".to_owned()),
        (_, _, Some(_)) => Err("cookie stands beside user or password; it replaces both".to_owned()),
    }
}

#[cfg(test)]
mod tests;
