//! How fresh the fold is known to be, asked of the log at most ten times a second however many requests come.
//!
//! Not here: reading one's own writes, which asks about one subject (`Gateway::caught_up`).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::app::{FOLD_WAIT, Gateway};
use crate::problem::Problem;

/// A revocation counts after this.
const FRESH: Duration = Duration::from_millis(100);

/// How long requests with keys are answered without a word from the log.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long the log may take to say where it ends.
const ASK_MAX: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(crate) struct Pulse {
    seen: Mutex<Seen>,
    /// Held by the one request that asks, for all that wait.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// The fold holds all that the log held then.
    proven: Option<Instant>,
    /// When this last could not be proven, and why.
    failed: Option<(Instant, Failure)>,
}

#[derive(Debug, Clone, Copy)]
enum Failure {
    /// The log answered, and the fold is behind it.
    Behind,
    /// The log did not answer.
    Silent,
}

impl Seen {
    fn proven_within(&self, age: Duration) -> bool {
        self.proven.is_some_and(|at| at.elapsed() <= age)
    }

    fn verdict(&self, failure: Failure) -> Result<(), Problem> {
        match failure {
            Failure::Silent if self.proven_within(SILENCE_MAX) => Ok(()),
            Failure::Silent | Failure::Behind => Err(Problem::behind()),
        }
    }
}

impl Pulse {
    /// Proves that the fold is fresh, unless that was done a moment ago.
    pub(crate) async fn check(&self, app: &Gateway) -> Result<(), Problem> {
        let started = Instant::now();
        if self.seen().proven_within(FRESH) {
            return Ok(());
        }
        let _turn = self.asking.lock().await;
        // Somebody may have asked while this request waited for its turn.
        let seen = self.seen();
        if seen.proven_within(FRESH) {
            return Ok(());
        }
        match seen.failed {
            Some((at, failure)) if at >= started => return seen.verdict(failure),
            _ => {}
        }
        let asked = Instant::now();
        match ask(app).await {
            Ok(()) => {
                self.see(Seen { proven: Some(asked), failed: None });
                Ok(())
            }
            Err(failure) => {
                let seen = Seen { failed: Some((Instant::now(), failure)), ..seen };
                self.see(seen);
                seen.verdict(failure)
            }
        }
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn see(&self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }
}

async fn ask(app: &Gateway) -> Result<(), Failure> {
    match timeout(ASK_MAX, app.log.head()).await {
        Ok(Ok(head)) if app.model.wait_for(head, FOLD_WAIT).await => Ok(()),
        Ok(Ok(_)) => Err(Failure::Behind),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the log does not say where it ends");
            Err(Failure::Silent)
        }
        Err(_) => Err(Failure::Silent),
    }
}
