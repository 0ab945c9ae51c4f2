//! Logs on standard error, metrics for Prometheus.

mod health;
mod names;

pub(crate) use health::{Health, beside_faces};

use std::io::IsTerminal;

use anyhow::Context;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::listen;

/// Buckets for everything that is measured in seconds: 0.1 ms to 30 s.
const SECONDS: &[f64] =
    &[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What is logged unless `RUST_LOG` says otherwise: our own words, and what others warn of.
const DEFAULT_FILTER: &str = "warn,tally=info,tally_watcher=info,tally_projector=info,tally_rates=info,\
    tally_notifier=info,tally_gateway=info,tally_chains=info,tally_feeds=info,tally_log=info,\
    tally_store=info,tally_courier=info,tally_sandbox=info";

/// Begins to log to standard error; standard output is for answers.
pub(crate) fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let colours = std::io::stderr().is_terminal();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // A second call (in tests) leaves the first in place.
    let _ = subscriber.try_init();
}

/// Installs the recorder that all services write to.
pub(crate) fn metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("the metrics recorder cannot be installed")?;
    names::describe();
    Ok(handle)
}

/// Serves `GET /metrics`, and how the watchers are, until stopped.
pub(crate) async fn serve(
    listener: TcpListener,
    handle: PrometheusHandle,
    health: Health,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let upkeep = handle.clone();
    let render = move || {
        let handle = handle.clone();
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()) }
    };
    let routes = Router::new().route("/metrics", get(render)).merge(health.routes());
    tokio::spawn(async move {
        let mut turn = tokio::time::interval(std::time::Duration::from_secs(5));
        loop {
            turn.tick().await;
            upkeep.run_upkeep();
        }
    });
    listen::serve(listener, routes, stop).await?;
    Ok(())
}
