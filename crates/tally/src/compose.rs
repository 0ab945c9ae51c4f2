//! The composition root: adapters made from the configuration, and the services that stand on them.
//!
//! Not here: what any of them does.

mod chains;
mod logs;
mod master;
mod offline;
mod services;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tally_account::PolicyDefaults;
use tally_gateway::ChainInfo;
use tally_ports::{BlockSource, Clock, Entropy, EventLog, Lease, PriceFeed, Publisher};
use tally_pricing::RateRules;
use tally_rates::RateSettings;
use tally_sign::MasterKey;
use tally_types::{ChainId, Span};

use crate::clock::SystemEntropy;
use crate::config::{Config, ConfigError, FeedConfig};

pub(crate) use chains::Chain;
pub(crate) use logs::Logs;
pub(crate) use offline::{Keys, Offline};
pub(crate) use services::{Listeners, Roles, Services};

/// What every service is made from.
pub(crate) struct Parts {
    pub(crate) logs: Logs,
    pub(crate) chains: Vec<Chain>,
    pub(crate) feeds: Vec<Arc<dyn PriceFeed>>,
    pub(crate) rates: RateSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) master: MasterKey,
    pub(crate) admin_token: Option<String>,
    pub(crate) public_url: String,
    pub(crate) policy: PolicyDefaults,
    pub(crate) allow_private: bool,
    pub(crate) sandbox: bool,
    pub(crate) data_dir: PathBuf,
    /// Where the daily copy goes; none where it is turned off.
    pub(crate) copy_dir: Option<PathBuf>,
    /// After how long closed orders are archived; none where they are not, or not by this process.
    pub(crate) archive_after: Option<Span>,
}

impl Parts {
    /// Everything the configuration names. No node and no venue is asked yet; the log is opened.
    pub(crate) async fn open(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let master = config.secrets.master.resolve("secrets.master")?;
        let master = MasterKey::parse(&master).map_err(|fault| ConfigError::new("secrets.master", fault))?;
        let token = config.admin.token.as_ref().map(|token| token.resolve("admin.token")).transpose()?;
        let chains = config.chain.iter().map(Chain::open).collect::<Result<Vec<_>, _>>()?;
        let feeds = feeds(config)?;
        writable(&config.data_dir)?;
        let logs = Logs::open(config, clock.clone()).await?;
        Ok(Self {
            logs,
            chains,
            feeds,
            rates: rate_settings(config),
            clock,
            entropy: Arc::new(SystemEntropy),
            master,
            admin_token: token,
            public_url: config.public_url.as_str().trim_end_matches('/').to_owned(),
            policy: policy(config),
            allow_private: config.delivery.allow_private,
            sandbox: false,
            data_dir: config.data_dir.clone(),
            copy_dir: config.copy.dir(&config.data_dir),
            archive_after: config.archive.after(config.log.kind),
        })
    }

    /// The chains as the faces offer them.
    pub(crate) fn directory(&self) -> Vec<ChainInfo> {
        self.chains.iter().map(|chain| chain.info.clone()).collect()
    }

    /// The chain of that id.
    pub(crate) fn chain(&self, id: &ChainId) -> anyhow::Result<&Chain> {
        self.chains.iter().find(|chain| chain.info.id == *id).with_context(|| format!("no chain {id}"))
    }

    /// The main log.
    pub(crate) fn log(&self) -> Arc<dyn EventLog> {
        self.logs.main.clone()
    }

    /// Leases on the log's own ground.
    pub(crate) fn lease(&self) -> Arc<dyn Lease> {
        self.logs.lease.clone()
    }

    /// Where the public subjects are published, if anywhere.
    pub(crate) fn publisher(&self) -> Option<Arc<dyn Publisher>> {
        self.logs.publisher.clone()
    }
}

/// Reads everything the configuration says, and opens nothing. Answers the chains, to ask their nodes too.
pub(crate) fn prove(config: &Config) -> anyhow::Result<Vec<Chain>> {
    let master = config.secrets.master.resolve("secrets.master")?;
    MasterKey::parse(&master).map_err(|fault| ConfigError::new("secrets.master", fault))?;
    if let Some(token) = &config.admin.token {
        token.resolve("admin.token")?;
    }
    let chains = config.chain.iter().map(Chain::open).collect::<Result<Vec<_>, _>>()?;
    feeds(config)?;
    may_write(&config.data_dir)?;
    Ok(chains)
}

/// Whether the folder may be written to, or be made where it is not there yet. Makes nothing.
fn may_write(dir: &Path) -> Result<(), ConfigError> {
    use rustix::fs::{Access, access};
    let fault = |error: &dyn std::fmt::Display| {
        ConfigError::new("data_dir", format!("{} cannot be written: {error}", dir.display()))
    };
    let path = std::path::absolute(dir).map_err(|error| fault(&error))?;
    let Some(there) = path.ancestors().find(|path| path.symlink_metadata().is_ok()) else {
        return Err(fault(&"no folder above it is there"));
    };
    if !there.is_dir() {
        return Err(fault(&format_args!("{} is no folder", there.display())));
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| fault(&format_args!("{}: {error}", there.display())))
}

