//! Balances of ether and tokens at every height of the active branch.

use std::collections::HashMap;

use super::Address;

/// Whose balance of what: a token by its contract, ether by none.
type Holding = (Option<Address>, Address);

/// Balances with their history.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Balance from a height on, ascending.
    history: HashMap<Holding, Vec<(u64, u128)>>,
}

impl Ledger {
    /// What somebody held after the block at a height.
    pub(crate) fn balance(&self, token: Option<Address>, owner: Address, height: u64) -> u128 {
        let steps = self.history.get(&(token, owner)).map(Vec::as_slice).unwrap_or_default();
        let after = steps.partition_point(|(from, _)| *from <= height);
        after.checked_sub(1).and_then(|place| steps.get(place)).map_or(0, |(_, balance)| *balance)
    }

    /// Gives somebody what he had from the beginning.
    pub(crate) fn endow(&mut self, token: Option<Address>, owner: Address, amount: u128) {
        self.history.insert((token, owner), vec![(0, amount)]);
    }

    /// Moves an amount in the block at `height`, which is the highest so far. `to` none: it is burnt. Whoever
    /// has less gives what he has.
    pub(crate) fn transfer(
        &mut self,
        token: Option<Address>,
        from: Address,
        to: Option<Address>,
        amount: u128,
        height: u64,
    ) {
        let held = self.balance(token, from, height);
        let moved = amount.min(held);
        self.set(token, from, held.saturating_sub(moved), height);
        if let Some(to) = to {
            let held = self.balance(token, to, height);
            self.set(token, to, held.saturating_add(moved), height);
        }
    }

    /// Forgets what happened above a height.
    pub(crate) fn rewind(&mut self, height: u64) {
        self.history.retain(|_, steps| {
            steps.truncate(steps.partition_point(|(from, _)| *from <= height));
            !steps.is_empty()
        });
    }

    fn set(&mut self, token: Option<Address>, owner: Address, balance: u128, height: u64) {
        let steps = self.history.entry((token, owner)).or_default();
        match steps.last_mut() {
            Some((from, last)) if *from == height => *last = balance,
            _ => steps.push((height, balance)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balances_have_a_history_that_can_be_rewound() {
        let [alice, bob] = [1, 2].map(|byte| Address([byte; 20]));
        let mut ledger = Ledger::default();
        ledger.endow(None, alice, 100);
        ledger.transfer(None, alice, Some(bob), 30, 5);
        ledger.transfer(None, alice, None, 1, 5);
        ledger.transfer(None, alice, Some(bob), 10, 6);
        let at = |ledger: &Ledger, height| [alice, bob].map(|who| ledger.balance(None, who, height));
        assert_eq!([4, 5, 6, 7].map(|height| at(&ledger, height)), [[100, 0], [69, 30], [59, 40], [59, 40]]);
        ledger.rewind(5);
        assert_eq!(at(&ledger, 7), [69, 30]);
        assert_eq!(ledger.balance(Some(alice), bob, 7), 0);
    }
}
