//! Secrets stand outside the configuration: it only says where.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::ConfigError;

/// `env:NAME` or `file:PATH`.
#[derive(Clone)]
pub(crate) enum SecretRef {
    Env(String),
    File(String),
}

impl SecretRef {
    /// Reads the secret; `key` is the configuration key it is for.
    #[allow(clippy::disallowed_methods, reason = "this is where the configuration reads the environment")]
    pub(crate) fn resolve(&self, key: &str) -> Result<String, ConfigError> {
        let secret = match self {
            Self::Env(name) => std::env::var(name)
                .map_err(|_| ConfigError::new(key, format!("the environment has no {name}")))?,
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|error| ConfigError::new(key, format!("cannot read {path}: {error}")))?,
        };
        let secret = secret.trim_end_matches(['\r', '\n']).to_owned();
        if secret.is_empty() {
            return Err(ConfigError::new(key, format!("{self:?} is empty")));
        }
        Ok(secret)
    }
}

/// What the environment says of a configuration key that names a secret: `admin.token` as
/// `TALLY_ADMIN_TOKEN`, which is the secret itself unless it names another place.
#[allow(clippy::disallowed_methods, reason = "this is where the configuration reads the environment")]
pub(super) fn from_environment(key: &str) -> Option<String> {
    let name = format!("TALLY_{}", key.replace('.', "_").to_ascii_uppercase());
    let value = std::env::var(&name).ok()?;
    Some(if value.parse::<SecretRef>().is_ok() { value } else { format!("env:{name}") })
}

impl FromStr for SecretRef {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.to_owned())),
            // The text may be the secret itself: it is not repeated.
            _ => Err("a secret is named as \"env:NAME\" or \"file:PATH\", never written down here"),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