/// Makes the folder, and proves that files can be made in it.
fn writable(dir: &Path) -> Result<(), ConfigError> {
    let fault = |error: std::io::Error| {
        ConfigError::new("data_dir", format!("{} cannot be written: {error}", dir.display()))
    };
    std::fs::create_dir_all(dir).map_err(fault)?;
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"").map_err(fault)?;
    std::fs::remove_file(&probe).map_err(fault)
}

fn feeds(config: &Config) -> anyhow::Result<Vec<Arc<dyn PriceFeed>>> {
    let registry = tally_feeds::Feeds::new(rate_settings(config).venue_timeout())?;
    let mut feeds = Vec::new();
    for (venue, feed) in config.rates.venues(tally_feeds::Feeds::default_venues()) {
        let key = feed.and_then(|feed| feed.key.as_ref());
        let key = key.map(|key| key.resolve("rates.feed.key")).transpose()?;
        let url = feed.and_then(|feed| feed.url.as_ref()).map(|url| url.as_str().trim_end_matches('/'));
        let opened = registry.open(venue, url, key.as_deref());
        feeds.push(opened.map_err(|fault| ConfigError::new("rates.feed", fault))?);
    }
    for off in config.rates.feed.iter().filter(|feed| !feed.enabled) {
        if !tally_feeds::Feeds::venues().any(|venue| venue == off.venue) {
            let fault = format!("unknown venue {:?}, though it is turned off", off.venue);
            return Err(ConfigError::new("rates.feed", fault).into());
        }
    }
    Ok(feeds)
}

fn rate_settings(config: &Config) -> RateSettings {
    let rules = RateRules { allow_single_source: config.rates.allow_single_source, ..RateRules::default() };
    let interval = |feed: &FeedConfig| Some((feed.venue.clone(), feed.interval?));
    let intervals = config.rates.feed.iter().filter_map(interval).collect();
    RateSettings { poll: config.rates.poll, rules, intervals, ..RateSettings::default() }
}

fn policy(config: &Config) -> PolicyDefaults {
    PolicyDefaults {
        quote: config.orders.quote,
        new_order: config.orders.new_order,
        first_confirmation: config.orders.first_confirmation,
        late: config.orders.late,
        reopen: config.orders.reopen,
    }
}

/// Asks each chain's node whether it is the right one: a node of another network stops the start, one that
/// cannot be reached does not.
pub(crate) async fn check_nodes<'a>(chains: impl IntoIterator<Item = &'a Chain>) -> Result<(), ConfigError> {
    let checks = chains.into_iter().map(|chain| async {
        let source: &dyn BlockSource = &*chain.source;
        match source.check().await {
            Ok(()) => Ok(()),
            // The chain's adapter has told which of its nodes does not answer, and why.
            Err(error) if error.is_transient() => Ok(()),
            Err(error) => Err(ConfigError::new(&format!("chain {}", chain.info.id), error)),
        }
    });
    futures::future::try_join_all(checks).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_is_looked_at_and_not_made() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, b"").unwrap();
        for (name, dir, expected) in [
            ("there", home.path().to_owned(), None),
            ("to be made", home.path().join("data"), None),
            ("to be made deep below", home.path().join("a/b/data"), None),
            ("a file", file.clone(), Some("is no folder")),
            ("below a file", file.join("data"), Some("is no folder")),
        ] {
            let said = may_write(&dir).map_err(|error| error.to_string());
            match (said, expected) {
                (Ok(()), None) => {}
                (Err(said), Some(expected)) => {
                    assert!(said.contains("data_dir") && said.contains(expected), "{name}: {said}");
                }
                (said, _) => panic!("{name}: {said:?}"),
            }
        }
        let left: Vec<_> =
            std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [file]);
    }

    #[tokio::test]
    async fn the_secret_of_a_node_is_named_with_its_chain() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("master");
        std::fs::write(&key, "07".repeat(32)).unwrap();
        let config = Config::parse(&format!(
            "public_url = \"http://127.0.0.1:9\"\ndata_dir = {:?}\n[secrets]\nmaster = \"file:{}\"\n\
             [[chain]]\nid = \"shop-ltc\"\nkind = \"bitcoin\"\ncoin = \"ltc\"\nnetwork = \"regtest\"\n\
             rpc = [{{ url = \"http://127.0.0.1:9\", user = \"u\", password = \"file:{}\" }}]\n",
            dir.path().join("data"),
            key.display(),
            dir.path().join("missing").display(),
        ))
        .unwrap();
        let said = prove(&config).err().unwrap().to_string();
        assert!(said.starts_with("configuration: chain shop-ltc: rpc.password: "), "{said}");
        assert!(!dir.path().join("data").exists(), "nothing was made");
    }
}
