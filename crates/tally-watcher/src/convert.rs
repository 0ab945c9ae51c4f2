//! What the node's port says, as the tracker takes it.

use tally_ports::{Credit, Header, ScannedBlock, Spend};
use tally_tracker as tracker;
use tally_types::{OutPoint, Position};

pub(crate) fn header(header: &Header) -> tracker::Header {
    tracker::Header { block: header.block, prev: header.prev, time: header.time }
}

pub(crate) fn to_port(header: &tracker::Header) -> Header {
    Header { block: header.block, prev: header.prev, time: header.time }
}

pub(crate) fn credits(credits: Vec<Credit>) -> Vec<tracker::Credit> {
    let credit = |credit: Credit| tracker::Credit {
        key: credit.key,
        currency: credit.currency,
        amount: credit.amount,
        script: credit.script,
        inputs: credit.inputs,
        difference: credit.difference,
    };
    credits.into_iter().map(credit).collect()
}

pub(crate) fn spends(spends: &[Spend]) -> Vec<tracker::Spend> {
    spends.iter().map(|spend| tracker::Spend { outpoint: spend.outpoint, by: spend.by }).collect()
}

pub(crate) fn scanned(block: ScannedBlock, watched_through: Position) -> tracker::Scanned {
    tracker::Scanned {
        header: header(&block.header),
        credits: credits(block.credits),
        spends: spends(&block.spends),
        method: block.method,
        watched_through,
    }
}

pub(crate) fn outpoint(outpoint: &OutPoint) -> tally_matcher::OutPoint {
    tally_matcher::OutPoint { txid: outpoint.txid.internal_bytes(), vout: outpoint.vout }
}
