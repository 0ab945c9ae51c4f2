//! Rules on what leaves the system: answers, notifications, public messages.
//!
//! Not here: what is done about them (`shop`).

use std::collections::BTreeMap;

use tally_ports::Message;
use tally_types::{OrderId, Position};

use super::{Judge, Verdict, broken};
use crate::timeline::Life;

/// A notification as a shop reads it.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    pub(crate) order: OrderId,
    pub(crate) version: u32,
    pub(crate) status: String,
}

impl Notice {
    /// From the form that was posted.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let fields: BTreeMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        Some(Self {
            order: fields.get("transaction_id")?.parse().ok()?,
            version: fields.get("version")?.parse().ok()?,
            status: fields.get("status")?.clone(),
        })
    }
}

/// What a shop was answered about an order.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) order: OrderId,
    pub(crate) version: u32,
    pub(crate) status: String,
}

impl Judge {
    /// A notification arrives. `readable` is the version that its sender's read model holds now.
    pub(crate) fn notified(&mut self, notice: &Notice, readable: Option<u32>) {
        self.applies("notices");
        let verdict = if readable.is_none_or(|readable| readable < notice.version) {
            broken("readable", format!("{notice:?} is told, its sender reads {readable:?}"))
        } else {
            self.check_status(&notice.order, notice.version, &notice.status)
        };
        self.keep(verdict);
    }

    /// Something leaves a process that only the holder of a lease may send, and only within a term that was granted.
    pub(crate) fn left(&mut self, life: &Life, lease: &str) {
        self.applies("terms");
        if let Some(overdue_ms) = life.overdue_ms(lease) {
            let text = format!("process {} acts {overdue_ms} ms after its term of {lease}", life.process);
            self.keep(broken("terms", text));
        }
    }

    /// A shop asked after it was told of `version`, and got an answer.
    pub(crate) fn answered(&mut self, told: &Told, version: u32) {
        self.applies("readable");
        let verdict = if told.version < version {
            broken("readable", format!("version {version} was told, and then is read {told:?}"))
        } else {
            self.check_status(&told.order, told.version, &told.status)
        };
        self.keep(verdict);
    }

    /// A status is that of the facts.
    fn check_status(&self, order: &OrderId, version: u32, status: &str) -> Verdict {
        let folded = self.order(order).and_then(|order| {
            order.versions().find(|known| known.number == version).map(|known| known.status.as_str())
        });
        let folded = folded.map(|folded| if folded == "canceled" { "expired" } else { folded });
        if folded == Some(status) {
            return Ok(());
        }
        broken(
            "status",
            format!("version {version} of {order} is told as {status}, by the facts it is {folded:?}"),
        )
    }

    /// A creation was answered.
    pub(crate) fn created(&mut self, merchant: u64, own_id: &str, order: &OrderId) {
        self.applies("acknowledged");
        let known = self.acknowledged.insert((merchant, own_id.to_owned()), order.clone());
        let verdict = if known.as_ref().is_some_and(|known| known != order) {
            broken("own ids", format!("{own_id} was answered as {known:?} and as {order}"))
        } else if self.order(order).is_none() {
            broken("acknowledged", format!("{order} was answered, and is not in the log"))
        } else {
            Ok(())
        };
        self.keep(verdict);
    }

    /// A checkout was answered.
    pub(crate) fn checked_out(&mut self, order: &OrderId, address: &str) {
        let given = self.given.values().any(|given| given.order == *order && given.address == address);
        let other = self.shown.insert(address.to_owned(), order.clone());
        let verdict = if !given {
            broken("addresses", format!("{address} is shown for {order}, and is not in the log"))
        } else if other.as_ref().is_some_and(|other| other != order) {
            broken("addresses", format!("{address} is shown for {order} and {other:?}"))
        } else {
            Ok(())
        };
        self.keep(verdict);
    }

    /// Messages are stored on the public subjects, each id once.
    pub(crate) fn published(&mut self, messages: &[Message]) {
        for message in messages {
            let verdict = self.publish(message);
            self.keep(verdict);
        }
    }

    fn publish(&mut self, message: &Message) -> Verdict {
        self.announced_through = self.announced_through.max(message.position);
        if !message.subject.starts_with("tally.v1.status.") || !self.announced.insert(message.id.clone()) {
            return Ok(());
        }
        self.applies("announced");
        let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap_or_default();
        let data = body.get("data").cloned().unwrap_or_default();
        let text =
            |name: &str| data.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let version = data.get("version").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let (order, version) = (text("id"), u32::try_from(version).unwrap_or_default());
        let last = self.announced_versions.insert(order.clone(), version).unwrap_or_default();
        if version != last + 1 {
            return broken("announced", format!("{order} is announced at version {version} after {last}"));
        }
        match order.parse() {
            Ok(id) => self.check_status(&id, version, &text("status").replace("canceled", "expired")),
            Err(error) => broken("announced", format!("{error}: {body}")),
        }
    }

    /// Orders whose last version is not announced.
    pub(crate) fn unannounced(&self) -> Vec<String> {
        let last = self.orders.values().filter_map(|history| history.last());
        let missing = last.filter(|(_, order)| {
            self.announced_versions.get(order.id().as_str()).copied() != Some(order.version())
        });
        missing.map(|(_, order)| format!("{} v{}", order.id(), order.version())).collect()
    }

    pub(crate) fn last_published(&self) -> Option<Position> {
        self.announced_through
    }

    /// Whatever was acknowledged is in the log, now and at the end.
    pub(crate) fn check_acknowledged(&mut self) {
        let lost = self.acknowledged.values().find(|order| self.order(order).is_none()).cloned();
        if let Some(order) = lost {
            self.keep(broken("acknowledged", format!("{order} was answered, and is not in the log")));
        }
    }
}
