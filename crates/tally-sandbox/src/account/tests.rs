use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_750_000_000);
const ETHER: u128 = 1_000_000_000_000_000_000;

fn usdt() -> Token {
    Token { symbol: "USDT".parse().unwrap(), contract: Address([0xda; 20]), decimals: 6 }
}

fn chain() -> SimulatedAccountChain {
    SimulatedAccountChain::new(31_337, vec![usdt()], 7, NOW, 110)
}

fn payee(n: u8) -> Address {
    Address([n; 20])
}

fn pay(chain: &mut SimulatedAccountChain, n: u8, token: Option<Address>, mode: AccountMode) -> Hash {
    let amount = if token.is_some() { 5_000_000 } else { ETHER };
    chain.pay(Payment { token, to: payee(n), amount, mode }).unwrap()
}

fn check(chain: &SimulatedAccountChain) {
    for pair in chain.active.windows(2) {
        let [parent, block] = pair else { unreachable!() };
        assert_eq!((block.parent, block.number), (parent.hash, parent.number + 1));
        assert!(block.timestamp > parent.timestamp);
        let again = AccountBlock::new(Some(parent), block.timestamp, block.extra.clone(), block.txs.clone());
        assert_eq!(again.hash, block.hash);
    }
}

#[test]
fn payments_of_every_mode_move_what_they_should() {
    let token = Some(usdt().contract);
    let rows = [
        ("ether", None, AccountMode::Normal, ETHER, 0, 0, None),
        ("ether by contract", None, AccountMode::Contract, ETHER, 0, 1, None),
        ("failed", None, AccountMode::Failed, 0, 0, 0, Some("execution reverted")),
        ("reverted", None, AccountMode::Reverted, 0, 0, 1, Some("execution reverted")),
        ("token", token, AccountMode::Normal, 5_000_000, 1, 0, None),
        ("token by contract", token, AccountMode::Contract, 5_000_000, 1, 1, None),
        ("failed token", token, AccountMode::Failed, 0, 0, 0, Some("execution reverted")),
    ];
    for (name, token, mode, moved, logs, calls, error) in rows {
        let mut chain = chain();
        let hash = pay(&mut chain, 1, token, mode);
        assert_eq!(chain.pending().len(), 1, "{name}");
        assert_eq!(chain.balance(token, payee(1), 110), 0, "{name}");
        let block = chain.mine(NOW);
        let (found, place) = chain.mined(&hash).unwrap();
        assert_eq!((found.hash, place), (block.hash, 0), "{name}");
        assert_eq!(chain.balance(token, payee(1), 111), moved, "{name}");
        assert_eq!(chain.balance(token, payee(1), 110), 0, "{name}");
        let (tx, receipt) = (&block.txs[0], &block.receipts[0]);
        let trace = tx.trace();
        assert_eq!((receipt.logs.len(), trace.calls.len(), trace.error), (logs, calls, error), "{name}");
        assert_eq!(receipt.succeeded, error.is_none(), "{name}");
        let cost = tx.fee() + if token.is_none() { moved } else { 0 };
        assert_eq!(chain.balance(None, tx.sender.address, 111), ENDOWMENT_WEI - cost, "{name}");
        assert_eq!(block.bloom != [0; 256], logs > 0, "{name}");
        check(&chain);
    }
}

#[test]
fn a_reorg_mines_again_what_is_not_dropped() {
    let mut chain = chain();
    let kept = pay(&mut chain, 1, None, AccountMode::Normal);
    let dropped = pay(&mut chain, 2, None, AccountMode::Normal);
    chain.mine(NOW);
    let old = chain.mine(NOW);
    let waiting = pay(&mut chain, 3, None, AccountMode::Normal);
    assert!(chain.reorg(1, &[kept], NOW).is_err(), "it is below the fork");
    assert!(chain.reorg(113, &[], NOW).is_err());
    let done = chain.reorg(2, &[dropped], NOW).unwrap();
    assert_eq!((done.fork_height, done.height, done.dropped), (110, 113, vec![dropped]));
    assert_eq!([1, 2].map(|n| chain.balance(None, payee(n), 113)), [ETHER, 0]);
    assert_eq!(chain.mined(&kept).unwrap().0.number, 111);
    assert!(chain.mined(&dropped).is_none());
    assert_eq!(chain.pending().iter().map(|tx| tx.hash).collect::<Vec<_>>(), [waiting]);
    assert!(chain.block(&old.hash).is_some() && chain.at(112).unwrap().hash != old.hash);
    check(&chain);
    assert_eq!(chain.reorg(1, &[waiting], NOW).unwrap().dropped, [waiting]);
    assert_eq!(chain.pending().len(), 0);
}

#[test]
fn a_replacement_has_the_same_account_and_nonce() {
    let mut chain = chain();
    let old = pay(&mut chain, 1, None, AccountMode::Normal);
    let sender = chain.pending()[0].sender.address;
    let new = chain.replace(&old).unwrap();
    let replaced = &chain.pending()[0];
    assert_eq!((replaced.hash, replaced.sender.address, replaced.nonce), (new, sender, 0));
    assert!(replaced.gas_price > GAS_PRICE && replaced.payment.to != payee(1));
    chain.mine(NOW);
    assert_eq!(chain.balance(None, payee(1), 111), 0);
    assert_eq!((chain.sent(sender, 110), chain.sent(sender, 111)), (0, 1));
    assert!(chain.replace(&new).unwrap_err().to_string().contains("it is mined"));
    assert!(chain.replace(&old).unwrap_err().to_string().contains("not pending"));
}

#[test]
fn the_faucet_has_an_end_and_a_block_too() {
    let mut chain = chain();
    let payment = Payment { token: None, to: payee(1), amount: ENDOWMENT_WEI, mode: AccountMode::Normal };
    assert!(matches!(chain.pay(payment), Err(SandboxError::FaucetEmpty { .. })), "the fee is missing");
    for _ in 0..1_430 {
        pay(&mut chain, 1, None, AccountMode::Normal);
    }
    let block = chain.mine(NOW);
    assert_eq!((block.txs.len(), chain.pending().len()), (1_428, 2));
    assert!(block.gas_used <= GAS_LIMIT);
}

#[test]
fn logs_are_numbered_through_the_block() {
    let mut chain = chain();
    let token = Some(usdt().contract);
    for mode in [AccountMode::Normal, AccountMode::Failed, AccountMode::Contract] {
        pay(&mut chain, 1, token, mode);
    }
    let block = chain.mine(NOW);
    assert_eq!(block.receipts.iter().map(|receipt| receipt.first_log).collect::<Vec<_>>(), [0, 1, 1]);
    let gas: Vec<_> = block.receipts.iter().map(|receipt| receipt.cumulative_gas).collect();
    assert_eq!((gas.is_sorted(), gas.last()), (true, Some(&block.gas_used)));
}
