"""A chain watched by several processes: shards, a change of their number, standbys, a rescan."""

import time

import pytest
import requests

from stand.process import wait_until
from stand.ports import free_port


class Watchers:
    """Watchers of one chain, each a process with a data folder of its own."""

    def __init__(self, shop, chain):
        self.tally, self.chain, self.started = shop.tally, chain, 0
        self.metrics = {}

    def start(self, shard):
        self.started += 1
        name = f"shard-{self.started}"
        path = self.tally.home / f"{name}.toml"
        ports = (free_port(), free_port(), free_port())
        self.tally.write(path, data=self.tally.home / f"data-{name}", ports=ports)
        self.metrics[name] = f"http://127.0.0.1:{ports[2]}"
        words = ["watch", self.chain] + (["--shard", shard] if shard else [])
        self.tally._spawn(name, words, path)
        return name

    def health(self, name):
        answer = requests.get(f"{self.metrics[name]}/readyz", timeout=5)
        return answer.status_code, answer.json()["watchers"].get(self.chain)

    def wait_ready(self, names, timeout=30):
        for name in names:
            wait_until(
                f"{name} to be ready", lambda: self.health(name)[0] == 200, timeout, log=self.tally.tail
            )

    def kill(self, name):
        self.tally.processes.pop(name).kill()


def settle(orders):
    for order in orders:
        order.node.mine(6)
        done = order.wait("complete")
        assert (done["exceptions"], str(done["received"])) == ([], str(done["pay_amount"])), done


def paid(shop, chain, count=4):
    orders = [shop.order(chain).checkout() for _ in range(count)]
    for order in orders:
        order.node.pay(order.target, order.amount)
    return orders


@pytest.mark.parametrize("chain", ["ltc", "eth"])
def test_shards_come_and_go(open_shop, chain):
    shop = open_shop(log="nats", only=[chain], apart=True, name=f"shards-{chain}")
    watchers = Watchers(shop, chain)
    orders = paid(shop, chain)
    two = [watchers.start(shard) for shard in ("1/2", "2/2")]
    orders += paid(shop, chain)
    watchers.wait_ready(two)
    settle(orders)
    # the first watcher goes along with whatever number there is; it and one of the two are killed
    shop.tally.processes.pop(f"watch-{chain}").kill()
    watchers.kill(two[1])
    orders = paid(shop, chain)
    two[1] = watchers.start("2/2")
    settle(orders)
    # three in place of two, while payments come
    orders = paid(shop, chain)
    three = [watchers.start(shard) for shard in ("1/3", "2/3", "3/3")]
    orders += paid(shop, chain)
    watchers.wait_ready(three)
    settle(orders)
    code, left_over = watchers.health(two[0])
    assert (code, "3 shards" in left_over["stalled"]) == (503, True), left_over
    # and back to one
    for name in three + two:
        watchers.kill(name)
    orders = paid(shop, chain)
    watchers.wait_ready([watchers.start("1/1")])
    settle(orders + paid(shop, chain))


def test_a_standby_takes_over_within_five_seconds(open_shop):
    shop = open_shop(log="nats", only=["ltc"], apart=True, name="standby")
    watchers = Watchers(shop, "ltc")
    shop.tally.processes.pop("watch-ltc").stop()
    pair = [watchers.start("1/1"), watchers.start("1/1")]
    watchers.wait_ready(pair)
    for _ in range(3):
        writing = [name for name in pair if watchers.health(name)[1]["writing"]]
        assert len(writing) == 1, writing
        order = shop.order("ltc").checkout()
        watchers.kill(writing[0])
        killed = time.monotonic()
        order.node.pay(order.target, order.amount)
        order.wait("paid", timeout=20)
        took = time.monotonic() - killed
        assert took < 6.5, f"{took:.1f} s from the kill to the payment being told"
        pair = [name for name in pair if name not in writing] + [watchers.start("1/1")]
        watchers.wait_ready(pair)
        settle([order])


@pytest.mark.parametrize("log", ["embedded", "nats"])
def test_a_rescan_doubles_nothing(open_shop, log):
    shop = open_shop(log=log, only=["ltc"], apart=log == "nats", name=f"rescan-{log}")
    orders = paid(shop, "ltc")
    settle(orders)
    before = [order.query() for order in orders]
    done = shop.tally.json("rescan", "ltc", "--from", 0, timeout=120)
    assert done["state"] == "done", done
    shop.tally.stop()
    if log == "embedded":
        asked = shop.tally.json("rescan", "ltc", "--from", 0, timeout=120)
        assert asked["state"] == "requested", asked
    shop.start()
    assert [order.query() for order in orders] == before
    settle(paid(shop, "ltc"))
    bad = shop.tally.run("rescan", "ltc", "--from", 10, "--to", 9)
    assert (bad.code, "--to 9" in bad.err) == (1, True), bad
