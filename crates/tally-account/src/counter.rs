//! The counter of an extended public key: which address index is next, and whose key it is.

use serde::{Deserialize, Serialize};
use tally_events::{Fact, KeyAllocated};
use tally_types::{Fingerprint, MerchantId, OrderId};

use crate::Refusal;

/// BIP 32: indexes from here on are hardened and cannot be derived from a public key.
const FIRST_HARDENED: u32 = 1 << 31;

/// A key's owner and next free index. The counter belongs to the key, not to the wallet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCounter {
    fingerprint: Fingerprint,
    merchant: MerchantId,
    next: u32,
    allocated: u32,
}

impl KeyCounter {
    /// The counter that a key's first fact makes; `None` for any other fact.
    pub fn from_fact(fact: &Fact) -> Option<Self> {
        match fact {
            Fact::KeyRegistered(registered) => Some(Self {
                fingerprint: registered.fingerprint.clone(),
                merchant: registered.merchant,
                next: registered.next_index,
                allocated: 0,
            }),
            _ => None,
        }
    }

    /// Folds a later fact of the key's subject.
    pub fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::KeyAllocated(allocated) => {
                self.next = self.next.max(allocated.index.saturating_add(1));
                self.allocated = self.allocated.saturating_add(1);
            }
            Fact::KeyRegistered(registered) => self.next = self.next.max(registered.next_index),
            _ => {}
        }
    }

    /// Hands the next index to a quote of an order.
    ///
    /// # Errors
    /// [`Refusal::KeyExhausted`] after 2^31 addresses.
    pub fn allocate(&self, order: &OrderId, quote: u32) -> Result<KeyAllocated, Refusal> {
        if self.next >= FIRST_HARDENED {
            return Err(Refusal::KeyExhausted(self.fingerprint.clone()));
        }
        Ok(KeyAllocated {
            fingerprint: self.fingerprint.clone(),
            index: self.next,
            order: order.clone(),
            quote,
        })
    }

    /// The key.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Whose it is.
    pub fn merchant(&self) -> MerchantId {
        self.merchant
    }

    /// The next index that will be handed out.
    pub fn next_index(&self) -> u32 {
        self.next
    }

    /// How many addresses were handed out.
    pub fn allocated(&self) -> u32 {
        self.allocated
    }
}
