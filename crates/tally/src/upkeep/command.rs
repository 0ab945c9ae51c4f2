//! The commands: over a running instance's admin listener, or on the log of a stopped one.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::http::Method;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use serde_json::Value;
use tally_events::Recorded;
use tally_log::archive::FileArchive;
use tally_log::copy;
use tally_ports::{Archive, OrderFilter, ReadModel};
use tally_types::Position;

use super::export::Table;
use super::routes::THROUGH;
use super::{ModelFolder, backup, export, rebuild};
use crate::admin_client::{self, ask};
use crate::cli::{Command, Common, DepositCommand, ExportArgs, OrderCommand};
use crate::clock::WallClock;
use crate::compose::{Keys, Logs, Offline};
use crate::config::Config;

/// Does a command of upkeep; `None` for any other.
pub(crate) async fn run(command: &Command, common: &Common) -> Option<anyhow::Result<()>> {
    Some(match command {
        Command::Rebuild => rebuild_models(common).await,
        Command::Backup { to } => back_up(common, to).await,
        Command::Restore { from } => restore(common, from).await,
        Command::Archive => archive(common).await,
        Command::Order(OrderCommand::Export(args)) => export_table(common, args, Table::Orders).await,
        Command::Deposit(DepositCommand::Export(args)) => export_table(common, args, Table::Deposits).await,
        _ => return None,
    })
}

fn report(common: &Common, report: &Value) {
    if common.json {
        println!("{report}");
    } else {
        print!("{}", admin_client::readable(report));
    }
}

async fn stopped(config: &Config) -> anyhow::Result<Logs> {
    Logs::open(config, Arc::new(WallClock::default())).await.with_context(|| admin_client::not_asked(config))
}

async fn rebuild_models(common: &Common) -> anyhow::Result<()> {
    let config = Config::load(&common.config)?;
    let answer = match ask(&config, Method::POST, "/v1/admin/rebuild", None).await? {
        Some(response) => response.json().await.context("the instance's answer is not JSON")?,
        None => {
            let logs = stopped(&config).await?;
            rebuild::rebuild_stopped(logs.main.clone(), ModelFolder::all_below(&config.data_dir)).await?
        }
    };
    report(common, &answer);
    Ok(())
}

async fn archive(common: &Common) -> anyhow::Result<()> {
    let config = Config::load(&common.config)?;
    let archive = FileArchive::new(config.archive.dir(&config.data_dir));
    let read = archive.clone();
    let found = tokio::task::spawn_blocking(move || read.verify()).await??;
    let answer = serde_json::json!({
        "archive": archive.dir(), "segments": found.segments, "orders": found.orders, "facts": found.facts,
        "purged_through": archive.purged().await?,
    });
    report(common, &answer);
    Ok(())
}

async fn back_up(common: &Common, to: &Path) -> anyhow::Result<()> {
    let config = Config::load(&common.config)?;
    let clock = WallClock::default();
    let answer = match ask(&config, Method::GET, "/v1/admin/facts", None).await? {
        Some(response) => {
            let through = response.headers().get(THROUGH).and_then(|value| value.to_str().ok()?.parse().ok());
            let through: u64 = through.context("the running instance does not say how far its facts go")?;
            let answer = backup::write(received(response), to, &clock).await?;
            if answer.get("through").and_then(Value::as_u64) != Some(through) {
                bail!("the running instance broke off before position {through}: {answer}");
            }
            answer
        }
        None => {
            let logs = stopped(&config).await?;
            let head = logs.main.head().await?;
            let facts = backup::facts_through(&*logs.main, head).await?;
            backup::write(facts.map_err(anyhow::Error::from).boxed(), to, &clock).await?
        }
    };
    report(common, &answer);
    Ok(())
}

/// The facts in a running instance's answer, each checked by its sum and by what it follows.
fn received(response: reqwest::Response) -> BoxStream<'static, anyhow::Result<Recorded>> {
    let state = (response, Vec::new(), Position::START);
    stream::try_unfold(state, |(mut response, mut rest, mut last): (_, Vec<u8>, _)| async move {
        let Some(bytes) = response.chunk().await.context("the running instance broke off")? else {
            return Ok(None);
        };
        rest.extend_from_slice(&bytes);
        let mut facts = Vec::new();
        let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in rest.get(..end).unwrap_or_default().split(|byte| *byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            let (fact, after) = copy::from_line(line).map_err(|fault| {
                anyhow::anyhow!("what the running instance sent after position {last} {fault}")
            })?;
            if after != last {
                bail!("the running instance sent position {} after {last}", fact.position);
            }
            last = fact.position;
            facts.push(fact);
        }
        rest.drain(..end);
        Ok(Some((stream::iter(facts.into_iter().map(anyhow::Ok)), (response, rest, last))))
    })
    .try_flatten()
    .boxed()
}

async fn restore(common: &Common, from: &Path) -> anyhow::Result<()> {
    let config = Config::load(&common.config)?;
    if ask(&config, Method::GET, "/v1/admin/merchants", None).await?.is_some() {
        bail!("an instance runs here: stop it, and move its data away, before a backup is restored");
    }
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("data_dir: cannot make {}", config.data_dir.display()))?;
    let logs = stopped(&config).await?;
    let copy_dir = config.copy.dir(&config.data_dir);
    let places = (config.data_dir.as_path(), copy_dir.as_deref());
    let answer = backup::restore(from, places, &logs, &WallClock::default()).await?;
    report(common, &answer);
    Ok(())
}

async fn export_table(common: &Common, args: &ExportArgs, table: Table) -> anyhow::Result<()> {
    let config = Config::load(&common.config)?;
    let mut out: Box<dyn Write> = match &args.to {
        Some(path) => {
            let file = std::fs::File::create(path);
            Box::new(file.with_context(|| format!("{} cannot be written", path.display()))?)
        }
        None => Box::new(std::io::stdout()),
    };
    let unwritten = || match &args.to {
        Some(path) => format!("{} cannot be written", path.display()),
        None => "standard output cannot be written".to_owned(),
    };
    let name = if table == Table::Orders { "orders" } else { "deposits" };
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(merchant) = args.merchant {
        query.append_pair("merchant", &merchant.to_string());
    }
    if let Some(status) = &args.status {
        query.append_pair("status", status);
    }
    let path = format!("/v1/admin/export/{name}.csv?{}", query.finish());
    if let Some(mut response) = ask(&config, Method::GET, &path, None).await? {
        while let Some(bytes) = response.chunk().await.context("the running instance broke off")? {
            out.write_all(&bytes).with_context(unwritten)?;
        }
    } else {
        let offline = Offline::open(&config, Keys::Open).await?;
        let filter =
            OrderFilter { merchant: args.merchant, status: args.status.clone(), ..OrderFilter::default() };
        let model: Arc<dyn ReadModel> = offline.model.clone();
        let mut lines = export::table(&*model, filter, table);
        while let Some(piece) = lines.next().await {
            out.write_all(piece?.as_bytes()).with_context(unwritten)?;
        }
        drop(lines);
        offline.close().await;
    }
    out.flush().with_context(unwritten)
}
