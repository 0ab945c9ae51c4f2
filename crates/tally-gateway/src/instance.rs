//! What one instance keeps beside what it was given: turns, bounds, and how fresh its fold is known to be.
//!
//! Nothing here is true for anyone else, and all of it can be lost: what must hold across instances, the
//! expectations of the log ensure.

mod pulse;
mod streams;
mod turns;

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRef;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Gateway};
use crate::problem::Problem;
use pulse::Pulse;
pub(crate) use streams::StreamPermit;
use streams::Streams;
use turns::Turns;

/// The gateway as one set of routes serves it.
#[derive(Clone)]
pub(crate) struct Instance {
    app: App,
    pulse: Arc<Pulse>,
    /// Live status streams that are open.
    pub(crate) streams: Arc<Streams>,
    /// Turns at allocating addresses.
    pub(crate) turns: Arc<Turns>,
    /// Ends what would otherwise stay open.
    pub(crate) stop: CancellationToken,
}

impl Instance {
    /// An instance with nothing open.
    pub(crate) fn new(app: App, stop: CancellationToken) -> Self {
        Self { app, pulse: Arc::default(), streams: Arc::default(), turns: Arc::default(), stop }
    }

    /// Proves that the fold holds what the log held a moment ago: before a key is trusted, since it may have
    /// been revoked.
    pub(crate) async fn fresh(&self) -> Result<(), Problem> {
        self.pulse.check(&self.app).await
    }
}

impl Deref for Instance {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.app
    }
}

impl FromRef<Instance> for App {
    fn from_ref(instance: &Instance) -> Self {
        instance.app.clone()
    }
}
