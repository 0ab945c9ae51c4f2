//! Public messages: CloudEvents 1.0 in JSON, on the public subjects.
//!
//! Ids follow from what is told, so the same message again has the same id. Not here: publishing.

use serde::Serialize;
use tally_events::{AssetRate, Fact, Recorded, SOURCE};
use tally_order::{Order, PublicDeposit};
use tally_ports::{Message, PortError, VersionReached};
use tally_types::{BlockRef, MerchantId, OrderId, Position, Timestamp, TxId};

#[derive(Serialize)]
struct Envelope<'a, D> {
    specversion: &'static str,
    id: &'a str,
    source: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    data: D,
}

/// A deposit as of one thing that happened to it.
#[derive(Serialize)]
struct DepositData {
    /// What happened: the last word of the subject.
    event: &'static str,
    order_id: OrderId,
    merchant_id: MerchantId,
    own_id: String,
    /// The order's version at that moment.
    version: u32,
    address: Option<String>,
    #[serde(flatten)]
    deposit: PublicDeposit,
    /// The transaction that took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_by: Option<TxId>,
}

/// `tally.v1.status.<merchant_id>.<order_id>.<status>`, with the whole order as it was at that version.
pub(super) fn status(reached: &VersionReached) -> Result<Message, PortError> {
    let order = reached.order.public(reached.version);
    let subject = format!("tally.v1.status.{}.{}.{}", order.merchant_id, order.id, order.status);
    let id = format!("{}.{}", order.id, reached.version);
    message(subject, id, "tally.v1.status", order.updated_at, Some(reached.position), &order)
}

/// `tally.v1.deposit.<chain>.<merchant_id>.<order_id>.<event>`; `None` for other facts, and for a deposit that
/// the order does not know.
pub(super) fn deposit(recorded: &Recorded, order: &Order) -> Result<Option<Message>, PortError> {
    let happened = match &recorded.event.fact {
        Fact::DepositSeen(fact) => Happened::new("seen", &fact.deposit.key).at("mempool", None, 0),
        Fact::DepositMined(fact) => {
            Happened::new("mined", &fact.deposit.key).at("mined", Some(fact.block), 1)
        }
        Fact::DepositUnmined(fact) => Happened::new("unmined", &fact.deposit).at(
            if fact.in_mempool { "mempool" } else { "gone" },
            None,
            0,
        ),
        Fact::DepositReplaced(fact) => {
            let happened = Happened::new("replaced", &fact.deposit).at("gone", None, 0);
            Happened { replaced_by: Some(fact.by), ..happened }
        }
        Fact::DepositVanished(fact) => Happened::new("vanished", &fact.deposit).at("gone", None, 0),
        Fact::DepositConfirmed(fact) => Happened {
            confirmations: Some(u64::from(fact.depth)),
            ..Happened::new("confirmed", &fact.deposit)
        },
        _ => return Ok(None),
    };
    let known = order.public(order.version()).deposits;
    let Some(mut deposit) = known.into_iter().find(|known| happened.is_of(known)) else { return Ok(None) };
    if let Some((stage, block)) = happened.place {
        deposit.stage = stage;
        deposit.height = block.map(|block| block.height);
        deposit.block = block.map(|block| block.hash);
    }
    deposit.confirmations = happened.confirmations.unwrap_or(deposit.confirmations);
    let subject =
        format!("tally.v1.deposit.{}.{}.{}.{}", deposit.chain, order.merchant(), order.id(), happened.event);
    let version = order.versions().rfind(|version| version.position <= recorded.position);
    let data = DepositData {
        event: happened.event,
        order_id: order.id().clone(),
        merchant_id: order.merchant(),
        own_id: order.own_id().to_owned(),
        version: version.map_or(1, |version| version.number),
        address: order
            .quote_by_number(deposit.quote)
            .and_then(|quote| quote.terms().addresses.first().cloned()),
        deposit,
        replaced_by: happened.replaced_by,
    };
    // A fact's id alone may come twice: a block that left may come back.
    let id = format!("{}.{}", recorded.event.id, recorded.position);
    message(subject, id, "tally.v1.deposit", recorded.event.time, Some(recorded.position), data).map(Some)
}

/// `tally.v1.rate.<asset>`, one for each asset.
pub(super) fn rates(recorded: &Recorded) -> Result<Vec<Message>, PortError> {
    let Fact::RatesPublished(published) = &recorded.event.fact else { return Ok(Vec::new()) };
    let one = |rate: &AssetRate| {
        let subject = format!("tally.v1.rate.{}", rate.asset);
        let id = format!("{}.{}", recorded.event.id, rate.asset);
        message(subject, id, "tally.v1.rate", published.at, None, rate)
    };
    published.assets.iter().map(one).collect()
}

fn message(
    subject: String,
    id: String,
    kind: &'static str,
    time: Timestamp,
    position: Option<Position>,
    data: impl Serialize,
) -> Result<Message, PortError> {
    let envelope = Envelope {
        specversion: "1.0",
        id: &id,
        source: SOURCE,
        kind,
        subject: &subject,
        time,
        datacontenttype: "application/json",
        data,
    };
    let body = serde_json::to_vec(&envelope).map_err(|error| {
        PortError::persistent(format!("message {id} cannot be written as JSON")).because(error)
    })?;
    Ok(Message { subject, id, position, body })
}

/// What a fact says about a deposit.
struct Happened<'a> {
    event: &'static str,
    key: &'a tally_types::DepositKey,
    /// Where the deposit is by it, where the fact says so.
    place: Option<(&'static str, Option<BlockRef>)>,
    confirmations: Option<u64>,
    replaced_by: Option<TxId>,
}

impl<'a> Happened<'a> {
    fn new(event: &'static str, key: &'a tally_types::DepositKey) -> Self {
        Self { event, key, place: None, confirmations: None, replaced_by: None }
    }

    fn at(self, stage: &'static str, block: Option<BlockRef>, confirmations: u64) -> Self {
        Self { place: Some((stage, block)), confirmations: Some(confirmations), ..self }
    }

    fn is_of(&self, deposit: &PublicDeposit) -> bool {
        deposit.txid == self.key.txid && deposit.slot == self.key.slot
    }
}
