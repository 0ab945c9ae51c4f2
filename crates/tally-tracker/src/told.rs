//! What of a block's payments is told already, where a chain has more than one way to find them.
//!
//! Found as a transfer a payment has one identity, as the rest of a sum another, and both may come: from another node,
//! by a rescan, in either order. A sum says which blocks it is over ([`Difference`](tally_types::Difference)). So:
//! - A transfer in the blocks of a sum that is told is told: the sum had it.
//! - Of a sum, what is told in its blocks is taken off, found in whatever way. What is left is one payment, dated at the
//!   sum's last block.
//! - A transfer in a block that is known to have paid as much to the same script by an identity that is not found now
//!   has another name with another node, and is told.
//!
//! Not here: where what is told is kept (`tally-watcher`), and payments that name what they spend: they have one identity.

use std::collections::BTreeSet;

use tally_types::{BaseUnits, BlockRef, Currency, DepositKey, Height, Script};

use crate::Credit;

/// A payment that the log has in a block of the branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its identity.
    pub key: DepositKey,
    /// The block.
    pub block: BlockRef,
    /// What was paid.
    pub currency: Currency,
    /// How much.
    pub amount: BaseUnits,
    /// To where.
    pub script: Script,
    /// The first block of the sum that it is the rest of.
    pub since: Option<Height>,
}

impl Told {
    fn is_to(&self, credit: &Credit) -> bool {
        self.script == credit.script && self.currency == credit.currency
    }

    /// Whether it is the rest of a sum over blocks of which this is one.
    fn has_summed(&self, height: Height) -> bool {
        self.since.is_some_and(|since| since <= height && height <= self.block.height)
    }

    /// Whether it was paid in these blocks, or perhaps was.
    fn is_within(&self, since: Height, to: Height) -> bool {
        self.since.unwrap_or(self.block.height) <= to && self.block.height >= since
    }
}

/// What is found in a block and not told, by all that is told to the scripts that it pays.
pub fn untold(at: BlockRef, found: Vec<Credit>, told: &[Told]) -> Vec<Credit> {
    let keys: BTreeSet<DepositKey> = found.iter().map(|credit| credit.key.clone()).collect();
    let is_known = |credit: &Credit| told.iter().any(|one| one.key == credit.key && one.block == at);
    let (sums, mut left): (Vec<Credit>, Vec<Credit>) =
        found.into_iter().filter(|credit| !is_known(credit)).partition(|credit| credit.difference.is_some());
    // Each stands for one that is found now at most.
    let mut otherwise: Vec<&Told> =
        told.iter().filter(|one| one.block == at && !keys.contains(&one.key)).collect();
    left.retain(|credit| {
        if told.iter().any(|one| one.is_to(credit) && one.has_summed(at.height)) {
            return false;
        }
        let same = otherwise.iter().position(|one| one.is_to(credit) && one.amount == credit.amount);
        same.map(|same| otherwise.swap_remove(same)).is_none()
    });
    for sum in sums {
        let rest = rest_of(&sum, at, &left, told);
        if !rest.is_zero() {
            left.push(Credit { amount: rest, ..sum });
        }
    }
    left
}

/// What is left of a sum without what is told in its blocks and what is found beside it.
fn rest_of(sum: &Credit, at: BlockRef, beside: &[Credit], told: &[Told]) -> BaseUnits {
    let Some(difference) = sum.difference else { return sum.amount };
    let told = told.iter().filter(|one| one.is_to(sum) && one.is_within(difference.since, at.height));
    let beside = beside.iter().filter(|one| one.script == sum.script && one.currency == sum.currency);
    let known = told.map(|one| one.amount).chain(beside.map(|one| one.amount));
    let known = known.fold(BaseUnits::ZERO, BaseUnits::saturating_add);
    let rest = difference.received.checked_sub(known).unwrap_or(BaseUnits::ZERO);
    // The source may know of transfers that are still to be told.
    rest.min(sum.amount)
}

#[cfg(test)]
mod tests;
