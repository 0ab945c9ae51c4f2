//! `tally dev`: every service in one process over simulated nodes and venues, with a demo merchant.
//!
//! It is the same composition as `tally up`, from a configuration written here; what is simulated speaks the
//! real protocols.

mod demo;
mod hooks;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tally_feeds::SimulatedPrices;
use tally_ports::{Entropy, ReadModel};
use tally_sandbox::{Sandbox, SandboxSettings};
use tally_types::Span;
use tokio_util::sync::CancellationToken;

use crate::cli::{Common, DevArgs};
use crate::clock::{SystemEntropy, WallClock};
use crate::compose::{Listeners, Parts, Roles, Services};
use crate::config::Config;
use crate::{listen, run, telemetry};

/// The file that keeps by how much the clock was moved on, in milliseconds.
const CLOCK_OFFSET: &str = "clock.offset";

/// A chain is watched if its node was looked at so recently.
const REPORTED_WITHIN: Span = Span::from_secs(20);

/// How long everything may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Runs until a signal.
pub(crate) async fn run(args: &DevArgs, common: &Common) -> anyhow::Result<()> {
    let folder = DataFolder::open(args.data.as_deref())?;
    let clock = Arc::new(WallClock::default());
    clock.advance(folder.clock_offset()?);
    let mut seed = [0; 8];
    SystemEntropy.fill(&mut seed);
    let mut settings = SandboxSettings::four_chains(clock.clone(), u64::from_le_bytes(seed))?;
    settings.journal = folder.kept("sandbox.jsonl");
    let sandbox = Sandbox::start(settings).await.context("the simulated nodes do not start")?;

    let public = listen::bind("--http", args.http).await?;
    let admin = listen::bind("--admin", args.admin).await?;
    let metrics_listener = listen::bind("--metrics", args.metrics).await?;
    let urls = Urls {
        http: format!("http://{}", public.local_addr()?),
        admin: format!("http://{}", admin.local_addr()?),
        metrics: format!("http://{}", metrics_listener.local_addr()?),
    };
    let config = configuration(&folder, &sandbox, &urls)?;
    let prices = SimulatedPrices::default();
    let metrics = telemetry::metrics()?;
    let mut parts = Parts::open(&config, clock.clone()).await?;
    parts.feeds = prices.feeds();
    parts.sandbox = true;

    let stop = CancellationToken::new();
    let health = telemetry::Health::default();
    tokio::spawn(telemetry::serve(metrics_listener, metrics, health.clone(), stop.clone()));
    tokio::spawn(run::stop_on_signal(stop.clone()));
    let hooks = hooks::Hooks::new(clock, prices, folder.kept(CLOCK_OFFSET));
    let beside = tally_sandbox::router(sandbox.clone(), hooks.controls()).merge(demo::shop());
    let listeners = Listeners { public, admin, beside };
    let roles = all_roles(&parts);
    let services = Services::begin(&parts, &roles, stop).await?;
    let services = services.go_on(&parts, &roles, Some(listeners), health)?;
    hooks.attach(&services, parts.chains.iter().map(|chain| chain.info.id.clone()).collect());
    let demo = match become_ready(&services, &parts, &folder, &urls).await {
        Ok(demo) => demo,
        Err(error) => {
            let mut services = services;
            services.stop().await;
            return Err(error);
        }
    };
    announce(&demo, &urls, common.json);
    services.run().await
}

/// Where the listeners ended up.
struct Urls {
    http: String,
    admin: String,
    metrics: String,
}

fn all_roles(parts: &Parts) -> Roles {
    let watch = parts.chains.iter().map(|chain| chain.info.id.clone()).collect();
    Roles { watch, project: true, rate: true, api: true, notify: true, ..Roles::default() }
}

/// The configuration that `tally dev` runs on.
fn configuration(folder: &DataFolder, sandbox: &Sandbox, urls: &Urls) -> anyhow::Result<Config> {
    let dir = folder.path.display();
    let quoted = |text: String| Value::String(text).to_string();
    let mut toml = format!(
        "public_url = {}\ndata_dir = {}\n[secrets]\nmaster = {}\n[admin]\ntoken = {}\n\
         [delivery]\nallow_private = true\n[orders]\nreopen = true\n[rates]\npoll = \"5s\"\n",
        quoted(urls.http.clone()),
        quoted(dir.to_string()),
        quoted(format!("file:{dir}/master.key")),
        quoted(format!("file:{dir}/admin.token")),
    );
    for chain in ["btc", "ltc", "bch"] {
        let url = quoted(sandbox.rpc_url(chain)?.to_owned());
        let _ = write!(
            toml,
            "[[chain]]\nid = \"{chain}\"\nkind = \"bitcoin\"\ncoin = \"{chain}\"\nnetwork = \"regtest\"\n\
             rpc = [{{ url = {url} }}]\n"
        );
    }
    let url = quoted(sandbox.rpc_url("eth")?.to_owned());
    let _ = write!(
        toml,
        "[[chain]]\nid = \"eth\"\nkind = \"ethereum\"\nchain_id = 31337\nrpc = [{{ url = {url} }}]\n\
         [[chain.token]]\nsymbol = \"USDT\"\ncontract = \"{}\"\ndecimals = 6\n",
        tally_sandbox::USDT_CONTRACT
    );
    Ok(Config::parse(&toml)?)
}

