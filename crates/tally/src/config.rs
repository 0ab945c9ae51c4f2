//! The configuration: TOML, with the environment over it, parsed once into a form that proves it.
//!
//! Not here: opening anything that it names.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::Deserialize;
use tally_events::{Counts, CountsFrom, LatePolicy};
use tally_types::{BaseUnits, ChainId, Currency, Span};
use url::Url;

mod secret;
mod span;

pub(crate) use secret::SecretRef;
pub(crate) use span::parse as parse_span;

/// Why a configuration cannot be used: one line that names the key and the fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(key: &str, fault: impl std::fmt::Display) -> Self {
        Self(format!("configuration: {key}: {fault}"))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) public_url: Url,
    pub(crate) data_dir: PathBuf,
    #[serde(default)]
    pub(crate) log: LogConfig,
    #[serde(default)]
    pub(crate) publish: PublishConfig,
    pub(crate) secrets: SecretsConfig,
    #[serde(default)]
    pub(crate) http: HttpConfig,
    #[serde(default)]
    pub(crate) admin: AdminConfig,
    #[serde(default)]
    pub(crate) metrics: MetricsConfig,
    #[serde(default)]
    pub(crate) delivery: DeliveryConfig,
    #[serde(default)]
    pub(crate) orders: OrdersConfig,
    #[serde(default)]
    pub(crate) copy: CopyConfig,
    #[serde(default)]
    pub(crate) archive: ArchiveConfig,
    #[serde(default)]
    pub(crate) chain: Vec<ChainConfig>,
    #[serde(default)]
    pub(crate) rates: RatesConfig,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogKind {
    #[default]
    Embedded,
    Nats,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    pub(crate) kind: LogKind,
    #[serde(deserialize_with = "one_or_more")]
    pub(crate) url: Vec<String>,
    pub(crate) replicas: Option<usize>,
    pub(crate) credentials: Option<SecretRef>,
    pub(crate) tls: TlsConfig,
    /// Where each server answers monitoring requests, to verify what its acknowledgements mean.
    #[serde(deserialize_with = "one_or_more")]
    pub(crate) monitor: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TlsConfig {
    /// Whether plain connections are refused.
    pub(crate) required: bool,
    /// Certificates to trust, PEM.
    pub(crate) ca: Option<PathBuf>,
    /// Our own certificate, PEM.
    pub(crate) cert: Option<PathBuf>,
    /// Our own key, PEM.
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PublishConfig {
    pub(crate) nats: Option<String>,
    pub(crate) credentials: Option<SecretRef>,
    pub(crate) replicas: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretsConfig {
    pub(crate) master: SecretRef,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HttpConfig {
    pub(crate) listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8080)) }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AdminConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) token: Option<SecretRef>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8081)), token: None }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MetricsConfig {
    pub(crate) listen: SocketAddr,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DeliveryConfig {
    pub(crate) allow_private: bool,
}

/// The daily copy of every fact.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CopyConfig {
    pub(crate) enabled: bool,
    /// Another folder than `copy` in the data folder: on another disk, best.
    pub(crate) dir: Option<PathBuf>,
}

impl Default for CopyConfig {
    fn default() -> Self {
        Self { enabled: true, dir: None }
    }
}

impl CopyConfig {
    /// Where it goes; none where it is turned off.
    pub(crate) fn dir(&self, data_dir: &Path) -> Option<PathBuf> {
        self.enabled.then(|| self.dir.clone().unwrap_or_else(|| data_dir.join("copy")))
    }
}

/// Where closed orders go, out of the log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ArchiveConfig {
    pub(crate) enabled: bool,
    /// How long an order must have been closed.
    #[serde(with = "span")]
    pub(crate) after: Span,
    /// Another folder than `archive` in the data folder; on NATS one that every process sees.
    pub(crate) dir: Option<PathBuf>,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self { enabled: true, after: tally_projector::ArchiverOptions::default().after, dir: None }
    }
}

impl ArchiveConfig {
    /// Where it is, whether or not anything goes there.
    pub(crate) fn dir(&self, data_dir: &Path) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| data_dir.join("archive"))
    }

    /// After how long orders go there. On NATS only where a folder is named: a data folder is one process's, and
    /// each would have a part of the archive.
    pub(crate) fn after(&self, log: LogKind) -> Option<Span> {
        (self.enabled && (log == LogKind::Embedded || self.dir.is_some())).then_some(self.after)
    }
}

/// Defaults for merchants who set nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OrdersConfig {
    #[serde(with = "span")]
    pub(crate) quote: Span,
    #[serde(with = "span")]
    pub(crate) new_order: Span,
    #[serde(with = "span")]
    pub(crate) first_confirmation: Span,
    pub(crate) late: LatePolicy,
    pub(crate) reopen: bool,
}

