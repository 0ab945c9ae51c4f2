//! An instance made for the moment of one administrative command, where none runs.

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use tally_ports::{Entropy, EventLog};
use tally_projector::{Model, Options, Projector};
use tally_types::Span;
use tokio::task::JoinHandle;

use super::Parts;
use super::master;
use super::services::{faces, open_model_store};
use crate::admin_client;
use crate::clock::{SystemEntropy, WallClock};
use crate::config::Config;
use crate::upkeep::ModelFolder;

/// What a command does with merchants' keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// It may open them or make new ones: the master key must be the right one.
    Open,
    /// It lists them or takes them back, which is what remains to be done when the master key is lost.
    Name,
}

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
    /// Opens the log that no instance has open.
    ///
    /// # Errors
    /// Those of the log; a [`ConfigError`](crate::config::ConfigError) where the configured master key is not the
    /// one that keys were sealed under, unless they are only to be looked at or taken back.
    pub(crate) async fn open(config: &Config, keys: Keys) -> anyhow::Result<Self> {
        let parts = Parts::open(config, Arc::new(WallClock::default())).await;
        let mut parts = parts.with_context(|| admin_client::not_asked(config))?;
        let mut random = [0; 32];
        SystemEntropy.fill(&mut random);
        let token = tally_sign::new_key(random).expose().to_owned();
        parts.admin_token = Some(token.clone());
        let store = open_model_store(&ModelFolder::new(parts.data_dir.join("model-admin"))).await?;
        let projector = Projector::open(parts.log(), store, Options::before_serving()).await?;
        projector.catch_up().await?;
        let rates = tally_rates::follow(parts.logs.rates.clone(), parts.rates.rules.clone());
        let model = projector.model();
        if keys == Keys::Open {
            master::prove(&parts.master, &*model).await?;
        }
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
