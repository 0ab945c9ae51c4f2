"""Everything killed with SIGKILL between payment and confirmation, and started again: the same end."""

import pytest

VARIANTS = [
    pytest.param("embedded", False, id="one-process-embedded"),
    pytest.param("nats", False, id="one-process-nats"),
    pytest.param("nats", True, id="apart-nats"),
]


def settled(order):
    """What must not depend on a kill."""
    answer = order.query()
    names = ("status", "pay_amount", "pay_currency", "price_amount", "out_trade_id", "exception")
    return {name: answer.get(name) for name in names}


@pytest.mark.parametrize("log, apart", VARIANTS)
def test_killed_between_payment_and_confirmation(open_shop, log, apart):
    shop = open_shop(log=log, apart=apart, name=f"kill-{log}")
    # what an undisturbed order ends as, for each chain
    calm = {chain: shop.order(chain).checkout() for chain in shop.nodes}
    for order in calm.values():
        order.node.pay(order.target, order.amount)
        order.node.mine(6)
    wanted = {}
    for chain, order in calm.items():
        order.wait("complete")
        wanted[chain] = settled(order)

    orders = {chain: shop.order(chain).checkout() for chain in shop.nodes}
    for order in orders.values():
        order.node.pay(order.target, order.amount)
    for order in orders.values():
        if order.coin.mempool:
            order.wait_paid()
    shop.tally.kill()
    for node in shop.nodes.values():
        node.mine(6)
    shop.start()
    for chain, order in orders.items():
        order.wait("complete")
        same = settled(order)
        assert {**same, "out_trade_id": ""} == {**wanted[chain], "out_trade_id": ""}
        order.check_told(expected=("complete",))
        order.check_published("complete")


@pytest.mark.parametrize("log, apart", VARIANTS)
def test_killed_again_and_again(open_shop, log, apart):
    shop = open_shop(log=log, apart=apart, only=["ltc", "eth"], name=f"again-{log}")
    orders = [shop.order(chain).checkout() for chain in shop.nodes]
    # paid while down
    shop.tally.kill()
    for order in orders:
        order.node.pay(order.target, order.amount)
    shop.start()
    orders[0].wait_paid()
    shop.tally.kill()
    for order in orders:
        order.node.mine(1)
    shop.start()
    for order in orders:
        order.wait("confirmed")
    shop.tally.kill()
    shop.start()
    for order in orders:
        assert order.wait("confirmed")["status"] == "confirmed"
        order.node.mine(5)
    for order in orders:
        order.wait("complete")
        order.check_told(expected=("complete",))


def test_a_reorg_while_everything_is_down(open_shop):
    shop = open_shop(only=["btc", "ltc", "bch", "eth"], name="down-reorg")
    orders = [shop.order(chain).checkout() for chain in shop.nodes]
    txids = {}
    for order in orders:
        txids[order.chain] = order.node.pay(order.target, order.amount)
        order.mine_to("confirmed", 2)
    shop.tally.kill()
    for order in orders:
        order.node.reorg_out(txids[order.chain])
    shop.start()
    for order in orders:
        order.wait_fallen()
        order.node.resubmit(txids[order.chain])
        order.mine_to("confirmed", 1)
        order.finish()


def test_three_replicas_lose_one_server(open_shop):
    shop = open_shop(log="nats", replicas=3, only=["ltc"], name="replicas")
    order = shop.order("ltc").checkout()
    order.node.pay(order.target, order.amount)
    order.wait_paid()
    shop.nats.kill(0)
    order.mine_to("confirmed", 1, timeout=90)
    order.node.mine(5)
    order.wait("complete", timeout=90)
    shop.nats.restart(0)
    order.check_told(expected=("complete",))


def test_the_log_server_killed_and_started_again(open_shop):
    shop = open_shop(log="nats", only=["ltc"], name="nats-kill")
    order = shop.order("ltc").checkout()
    order.node.pay(order.target, order.amount)
    order.wait_paid()
    shop.nats.kill(0)
    order.node.mine(1)
    shop.nats.restart(0)
    order.wait_told("confirmed", timeout=90)
    order.finish()


def test_sigterm_ends_in_order(open_shop):
    shop = open_shop(only=["ltc"], name="sigterm")
    assert set(shop.tally.stop().values()) == {0}
