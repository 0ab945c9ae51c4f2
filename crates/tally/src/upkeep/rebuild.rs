//! `tally rebuild`: a read model folded again from the log, beside the one that serves, which it then replaces.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tally_ports::EventLog;
use tally_projector::{Options, Projector};
use tally_store::SledStore;

use super::ModelFolder;

/// What sled may cache of a model while it is folded anew.
const CACHE: u64 = 128 * 1024 * 1024;

/// Rebuilds the read model of this process while it serves.
pub(crate) struct Rebuilder {
    projector: Arc<Projector>,
    folder: ModelFolder,
    /// One rebuild at a time.
    running: tokio::sync::Mutex<()>,
}

impl Rebuilder {
    pub(crate) fn new(projector: Arc<Projector>, folder: ModelFolder) -> Self {
        Self { projector, folder, running: tokio::sync::Mutex::default() }
    }

    /// Folds the log anew and swaps; answers where both stood.
    pub(crate) async fn rebuild(&self) -> anyhow::Result<Value> {
        let Ok(_turn) = self.running.try_lock() else { bail!("a rebuild is running already") };
        let next = self.folder.next();
        let store = open(next.clone()).await?;
        let position = self.projector.rebuild(store, Options::beside()).await?;
        self.folder.switch_to(&next)?;
        self.remove_old().await;
        tracing::info!(%position, folder = %next.display(), "the read model was rebuilt");
        Ok(json!({ "rebuilt": [self.name()], "position": position }))
    }

    fn name(&self) -> String {
        self.folder.current().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The old model goes once the last read of it has ended; if that takes long, at the next start.
    async fn remove_old(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let folder = self.folder.clone();
        let removed = tokio::task::spawn_blocking(move || folder.remove_others()).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "the old read model stays until the next start");
        }
    }
}

async fn open(folder: PathBuf) -> anyhow::Result<Arc<SledStore>> {
    Ok(Arc::new(tokio::task::spawn_blocking(move || SledStore::open(&folder, CACHE)).await??))
}

/// Rebuilds every read model below a data folder whose processes are stopped.
pub(super) async fn rebuild_stopped(
    log: Arc<dyn EventLog>,
    models: Vec<ModelFolder>,
) -> anyhow::Result<Value> {
    let mut rebuilt = Vec::new();
    let mut position = log.head().await?;
    for model in models {
        // Whoever has it open goes on with it.
        let current = model.current();
        if current.exists() {
            drop(open(current.clone()).await.with_context(|| {
                format!("{} is in use, or damaged; if no process uses it, remove it", current.display())
            })?);
        }
        let next = model.next();
        let projector = Projector::open(log.clone(), open(next.clone()).await?, Options::alone()).await?;
        position = projector.catch_up().await?;
        drop(projector);
        model.switch_to(&next)?;
        model.remove_others()?;
        rebuilt.push(next.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    Ok(json!({ "rebuilt": rebuilt, "position": position }))
}
