//! Turns at a key's counter: without them, checkouts that come at once would refuse each other's appends
//! again and again.
//!
//! Across instances the log's expectations do the same, only dearer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tally_types::Fingerprint;
use tokio::sync::OwnedMutexGuard;

#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<Fingerprint, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for this instance's turn at a key: first come, first served.
    pub(crate) async fn take(&self, key: &Fingerprint) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry(key.clone()).or_default().clone()
        };
        turn.lock_owned().await
    }
}
