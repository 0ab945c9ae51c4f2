"""Three NATS servers in a cluster, while orders are created and paid: what was acknowledged is there, once."""

import csv
import io
import itertools
import threading
import time

import pytest
import requests

from stand import codec
from stand.process import wait_until
from support import deepay

_serial = itertools.count(1)


class Load:
    """Orders from several threads until it is stopped; keeps what was acknowledged."""

    def __init__(self, shop, threads=4):
        self.shop, self.node = shop, shop.nodes["ltc"]
        self.orders, self.paid = {}, {}
        self.refused = 0
        self.errors = []
        self.stopping = threading.Event()
        self.paying = threading.Lock()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        client = self.shop.client
        while not self.stopping.is_set():
            own_id = f"L{next(_serial)}"
            try:
                answer = client.create(own_id, "10.00", notify_url=self.shop.sink.url)
                self.orders[own_id] = str(answer["transaction_id"])
                quote = client.checkout(answer["transaction_id"], "LTC")
                if len(self.orders) % 3 == 0:
                    self._pay(own_id, quote)
            except deepay.Refused as refused:
                # nobody was promised anything
                if refused.status not in (503,):
                    self.errors.append((own_id, refused.status, refused.text))
                self.refused += 1
                time.sleep(0.1)
            except requests.RequestException:
                self.refused += 1

    def _pay(self, own_id, quote):
        amount = int(quote["pay_amount"] * 10**8)
        with self.paying:
            self.node.pay(codec.script_of(quote["payment_address"]), amount)
            self.paid[own_id] = quote["pay_amount"]
            if len(self.paid) % 5 == 0:
                self.node.mine(1)

    def count(self):
        return len(self.orders)

    def wait_progress(self, more=10, timeout=60):
        """Until this many more orders were acknowledged."""
        before = self.count()
        wait_until(
            f"{more} more orders", lambda: self.count() >= before + more, timeout, log=self.shop.tally.tail
        )

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
        assert self.errors == []


def table(shop, name):
    """The rows of an export."""
    return list(csv.reader(io.StringIO(shop.tally.run(name, "export", "--csv").out)))[1:]


def check(shop, load):
    """Every acknowledged order is there under its id, once; every payment counts once."""
    for own_id, order in load.orders.items():

        def same(own_id=own_id, order=order):
            again = shop.client.create(own_id, "10.00", notify_url=shop.sink.url)
            return str(again["transaction_id"]) == order

        wait_until(f"{own_id} to be {order}", same, 20, log=shop.tally.tail)
    load.node.mine(6)
    for own_id, amount in load.paid.items():
        order = load.orders[own_id]
        wait_until(
            f"{own_id} to be complete",
            lambda i=order: shop.client.query(i)["status"] == "complete",
            60,
            log=shop.tally.tail,
        )
        done = shop.client.query(order)
        assert str(done["received"]) == str(amount) and done["exceptions"] == [], done
    rows = table(shop, "order")
    own_ids = [row[3] for row in rows]
    addresses = [row[11] for row in rows if row[11]]
    assert len(own_ids) == len(set(own_ids)), "two orders of one own id"
    assert len(addresses) == len(set(addresses)), "one address for two orders"
    assert set(load.orders) <= set(own_ids)
    deposits = [tuple(row[4:7]) for row in table(shop, "deposit")]
    assert len(deposits) == len(set(deposits)) == len(load.paid), "a payment is missing, or there twice"
    for own_id in load.paid:
        shop.sink.wait_status(load.orders[own_id], "complete", log=shop.tally.tail)
    for order in load.orders.values():
        shop.sink.check(order, shop.key)


def leader(shop):
    """The number of the server that leads the log's stream."""
    stream = shop.subscriber.client.jetstream()
    info = shop.subscriber._run(stream.stream_info("TALLY"))
    return int(info.cluster.leader.removeprefix("n"))


def leader_killed(shop, load):
    for _ in range(2):
        victim = wait_until("a leader", lambda: leader(shop) + 1, 30) - 1
        shop.nats.kill(victim)
        load.wait_progress()
        shop.nats.restart(victim)
        load.wait_progress()


def each_lost_and_back(shop, load):
    for victim in range(3):
        shop.nats.kill(victim)
        load.wait_progress()
        shop.nats.restart(victim)
        time.sleep(2)
    load.wait_progress()


def one_disk_wiped(shop, load):
    victim = wait_until("a leader", lambda: leader(shop) + 1, 30) - 1
    shop.nats.kill(victim)
    shop.nats.wipe(victim)
    load.wait_progress()
    shop.nats.restart(victim)
    shop.nats.wait_current("TALLY")
    # it holds all of it again: one of the others may go
    shop.nats.kill((victim + 1) % 3)
    load.wait_progress()
    shop.nats.restart((victim + 1) % 3)


def all_killed_at_once(shop, load):
    for _ in range(2):
        shop.nats.kill_all()
        time.sleep(1)
        shop.nats.restart_all()
        load.wait_progress(timeout=90)


@pytest.mark.parametrize("trouble", [leader_killed, each_lost_and_back, one_disk_wiped, all_killed_at_once])
def test_a_cluster_in_trouble(open_shop, trouble):
    shop = open_shop(log="nats", replicas=3, only=["ltc"], name="cluster")
    shop.wait_rate("LTC")
    assert shop.tally.metric("tally_log_durability", verified="1") == 1, shop.tally.tail()
    load = Load(shop)
    load.wait_progress()
    trouble(shop, load)
    load.stop()
    print(f"{trouble.__name__}: {load.count()} orders, {len(load.paid)} paid, {load.refused} refused")
    shop.tally.wait_chains(shop.nodes)
    check(shop, load)


def test_durability_that_cannot_be_verified_is_warned_about(open_shop):
    shop = open_shop(log="nats", only=["ltc"], sync="2m", name="unsynced")
    assert shop.tally.metric("tally_log_durability", verified="0") == 1
    assert shop.tally.metric("tally_log_durability", verified="1") == 0
    assert "an append may be lost when the power of a NATS server fails" in shop.tally.tail(400)
