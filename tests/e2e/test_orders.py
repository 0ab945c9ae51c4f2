"""An order made over HTTP and paid on each real chain, to its end, on both logs."""

from decimal import Decimal

import pytest

from stand import codec
from stand.core import has_mweb

CHAINS = ["btc", "ltc", "bch", "eth"]


@pytest.mark.parametrize("chain", CHAINS)
def test_an_order_is_paid_and_completes(shop, chain):
    order = shop.order(chain)
    shop.sink.wait_status(order.id, "new", log=shop.tally.tail)
    order.checkout()
    order.wait_told("pending")
    order.node.pay(order.target, order.amount)
    if order.coin.mempool:
        order.wait_paid()
    order.mine_to("confirmed", 1)
    order.finish()
    # told one by one, nothing left out: nothing was in the way
    every = ["new", "pending"] + (["paid"] if order.coin.mempool else []) + ["confirmed", "complete"]
    assert shop.sink.statuses(order.id) == every


@pytest.mark.parametrize("chain", CHAINS)
def test_two_payments_add_up(shop, chain):
    order = shop.order(chain, price="40").checkout()
    part = order.amount // 2
    order.node.pay(order.target, part)
    order.node.mine(1)
    half = order.wait_told("pending", also=lambda answer: answer["received"] > 0)
    assert Decimal(str(half["received"])) * 10**order.decimals == part, half
    assert half["exception"] == "none", half
    order.node.pay(order.target, order.amount - part)
    order.mine_to("confirmed", 1)
    order.finish()


@pytest.mark.parametrize("chain", CHAINS)
def test_more_than_asked_for_is_overpaid(shop, chain):
    order = shop.order(chain).checkout()
    paid = order.amount + 10 ** (order.decimals - 3)
    order.node.pay(order.target, paid)
    order.mine_to("confirmed", 1)
    order.finish(exceptions=["overpaid"], received=paid)


@pytest.mark.parametrize("chain", CHAINS)
def test_a_reorg_takes_the_payment_out_and_it_is_mined_again(shop, chain):
    order = shop.order(chain).checkout()
    txid = order.node.pay(order.target, order.amount)
    order.mine_to("confirmed", 2)
    old = order.node.block_of(txid)
    order.node.reorg_out(txid)
    order.wait_fallen()
    order.node.resubmit(txid)
    order.mine_to("confirmed", 1)
    assert order.node.block_of(txid) not in (None, old)
    order.finish()
    shop.subscriber.wait_deposit(order.id, "unmined", log=shop.tally.tail)
    assert ["confirmed", "confirmed"] == [w for w in shop.sink.statuses(order.id) if w == "confirmed"][:2]


@pytest.mark.parametrize("chain", CHAINS)
def test_a_reorg_moves_the_payment_to_another_block(shop, chain):
    order = shop.order(chain).checkout()
    txid = order.node.pay(order.target, order.amount)
    order.mine_to("confirmed", 1)
    old = order.node.block_of(txid)
    new = order.node.reorg(txid, at=1)
    assert new != old
    shop.subscriber.wait_deposit(
        order.id, "mined", log=shop.tally.tail, also=lambda data: data["block"].removeprefix("0x") == new.removeprefix("0x")
    )
    order.wait_told("confirmed", also=lambda answer: answer["exception"] == "none")
    order.finish()


def test_a_reorg_to_a_branch_of_equal_length(shop):
    order = shop.order("eth").checkout()
    txid = order.node.pay(order.target, order.amount)
    order.mine_to("confirmed", 2)
    order.node.reorg_out(txid, extra=0)
    order.wait_fallen()
    order.node.resubmit(txid)
    order.mine_to("confirmed", 1)
    order.finish()


def test_ltc_paid_in_a_block_with_mweb_data(shop):
    order = shop.order("ltc").checkout()
    _, block = order.node.pay_mweb_mix(order.target, order.amount)
    assert has_mweb(order.node.block(block))
    order.wait_told("confirmed")
    order.finish()