impl Default for OrdersConfig {
    fn default() -> Self {
        let defaults = tally_account::PolicyDefaults::default();
        Self {
            quote: defaults.quote,
            new_order: defaults.new_order,
            first_confirmation: defaults.first_confirmation,
            late: defaults.late,
            reopen: defaults.reopen,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChainConfig {
    pub(crate) id: ChainId,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) coin: Option<String>,
    #[serde(default)]
    pub(crate) network: Option<String>,
    #[serde(default)]
    pub(crate) chain_id: Option<u64>,
    pub(crate) rpc: Vec<RpcConfig>,
    #[serde(default)]
    pub(crate) confirmed: Option<u32>,
    #[serde(default)]
    pub(crate) complete: Option<u32>,
    /// Whether an order is complete once the chain calls its blocks final, whatever `complete` says.
    #[serde(default)]
    pub(crate) finalized: bool,
    #[serde(default)]
    pub(crate) threshold: Vec<ThresholdConfig>,
    #[serde(default)]
    pub(crate) token: Vec<TokenConfig>,
    /// Where a chain without any history in the log begins; near the node's tip where absent.
    #[serde(default)]
    pub(crate) start_height: Option<u64>,
    /// Whether transfers made by contracts are found by call traces: `auto`, `required` or `off`.
    #[serde(default)]
    pub(crate) trace: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RpcConfig {
    pub(crate) url: Url,
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) password: Option<SecretRef>,
    #[serde(default)]
    pub(crate) cookie: Option<PathBuf>,
}

/// Other confirmation counts from an amount of whole coins on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ThresholdConfig {
    pub(crate) at_least: String,
    pub(crate) confirmed: u32,
    pub(crate) complete: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenConfig {
    pub(crate) symbol: Currency,
    pub(crate) contract: String,
    pub(crate) decimals: u8,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RatesConfig {
    #[serde(with = "span")]
    pub(crate) poll: Span,
    pub(crate) allow_single_source: bool,
    pub(crate) feed: Vec<FeedConfig>,
}

impl Default for RatesConfig {
    fn default() -> Self {
        Self { poll: Span::from_secs(15), allow_single_source: false, feed: Vec::new() }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeedConfig {
    pub(crate) venue: String,
    /// Stands in for the venue's host (tests, mirrors).
    #[serde(default)]
    pub(crate) url: Option<Url>,
    #[serde(default)]
    pub(crate) key: Option<SecretRef>,
    /// How often it is asked; in every poll where absent, sources of fiat in every twentieth.
    #[serde(default, deserialize_with = "span::optional")]
    pub(crate) interval: Option<Span>,
    /// Whether it is asked at all.
    #[serde(default = "enabled")]
    pub(crate) enabled: bool,
}

fn enabled() -> bool {
    true
}

impl RatesConfig {
    /// The venues to ask: those that are listed, or those of `defaults` where none is. One that is turned off
    /// is not asked either way.
    pub(crate) fn venues(
        &self,
        defaults: impl Iterator<Item = &'static str>,
    ) -> Vec<(&str, Option<&FeedConfig>)> {
        let listed: Vec<_> = self
            .feed
            .iter()
            .filter(|feed| feed.enabled)
            .map(|feed| (feed.venue.as_str(), Some(feed)))
            .collect();
        if !listed.is_empty() {
            return listed;
        }
        let off = |venue: &&str| self.feed.iter().any(|feed| feed.venue == **venue);
        defaults.filter(|venue| !off(venue)).map(|venue| (venue, None)).collect()
    }

    fn check(&self) -> Result<(), ConfigError> {
        // Rates hold for a minute: one poll may fail, and the next must still be in time.
        if !(Span::from_millis(100)..=Span::from_secs(30)).contains(&self.poll) {
            let fault = format!("{} ms is not within 100 ms and 30 s", self.poll.millis());
            return Err(ConfigError::new("rates.poll", fault));
        }
        let mut seen = std::collections::BTreeSet::new();
        for feed in &self.feed {
            let venue = &feed.venue;
            if !seen.insert(venue) {
                return Err(ConfigError::new("rates.feed", format!("{venue:?} stands twice")));
            }
            if feed.interval.is_some_and(|interval| interval < self.poll) {
                let fault = format!("{venue:?}: shorter than rates.poll, so it would not be kept");
                return Err(ConfigError::new("rates.feed.interval", fault));
            }
        }
        Ok(())
    }
}

/// The keys outside of lists, each also `TALLY_…` in the environment. Lists as a whole in TOML's inline form.
const KEYS: &[&str] = &[
    "public_url",
    "data_dir",
    "log.kind",
    "log.url",
    "log.replicas",
    "log.tls.required",
    "log.tls.ca",
    "log.tls.cert",
    "log.tls.key",
    "log.monitor",
    "publish.nats",
    "publish.replicas",
    "http.listen",
    "admin.listen",
    "metrics.listen",
    "delivery.allow_private",
    "orders.quote",
    "orders.new_order",
    "orders.first_confirmation",
    "orders.late",
    "orders.reopen",
    "copy.enabled",
    "copy.dir",
    "archive.enabled",
    "archive.after",
    "archive.dir",
    "chain",
    "rates.poll",
    "rates.allow_single_source",
    "rates.feed",
];

/// The keys that name a secret. In the environment they may hold the secret itself, or name it.
const SECRET_KEYS: &[&str] = &["log.credentials", "publish.credentials", "secrets.master", "admin.token"];

impl Config {
    /// Reads a file, with the environment over it.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ConfigError(format!(
                "configuration: there is no file {shown} here: name yours with --config FILE, or make one from \
                 config/tally.example.toml"
            )),
            _ => ConfigError(format!("configuration: cannot read {shown} (--config): {error}")),
        })?;
        Self::parse(&text)
    }

