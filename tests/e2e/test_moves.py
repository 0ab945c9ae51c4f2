"""Duties move when a process is added, stopped or killed: within 5 s, and nothing is done twice."""

import time

import pytest

from stand.process import wait_until
from test_frozen import published_once, second, stored, told_once

#: a duty's move
MOVED = 5.0


def told_at(shop, order, status):
    return shop.sink.wait_status(order.id, status, timeout=20, log=shop.tally.tail).at


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_notifier_ends(open_shop, end):
    shop = open_shop(log="nats", only=["ltc"], apart=True, name=f"moves-notify-{end}")
    # the second is added while the first has everything, and takes over from it whatever that leaves
    names = ["notify", second(shop, "notify")]
    every = []
    for name in names:
        time.sleep(1)
        since = time.time()
        getattr(shop.tally.processes.pop(name), end)()
        orders = [shop.order("ltc") for _ in range(24)]
        slowest = max(told_at(shop, order, "new") for order in orders) - since
        print(f"{end} of {name}: all told after {slowest:.1f} s")
        assert slowest < MOVED, f"{end} of {name}: {slowest:.1f} s"
        every += orders
        if name == names[0]:
            shop.tally.start(name, wait=False)
            time.sleep(2)
    time.sleep(2)
    told_once(shop, every)
    assert [published_once(shop, order) for order in every] == [1] * len(every)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_projector_ends(open_shop, end):
    shop = open_shop(log="nats", only=["ltc"], apart=True, name=f"moves-project-{end}")
    shop.tally.stop()
    # orders that nobody checks out expire in seconds
    shop.tally.env["TALLY_ORDERS_NEW_ORDER"] = "3s"
    shop.start()
    names = ["project", second(shop, "project")]
    for name in names:
        orders = [shop.order("ltc") for _ in range(24)]
        time.sleep(2.5)
        since = time.time()
        getattr(shop.tally.processes.pop(name), end)()
        slowest = max(told_at(shop, order, "expired") for order in orders) - since
        print(f"{end} of {name}: all expired after {slowest:.1f} s")
        # the last of them had some time left
        assert slowest < MOVED + 0.6, f"{end} of {name}: {slowest:.1f} s"
        if name == names[0]:
            shop.tally.start(name, wait=False)
            time.sleep(2)
    facts = [fact["subject"] for fact in stored(shop, "TALLY") if fact["type"] == "order.expired"]
    assert len(facts) == len(set(facts)) == 48, "each expired once"


def test_added_processes_share_the_duties(open_shop):
    shop = open_shop(log="nats", only=["ltc"], apart=True, name="moves-added")
    second(shop, "notify")
    second(shop, "project")
    orders = [shop.order("ltc") for _ in range(12)]
    for order in orders:
        told_at(shop, order, "new")
    wait_until("all to be published", lambda: all(published_once(shop, order) for order in orders), 20)
    time.sleep(1)
    told_once(shop, orders)
