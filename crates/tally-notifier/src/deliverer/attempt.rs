//! One attempt: what is to be sent by the log, the parcel, the answer, and the fact about it.
//!
//! Not here: which order has its turn.

use std::sync::Arc;

use tally_account::Merchant;
use tally_events::{DeliveryAttempted, DeliveryOutcome, Event, Fact, KeySecret, Subject};
use tally_order::Order;
use tally_ports::{AppendError, CourierError, Expectation, Parcel, PortError};
use tally_sign::{MasterKey, Secret, SignType, open};
use tally_types::{Face, OrderId, Position, Span, Timestamp};
use tokio::time::{Duration, Instant};

use super::schedule::{self, Plan};
use super::{DelivererPorts, NOTIFY, form, is_due};
use crate::duty::Tenure;

/// How often an outcome is tried to be written, and the pause between: what was sent should not be sent again
/// for a log that stumbles.
const APPEND_TRIES: u32 = 20;
const APPEND_PAUSE: Duration = Duration::from_millis(500);

/// When an order is looked at again whose duty may have passed to another instance.
const LAPSED_PAUSE: Span = Span::from_secs(1);

/// An endpoint that takes longer gets fewer places, so that others do not wait for it.
const SOON: Duration = Duration::from_secs(3);

/// An attempt at an order's current version.
pub(super) struct Attempt {
    pub(super) order: OrderId,
    pub(super) tenure: Tenure,
    pub(super) ports: DelivererPorts,
    pub(super) master: Arc<MasterKey>,
}

/// How it ended.
pub(super) struct Done {
    pub(super) next: Next,
    /// Whether the endpoint answered soon, be it badly; none if it was not asked.
    pub(super) healthy: Option<bool>,
}

/// What follows.
pub(super) enum Next {
    Nothing,
    At(Timestamp),
}

