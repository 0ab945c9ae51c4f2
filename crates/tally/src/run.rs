//! Commands to what does them.

use std::sync::Arc;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::admin_client;
use crate::cli::{Cli, Command};
use crate::clock::WallClock;
use crate::compose::{self, Listeners, Parts, Roles, Services};
use crate::config::Config;
use crate::{dev, listen, rescan, sign, telemetry, upkeep};

/// Runs one command to its end.
pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    if let Command::Sign(args) = &cli.command {
        return sign::run(args, &cli.common);
    }
    telemetry::log();
    runtime(&cli.command).enable_all().build()?.block_on(async {
        match &cli.command {
            Command::CheckConfig => {
                let config = Config::load(&cli.common.config)?;
                let chains = compose::prove(&config)?;
                compose::check_nodes(&chains).await?;
                println!("{}", if cli.common.json { "{\"ok\":true}" } else { "the configuration is good" });
                Ok(())
            }
            Command::Dev(args) => dev::run(args, &cli.common).await,
            Command::Up
            | Command::Watch { .. }
            | Command::Project
            | Command::Rate
            | Command::Api
            | Command::Notify => serve(&cli).await,
            Command::Rescan(args) => rescan::run(args, &cli.common).await,
            command => match upkeep::run(command, &cli.common).await {
                Some(done) => done,
                None => admin_client::run(command, &cli.common).await,
            },
        }
    })
}

/// A rebuild reads a page of the log, folds it, reads the next: on one thread, what the page's facts took of memory is
/// at hand for those of the next.
fn runtime(command: &Command) -> tokio::runtime::Builder {
    let mut runtime = match command {
        Command::Rebuild => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if matches!(command, Command::Rebuild) {
        runtime.max_blocking_threads(1);
    }
    runtime
}

/// The services a command asks for, until a signal ends them.
async fn serve(cli: &Cli) -> anyhow::Result<()> {
    let config = Config::load(&cli.common.config)?;
    let roles = roles(&cli.command, &config)?;
    // Before anything is opened: what is said of the log then is said once.
    let metrics = telemetry::metrics()?;
    let parts = Parts::open(&config, Arc::new(WallClock::default())).await?;
    let watched = roles.watch.iter().map(|id| parts.chain(id)).collect::<anyhow::Result<Vec<_>>>()?;
    compose::check_nodes(watched).await?;
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    // Whoever watches this process sees that it lives, and is not ready.
    let health = telemetry::Health::default();
    let metrics_listener = listen::bind("metrics.listen", config.metrics.listen).await?;
    tokio::spawn(telemetry::serve(metrics_listener, metrics, health.clone(), stop.clone()));
    let services = Services::begin(&parts, &roles, stop.clone()).await?;
    let listeners = if roles.api {
        Some(Listeners {
            public: listen::bind("http.listen", config.http.listen).await?,
            admin: listen::bind("admin.listen", config.admin.listen).await?,
            beside: axum::Router::new(),
        })
    } else {
        None
    };
    let services = services.go_on(&parts, &roles, listeners, health)?;
    tracing::info!(public_url = %parts.public_url, ?roles, "running");
    services.run().await
}

fn roles(command: &Command, config: &Config) -> anyhow::Result<Roles> {
    let none = Roles::default();
    Ok(match command {
        Command::Watch { chain, shard } => {
            config.chain(chain)?;
            Roles { watch: vec![chain.clone()], shard: *shard, ..none }
        }
        Command::Project => Roles { project: true, ..none },
        Command::Rate => Roles { rate: true, ..none },
        Command::Api => Roles { api: true, ..none },
        Command::Notify => Roles { notify: true, ..none },
        _ => Roles {
            watch: config.chain.iter().map(|chain| chain.id.clone()).collect(),
            project: true,
            rate: true,
            api: true,
            notify: true,
            ..none
        },
    })
}

/// Stops on Ctrl-C and on SIGTERM.
pub(crate) async fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened to")?;
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended.context("Ctrl-C cannot be listened to")?,
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    Ok(())
}