def test_ltc_paid_by_peg_out(shop):
    order = shop.order("ltc").checkout()
    order.seen = False
    txid = order.node.pegout(order.target, order.amount)
    # a peg-out has no mempool stage: the txid there is not the one that will pay
    [block] = order.node.mine(1)
    hogex, _ = order.node.pegout_in(block, order.target)
    assert hogex != txid
    order.wait_told("confirmed")
    order.finish()
    assert {heard.body["data"]["txid"] for heard in shop.subscriber.of(order.id)[1]} == {hogex}


def test_bch_paid_with_cashtokens_in_front_of_the_script(shop):
    order = shop.order("bch").checkout()
    order.node.pay_cashtokens(order.target, order.amount)
    order.wait_paid()
    order.mine_to("confirmed", 1)
    order.finish()


def test_bch_shows_a_cashaddr_of_its_network(shop):
    order = shop.order("bch").checkout()
    prefix, kind, _ = codec.cashaddr_decode(order.address)
    assert (prefix, kind) == ("bchreg", 0)


@pytest.mark.parametrize("chain, hrp", [("btc", "bcrt"), ("ltc", "rltc")])
def test_segwit_addresses_are_of_their_network(shop, chain, hrp):
    order = shop.order(chain).checkout()
    assert codec.segwit_decode(order.address)[:2] == (hrp, 0)


def test_eth_paid_by_a_contract(shop):
    order = shop.order("eth").checkout()
    order.node.pay_by_contract(order.target, order.amount)
    order.mine_to("confirmed", 1)
    order.finish()


def test_eth_inner_payment_that_was_undone_counts_for_nothing(shop):
    order = shop.order("eth").checkout()
    order.node.pay_by_contract_reverted(order.target, order.amount)
    order.node.mine(2)
    witness = shop.order("eth").checkout()
    witness.node.pay(witness.target, witness.amount)
    witness.mine_to("confirmed", 1)
    untouched = order.query()
    assert (untouched["status"], untouched["received"]) == ("pending", 0), untouched


def test_eth_is_complete_once_the_chain_calls_its_block_final(open_shop):
    shop = open_shop(only=["eth"], settings={"finalized": True})
    order = shop.order("eth").checkout()
    txid = order.node.pay(order.target, order.amount)
    order.mine_to("confirmed", 1)
    paid_at = order.node.height_of(order.node.block_of(txid))

    def final():
        return int(order.node.rpc("eth_getBlockByNumber", "finalized", False)["number"], 16)

    order.node.mine(12)
    while final() < paid_at - 1:
        order.node.mine(1)
    # many confirmations more than `complete` asks for, and the block below is final
    shop.tally.wait_height("eth", order.node.height())
    assert order.query()["status"] == "confirmed"
    order.node.mine(1)
    assert final() >= paid_at
    order.wait_told("complete")
    events = [heard.tokens[-1] for heard in shop.subscriber.of(order.id)[1]]
    assert "confirmed" in events, events


def test_erc20_paid(shop):
    order = shop.order("eth", price="25", asset="USDT").checkout()
    order.node.transfer(shop.token, order.target, order.amount)
    order.mine_to("confirmed", 1)
    order.finish()


def test_erc20_of_another_contract_counts_for_nothing(shop):
    order = shop.order("eth", price="25", asset="USDT").checkout()
    other = order.node.token(decimals=18)
    order.node.transfer(other, order.target, order.amount)
    order.node.mine(2)
    # what is taken for a payment would be overpaid in the end
    order.node.transfer(shop.token, order.target, order.amount)
    order.mine_to("confirmed", 1)
    order.finish()


@pytest.mark.parametrize("kind", ["p2tr", "p2pkh", "p2sh-p2wpkh"])
def test_btc_script_kinds(open_shop, kind):
    shop = open_shop(only=["btc"], kinds={"btc": kind}, name=f"kind-{kind}")
    order = shop.order("btc").checkout()
    order.node.pay(order.target, order.amount)
    order.wait_paid()
    order.mine_to("confirmed", 1)
    order.finish()