impl Attempt {
    pub(super) async fn make(self) -> Done {
        match self.try_make().await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(order = %self.order, %error, "a delivery could not be made or recorded");
                Done { next: Next::At(self.ports.clock.now().plus(schedule::FIRST_DELAY)), healthy: None }
            }
        }
    }

    async fn try_make(&self) -> Result<Done, PortError> {
        let nothing = Done { next: Next::Nothing, healthy: None };
        let Some(order) = self.ports.model.order(&self.order).await? else { return Ok(nothing) };
        let Some(url) = order.notify_url() else { return Ok(nothing) };
        // The log itself says what was sent; a read model that is behind would have it sent twice.
        let (position, last) = self.last().await?;
        let now = self.ports.clock.now();
        let attempt = match schedule::plan(order.version(), last.as_ref(), now) {
            Plan::Nothing => return Ok(nothing),
            Plan::Send { at, .. } if !is_due(at, now) => {
                return Ok(Done { next: Next::At(at), healthy: None });
            }
            Plan::Send { attempt, .. } => attempt,
        };
        let signed = self.sign(&order, attempt).await?;
        // A process may have been frozen on its way here, and its duty be another's: what goes out now would go twice.
        if !self.tenure.lasts() {
            return Ok(Done { next: Next::At(now.plus(LAPSED_PAUSE)), healthy: None });
        }
        let (result, healthy) = match signed {
            Some(body) => self.post(url, body).await,
            None => (Err("the merchant has no API key to sign with".to_owned()), None),
        };
        let now = self.ports.clock.now();
        let outcome = schedule::outcome(result, attempt, now);
        let next = match &outcome {
            DeliveryOutcome::Failed { next_at, .. } => Next::At(*next_at),
            DeliveryOutcome::Acknowledged | DeliveryOutcome::Abandoned { .. } => Next::Nothing,
        };
        count(&order, &outcome);
        let fact = DeliveryAttempted {
            order: self.order.clone(),
            endpoint: NOTIFY.to_owned(),
            version: order.version(),
            attempt,
            outcome,
            at: now,
        };
        let next = if self.record(fact, position, now).await? { next } else { Next::At(now) };
        Ok(Done { next, healthy })
    }

    /// The last attempt at any version, and the position of the last delivery fact.
    async fn last(&self) -> Result<(Position, Option<DeliveryAttempted>), PortError> {
        let last = self.ports.log.last(&Subject::delivery(&self.order)).await?;
        Ok(last.map_or((Position::START, None), |last| match last.event.fact {
            Fact::DeliveryAttempted(attempted) => (last.position, Some(attempted)),
            _ => (last.position, None),
        }))
    }

    /// The signed body; `None` while the merchant has no key.
    async fn sign(&self, order: &Order, attempt: u32) -> Result<Option<Vec<u8>>, PortError> {
        let Some(merchant) = self.ports.model.merchant(order.merchant()).await? else { return Ok(None) };
        let sign_type = match merchant.settings().require_hmac {
            Some(true) => SignType::HmacSha256,
            Some(false) | None => SignType::Md5,
        };
        let key = self.key(&merchant, attempt)?;
        Ok(key.map(|key| form::body(order, &key, sign_type, self.ports.clock.now())))
    }

    /// The key to sign with: the newest, and with each further attempt the one before it, so that a shop gets
    /// its notifications while it changes from one key to another.
    fn key(&self, merchant: &Merchant, attempt: u32) -> Result<Option<Secret>, PortError> {
        let sealed: Vec<_> = merchant
            .active_keys(Face::Deepay)
            .filter_map(|key| match &key.secret {
                KeySecret::Sealed(sealed) => Some((key, sealed)),
                KeySecret::Hashed(_) => None,
            })
            .collect();
        let turn = usize::try_from(attempt.saturating_sub(1)).unwrap_or(0).checked_rem(sealed.len());
        let Some((key, sealed)) = turn.and_then(|turn| sealed.iter().rev().nth(turn)) else {
            return Ok(None);
        };
        let purpose = merchant.key_purpose(key.face, key.key);
        open(&self.master, &purpose, sealed).map(Some).map_err(|error| {
            let merchant = merchant.id();
            let message = format!("key {} of merchant {merchant} does not open", key.key);
            PortError::persistent(message).because(error)
        })
    }

    /// Brings the parcel. Answers the result, and whether the endpoint answered soon.
    async fn post(&self, url: &str, body: Vec<u8>) -> (Result<(), String>, Option<bool>) {
        let parcel =
            Parcel { url: url.to_owned(), content_type: form::CONTENT_TYPE, headers: Vec::new(), body };
        let asked = Instant::now();
        let answer = self.ports.courier.post(parcel).await;
        let soon = asked.elapsed() <= SOON;
        match answer {
            Ok(answer) => (schedule::acknowledged(&answer), Some(soon)),
            Err(error @ CourierError::Refused { .. }) => (Err(error.to_string()), Some(soon)),
            Err(CourierError::Failed(error)) => (Err(error.to_string()), Some(false)),
        }
    }

    /// Writes the fact; false when somebody else wrote one meanwhile, and the plan must be made anew.
    async fn record(
        &self,
        fact: DeliveryAttempted,
        position: Position,
        now: Timestamp,
    ) -> Result<bool, PortError> {
        let subject = Subject::delivery(&self.order);
        let event = Event::new(subject.clone(), fact, now).under(self.tenure.epoch);
        let mut tries = 0;
        loop {
            let expectation = Expectation::new(subject.clone(), position);
            match self.ports.log.append(vec![expectation], vec![event.clone()]).await {
                Ok(_) => return Ok(true),
                Err(AppendError::Stale { .. }) => return Ok(false),
                Err(AppendError::Port(error)) if error.is_transient() && tries < APPEND_TRIES => {
                    tries += 1;
                    tokio::time::sleep(APPEND_PAUSE).await;
                }
                Err(AppendError::Port(error)) => return Err(error),
                Err(error @ AppendError::Invalid(_)) => return Err(PortError::persistent(error.to_string())),
            }
        }
    }
}

fn count(order: &Order, outcome: &DeliveryOutcome) {
    let word = match outcome {
        DeliveryOutcome::Acknowledged => "acknowledged",
        DeliveryOutcome::Failed { .. } => "failed",
        DeliveryOutcome::Abandoned { .. } => "abandoned",
    };
    if let DeliveryOutcome::Failed { reason, .. } | DeliveryOutcome::Abandoned { reason } = outcome {
        tracing::info!(order = %order.id(), version = order.version(), reason, "a notification was not acknowledged");
    }
    metrics::counter!("tally_deliveries_total", "kind" => "deepay", "outcome" => word).increment(1);
}
