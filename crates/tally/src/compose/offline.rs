//! An instance made for the moment of one administrative command, where none runs.

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use tally_ports::{Entropy, EventLog};
use tally_projector::{Model, Options, Projector};
use tally_types::Span;
use tokio::task::JoinHandle;

use super::Parts;
use super::services::{faces, open_model_store};
use crate::clock::{SystemEntropy, WallClock};
use crate::config::Config;
use crate::upkeep::ModelFolder;

/// A log, a read model that follows it, and the admin routes over both. No listener, no watcher.
pub(crate) struct Offline {
    pub(crate) admin: Router,
    /// The token these routes take: made for this one command.
    pub(crate) token: String,
    /// What was folded for it.
    pub(crate) model: Arc<Model>,
    projector: JoinHandle<()>,
    _parts: Parts,
}

impl Offline {
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let mut parts = Parts::open(config, Arc::new(WallClock::default()))
            .await
            .context("no instance runs here, and its log cannot be opened in its place")?;
        let mut random = [0; 32];
        SystemEntropy.fill(&mut random);
        let token = tally_sign::new_key(random).expose().to_owned();
        parts.admin_token = Some(token.clone());
        let store = open_model_store(&ModelFolder::new(parts.data_dir.join("model-admin"))).await?;
        let projector = Projector::open(parts.log(), store, Options::default()).await?;
        projector.catch_up().await?;
        let rates = tally_rates::follow(parts.logs.rates.clone(), parts.rates.rules.clone());
        let model = projector.model();
        let app = faces(&parts, model.clone(), rates);
        let projector = tokio::spawn(async move {
            let Err(error) = projector.run().await;
            tracing::error!(%error, "the projector cannot go on");
        });
        Ok(Self { admin: tally_gateway::admin(app), token, model, projector, _parts: parts })
    }

    /// The log.
    pub(crate) fn log(&self) -> Arc<dyn EventLog> {
        self._parts.log()
    }

    pub(crate) async fn close(self) {
        self.projector.abort();
        // Whatever waits on the log below is given the moment it needs to let go of its files.
        let _ = tokio::time::timeout(Span::from_secs(1).to_duration(), self.projector).await;
    }
}