/// Waits until chains are watched and rates are there, then makes or finds the demo merchant.
async fn become_ready(
    services: &Services,
    parts: &Parts,
    folder: &DataFolder,
    urls: &Urls,
) -> anyhow::Result<demo::Demo> {
    let (Some(model), Some(rates), Some(app)) = (&services.model, &services.rates, &services.app) else {
        bail!("the services of the api did not start");
    };
    let ready = async {
        loop {
            let mut chains = true;
            for chain in &parts.chains {
                let view = model.chain(&chain.info.id).await?;
                // Connected blocks alone do not say that the node was looked at just now.
                chains &=
                    view.is_some_and(|view| parts.clock.now().since(view.observed_at) < REPORTED_WITHIN);
            }
            let table = rates.borrow().clone();
            let priced = ["BTC", "LTC", "BCH", "ETH", "USDT"]
                .iter()
                .all(|coin| table.rate_named(coin, "USD", parts.clock.now()).is_ok());
            if chains && priced {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(READY_WITHIN, ready).await {
        Ok(ready) => ready?,
        Err(_) => bail!("not ready within {} s: see the log above", READY_WITHIN.as_secs()),
    }
    let token = parts.admin_token.clone().unwrap_or_default();
    demo::open(app, &token, &folder.path, &urls.http).await
}

/// Says where everything is: one line of JSON, or words and a line to paste.
fn announce(demo: &demo::Demo, urls: &Urls, json: bool) {
    if json {
        let line = json!({
            "http": urls.http,
            "admin": urls.admin,
            "metrics": urls.metrics,
            "merchant_id": demo.merchant_id,
            "api_key": demo.api_key,
            "payscrypt_api_key": demo.payscrypt_api_key,
            "pg_wallet_ids": demo.wallets,
            "checkout_url": demo.checkout_url,
        });
        println!("{line}");
        return;
    }
    println!("Tallystick runs, with simulated BTC, LTC, BCH and ETH.\n");
    println!("  pay a demo order   {}", demo.checkout_url);
    println!("  merchant id        {}", demo.merchant_id);
    println!("  api key            {}", demo.api_key);
    println!("  admin, metrics     {}  {}/metrics\n", urls.admin, urls.metrics);
    println!("Create another order:\n\n  {}\n", demo.curl);
    println!("Ctrl-C ends it.");
}

/// The data folder: kept where one was named, else temporary.
struct DataFolder {
    path: PathBuf,
    temporary: bool,
}

impl DataFolder {
    fn open(named: Option<&Path>) -> anyhow::Result<Self> {
        let (path, temporary) = match named {
            Some(path) => (path.to_owned(), false),
            None => {
                let mut random = [0; 8];
                SystemEntropy.fill(&mut random);
                let name = format!("tally-dev-{:016x}", u64::from_le_bytes(random));
                (std::env::temp_dir().join(name), true)
            }
        };
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let folder = Self { path: std::path::absolute(&path)?, temporary };
        for name in ["master.key", "admin.token"] {
            folder.secret(name)?;
        }
        Ok(folder)
    }

    /// A file of a folder that is kept; none in a temporary one.
    fn kept(&self, name: &str) -> Option<PathBuf> {
        (!self.temporary).then(|| self.path.join(name))
    }

    /// By how much the clock was moved on in this folder.
    fn clock_offset(&self) -> anyhow::Result<Span> {
        let path = self.path.join(CLOCK_OFFSET);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let millis =
                    text.trim().parse().with_context(|| format!("cannot read {}", path.display()))?;
                Ok(Span::from_millis(millis))
            }
            Err(_) => Ok(Span::default()),
        }
    }

    /// A secret that is made once and kept beside the data, readable by its owner only.
    fn secret(&self, name: &str) -> anyhow::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.path.join(name);
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
        };
        let mut random = [0; 32];
        SystemEntropy.fill(&mut random);
        let line = format!("{}\n", tally_sign::new_key(random).expose());
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).with_context(|| {
            // An empty one would be taken for a secret that was made before.
            let _ = std::fs::remove_file(&path);
            format!("cannot write {}", path.display())
        })
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
