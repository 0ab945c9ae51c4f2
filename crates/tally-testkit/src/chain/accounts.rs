//! Chains of accounts: payments have no outputs, and those by contracts are found in one of two ways.
//!
//! Not here: gaps in a node's state, which its adapter settles (`tally-chains`).

use std::collections::BTreeMap;

use tally_ports::Credit;
use tally_types::{BaseUnits, BlockRef, Currency, DepositKey, Difference, Script, TxId};

use super::Payment;

/// How payments by contracts are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// By call traces: each has its own identity, wherever it is mined.
    Traces,
    /// By differences of balances: one sum for each address and block.
    Balances,
}

impl Finding {
    /// As `block_connected` names it.
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Balances => "balances",
        }
    }

    /// What a block's payments are told as.
    pub(super) fn credits<'a>(
        self,
        currency: &Currency,
        block: BlockRef,
        payments: impl Iterator<Item = &'a Payment>,
    ) -> Vec<Credit> {
        let credit = |key: DepositKey, amount: BaseUnits, script: &Script| Credit {
            key,
            currency: currency.clone(),
            amount,
            script: script.clone(),
            inputs: Vec::new(),
            difference: None,
        };
        let (mut credits, mut sums) = (Vec::new(), BTreeMap::<&Script, BaseUnits>::new());
        let mut received = BTreeMap::<&Script, BaseUnits>::new();
        for payment in payments {
            let Payment { txid, script, amount, .. } = payment;
            let all = received.entry(script).or_default();
            *all = all.saturating_add(*amount);
            match (payment.by_contract, self) {
                (true, Self::Balances) => {
                    let sum = sums.entry(script).or_default();
                    *sum = sum.saturating_add(*amount);
                }
                (true, Self::Traces) => {
                    credits.push(credit(DepositKey { txid: *txid, slot: "0_1".to_owned() }, *amount, script));
                }
                (false, _) => {
                    let key = DepositKey { txid: *txid, slot: "value".to_owned() };
                    credits.push(credit(key, *amount, script));
                }
            }
        }
        for (script, sum) in sums {
            let txid = TxId::from_display(*block.hash.display_bytes());
            let received = received.get(script).copied().unwrap_or(sum);
            let difference = Some(Difference { since: block.height, received });
            let rest = credit(DepositKey { txid, slot: format!("balance-{script}") }, sum, script);
            credits.push(Credit { difference, ..rest });
        }
        credits
    }
}

#[cfg(test)]
mod tests {
    use tally_ports::BlockSource;

    use super::*;
    use crate::chain::tests::watching;
    use crate::{FakeChain, currency, script};

    #[tokio::test]
    async fn a_block_is_told_of_in_two_ways() {
        let chain = FakeChain::accounts(currency("ETH"));
        let watch = watching(&[7, 8]);
        for (to, units) in [(7, 1), (7, 2), (8, 4), (9, 8)] {
            chain.pay_by_contract(&script(to), units);
        }
        chain.pay(&script(7), 16);
        assert_eq!(chain.mempool(&Default::default(), &watch).await.unwrap(), None);
        let block = chain.mine(1);
        let header = chain.header(&block.hash).await.unwrap().unwrap();
        let mut told = Vec::new();
        for finding in [Finding::Traces, Finding::Balances] {
            chain.find_by(finding);
            let scanned = chain.scan(&header, &watch).await.unwrap();
            assert_eq!(scanned.method.as_deref(), Some(finding.method()));
            assert!(scanned.credits.iter().all(|credit| credit.inputs.is_empty()));
            let units = |slot: &str| -> Vec<u128> {
                let found = scanned.credits.iter().filter(|credit| credit.key.slot.starts_with(slot));
                found.map(|credit| credit.amount.units()).collect()
            };
            told.push((units("value"), units("0_1"), units("balance")));
        }
        let balances = &mut told[1].2;
        balances.sort_unstable();
        assert_eq!(told, [(vec![16], vec![1, 2, 4], vec![]), (vec![16], vec![], vec![3, 4])]);
    }
}
