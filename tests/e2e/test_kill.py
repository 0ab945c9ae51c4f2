"""Everything killed with SIGKILL between payment and confirmation, and started again: the same end."""

import shutil
import threading
import time

import pytest
import requests

from support import deepay
from support.tally import Tally

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


@pytest.fixture
def plain():
    """An installation without chains."""
    one = Tally(name="kill")
    yield one
    one.close()


def create_until_refused(client, prefix, acknowledged):
    """Creates orders until nobody answers; notes those that were acknowledged, with their ids."""
    number = 0
    while True:
        own_id = f"{prefix}-{number}"
        try:
            acknowledged[own_id] = client.create(own_id, "10")["transaction_id"]
        except (requests.RequestException, deepay.Refused):
            return
        number += 1


@pytest.mark.parametrize("remains", ["all", "no-read-model"])
def test_killed_while_orders_are_created(plain, remains):
    merchant = plain.create_merchant()
    client = deepay.Client(plain.http, merchant, plain.create_key(merchant))
    plain.start()
    acknowledged = {}
    for kill in range(3):
        before = len(acknowledged)
        workers = [
            threading.Thread(target=create_until_refused, args=(client, f"{kill}-{worker}", acknowledged))
            for worker in range(6)
        ]
        for worker in workers:
            worker.start()
        time.sleep(0.7 + 0.1 * kill)
        plain.kill()
        for worker in workers:
            worker.join()
        assert len(acknowledged) > before, plain.tail()
        if remains == "no-read-model":
            shutil.rmtree(plain.data / "model")
        plain.start()
        for own_id, order in acknowledged.items():
            assert client.call("/order/query", out_trade_id=own_id)["transaction_id"] == order, own_id
        # the same request again is the same order, also where its answer was cut off
        for worker in range(6):
            again = [client.create(f"{kill}-{worker}-0", "10")["transaction_id"] for _ in range(2)]
            assert again == [acknowledged.get(f"{kill}-{worker}-0", again[0])] * 2
    listed = plain.json("order", "list", "--merchant", merchant, "--limit", 200)["orders"]
    assert len({one["own_id"] for one in listed}) == len(listed)