    /// Reads a text, with the environment over it.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let names: BTreeMap<String, &str> = KEYS.iter().map(|key| (key.replace('.', "_"), *key)).collect();
        let known = names.clone();
        let env = Env::prefixed("TALLY_")
            .filter(move |key| known.contains_key(&key.as_str().to_ascii_lowercase()))
            .map(move |key| {
                let name = key.as_str().to_ascii_lowercase();
                names.get(&name).map_or_else(|| name.clone(), |key| (*key).to_owned()).into()
            });
        let mut figment = Figment::from(Toml::string(text)).merge(env);
        for key in SECRET_KEYS {
            if let Some(reference) = secret::from_environment(key) {
                figment = figment.merge((*key, reference));
            }
        }
        let config: Self = figment.extract().map_err(one_line)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !matches!(self.public_url.scheme(), "http" | "https") {
            return Err(ConfigError::new("public_url", "must begin with http:// or https://"));
        }
        if self.log.kind == LogKind::Nats && self.log.url.is_empty() {
            return Err(ConfigError::new(
                "log.url",
                "needed with kind = \"nats\", such as [\"nats://127.0.0.1:4222\"]",
            ));
        }
        let mut seen = std::collections::BTreeSet::new();
        for chain in &self.chain {
            if !seen.insert(&chain.id) {
                return Err(ConfigError::new("chain.id", format!("{} stands twice", chain.id)));
            }
            chain.check()?;
        }
        self.rates.check()
    }

    /// The configured chain of that name.
    pub(crate) fn chain(&self, id: &ChainId) -> Result<&ChainConfig, ConfigError> {
        self.chain.iter().find(|chain| chain.id == *id).ok_or_else(|| {
            let known: Vec<_> = self.chain.iter().map(|chain| chain.id.as_str()).collect();
            ConfigError::new("chain", format!("no chain {id}; configured are: {}", known.join(", ")))
        })
    }
}

impl ChainConfig {
    /// How a key of this chain is named in messages.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("chain {}: {name}", self.id)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.rpc.is_empty() {
            return Err(ConfigError::new(&self.key("rpc"), "at least one node is needed"));
        }
        let confirmed = self.confirmed.unwrap_or(1);
        let complete = self.complete.unwrap_or_else(|| confirmed.max(6));
        let levels = self.threshold.iter().map(|level| (level.confirmed, level.complete));
        for (confirmed, complete) in std::iter::once((confirmed, complete)).chain(levels) {
            if confirmed == 0 || complete < confirmed || complete > 100 {
                return Err(ConfigError::new(
                    &self.key("confirmed, complete"),
                    format!("{confirmed} and {complete}: needed is 1 <= confirmed <= complete <= 100"),
                ));
            }
        }
        Ok(())
    }

    /// The chain's confirmation counts, for a coin of `decimals` fraction digits.
    pub(crate) fn counts(&self, decimals: u8) -> Result<Counts, ConfigError> {
        let confirmed = self.confirmed.unwrap_or(1);
        let mut thresholds = Vec::new();
        for level in &self.threshold {
            let at_least = BaseUnits::from_decimal_str(&level.at_least, decimals)
                .map_err(|fault| ConfigError::new(&self.key("threshold.at_least"), fault))?;
            thresholds.push(CountsFrom { at_least, confirmed: level.confirmed, complete: level.complete });
        }
        thresholds.sort_by_key(|level| level.at_least);
        let finalized = self.finalized;
        let complete = self.complete.unwrap_or_else(|| confirmed.max(6));
        Ok(Counts { confirmed, complete, thresholds, finalized })
    }
}

/// A text, or a list of them.
fn one_or_more<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(text) => vec![text],
        OneOrMore::More(all) => all,
    })
}

fn one_line(error: figment::Error) -> ConfigError {
    let Some(first) = error.into_iter().next() else {
        return ConfigError("configuration: cannot be read".into());
    };
    let key = first.path.join(".");
    let fault = first.kind.to_string().replace('\n', " ");
    if key.is_empty() {
        ConfigError(format!("configuration: {fault}"))
    } else {
        ConfigError::new(&key, fault)
    }
}

#[cfg(test)]
mod tests;
