"""Processes frozen (SIGSTOP) past their leases: another takes over within 5 s, and the thawed one does no harm."""

import json
import signal
import time

import requests

from stand.ports import free_port
from stand.process import wait_until

#: a takeover, and what lies around it: polling of the tests, nodes and readers
TAKEOVER = 6.5


def second(shop, words):
    """One more process of a service that runs already, with a data folder of its own; answers its name."""
    tally = shop.tally
    name = words.replace(" ", "-") + "-2"
    path = tally.home / f"{name}.toml"
    ports = (free_port(), free_port(), free_port())
    tally.write(path, data=tally.home / f"data-{name}", ports=ports)
    tally._spawn(name, words.split(), path)
    health = f"http://127.0.0.1:{ports[2]}/readyz"
    wait_until(
        f"{name} to be ready", lambda: requests.get(health, timeout=5).status_code == 200, 30, log=tally.tail
    )
    return name


def freeze(shop, name):
    shop.tally.processes[name].signal(signal.SIGSTOP)
    return time.monotonic()


def thaw(shop, name):
    shop.tally.processes[name].signal(signal.SIGCONT)


def stored(shop, stream):
    """Every fact of a stream, as it is stored."""

    async def read():
        context = shop.subscriber.client.jetstream()
        state = (await context.stream_info(stream)).state
        facts = []
        for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
            message = await context.get_msg(stream, sequence)
            if message.data:
                facts.append(json.loads(message.data))
        return facts

    return shop.subscriber._run(read(), timeout=60)


def epochs_only_grow(facts, what):
    """Nobody writes under a term after somebody has under a later one."""
    epochs = [fact["epoch"] for fact in facts]
    assert epochs and epochs == sorted(epochs), f"{what}: {epochs}"
    return sorted(set(epochs))


def told_once(shop, orders):
    for order in orders:
        versions = [received.fields["version"] for received in shop.sink.of(order.id)]
        assert versions == sorted(set(versions)), f"{order.id} was told {versions}"


def published_once(shop, order):
    """Every version of the order once, whatever was published twice under one id."""
    versions = [heard.body["data"]["version"] for heard in shop.subscriber.of(order.id)[0]]
    assert versions == list(range(1, len(versions) + 1)), versions
    return len(versions)


def test_a_frozen_watcher(open_shop):
    shop = open_shop(log="nats", only=["ltc"], apart=True, name="frozen-watch")
    names = ["watch-ltc", second(shop, "watch ltc")]
    orders = []
    for frozen in (names[0], names[1], names[0]):
        order = shop.order("ltc").checkout()
        # whichever of the two writes: the payment is told in time, as if it were the one that does not
        since = freeze(shop, frozen)
        order.node.pay(order.target, order.amount)
        order.wait("paid", timeout=20)
        assert time.monotonic() - since < TAKEOVER, "the other did not take over"
        order.node.mine(1)
        order.wait("confirmed", timeout=20)
        thaw(shop, frozen)
        orders.append(order)
        # what it saw before is old now; then it must go along again
        time.sleep(2)
        order.node.mine(5)
        done = order.wait("complete")
        assert (done["exceptions"], str(done["received"])) == ([], str(done["pay_amount"])), done
    time.sleep(1)
    for order in orders:
        order.check_published("complete")
    facts = [fact for fact in stored(shop, "TALLY") if fact["subject"].startswith("tally.v1.chain.ltc.")]
    heights = [fact["data"]["block"]["height"] for fact in facts if fact["type"] == "chain.block_connected"]
    assert heights == sorted(set(heights)), f"blocks twice: {heights}"
    mined = [
        (fact["data"]["deposit"]["key"]["txid"], fact["data"]["deposit"]["key"]["slot"])
        for fact in facts
        if fact["type"] == "deposit.mined"
    ]
    assert len(mined) == len(set(mined)) == len(orders), mined
    assert len(epochs_only_grow(facts, "the watcher")) >= 2, "the duty has moved"


def test_a_frozen_notifier(open_shop):
    shop = open_shop(log="nats", only=["ltc"], apart=True, name="frozen-notify")
    names = ["notify", second(shop, "notify")]
    for frozen in (names[0], names[1]):
        time.sleep(1)
        since = freeze(shop, frozen)
        orders = [shop.order("ltc") for _ in range(12)]
        for order in orders:
            shop.sink.wait_status(order.id, "new", log=shop.tally.tail)
        assert time.monotonic() - since < TAKEOVER, "the other did not take over"
        thaw(shop, frozen)
        time.sleep(3)
        told_once(shop, orders)
        assert [published_once(shop, order) for order in orders] == [1] * len(orders)


def test_a_notifier_frozen_while_it_delivers(open_shop):
    shop = open_shop(log="nats", only=["ltc"], apart=True, name="frozen-flight")
    names = ["notify", second(shop, "notify")]
    slow = []

    def answer(_):
        if slow:
            time.sleep(slow[0])
        return 200, "ok"

    shop.sink.answer = answer
    slow.append(1.5)
    orders = [shop.order("ltc") for _ in range(8)]
    time.sleep(0.5)
    freeze(shop, names[0])
    time.sleep(8)
    slow.clear()
    thaw(shop, names[0])
    for order in orders:
        shop.sink.wait_status(order.id, "new", log=shop.tally.tail)
    time.sleep(4)
    # what was under way when it froze may come a second time, and never a third; written down it is once
    assert all(len(shop.sink.of(order.id)) <= 2 for order in orders)
    facts = [fact for fact in stored(shop, "TALLY") if fact["type"] == "delivery.attempted"]
    acknowledged = [
        (fact["data"]["order"], fact["data"]["version"])
        for fact in facts
        if fact["data"]["outcome"] == "acknowledged" or "acknowledged" in fact["data"]["outcome"]
    ]
    assert len(acknowledged) == len(set(acknowledged)) == len(orders), acknowledged


def test_a_frozen_projector(open_shop):
    shop = open_shop(log="nats", only=["ltc"], apart=True, name="frozen-project")
    shop.tally.stop()
    # orders that nobody checks out expire in seconds
    shop.tally.env["TALLY_ORDERS_NEW_ORDER"] = "4s"
    shop.start()
    names = ["project", second(shop, "project")]
    for frozen in (names[0], names[1]):
        orders = [shop.order("ltc") for _ in range(12)]
        freeze(shop, frozen)
        for order in orders:
            order.wait("expired", timeout=4 + TAKEOVER)
        thaw(shop, frozen)
        time.sleep(3)
        told_once(shop, orders)
        assert [published_once(shop, order) for order in orders] == [2] * len(orders)
    facts = [fact for fact in stored(shop, "TALLY") if fact["type"] == "order.expired"]
    expired = [fact["subject"] for fact in facts]
    assert len(expired) == len(set(expired)) == 24, expired


def test_a_frozen_rate_publisher(open_shop):
    shop = open_shop(log="nats", only=["ltc"], apart=True, name="frozen-rate")
    names = ["rate", second(shop, "rate")]
    shop.wait_rate("LTC")
    for frozen in (names[0], names[1], names[0]):
        before = len(stored(shop, "TALLY_RATES"))
        since = freeze(shop, frozen)
        wait_until(
            "rates to be published again",
            lambda: len(stored(shop, "TALLY_RATES")) > before + 1,
            20,
            log=shop.tally.tail,
        )
        # rates are polled once a second here, and two are waited for
        assert time.monotonic() - since < TAKEOVER + 2, "the other did not take over"
        thaw(shop, frozen)
        time.sleep(3)
    facts = stored(shop, "TALLY_RATES")
    assert len(epochs_only_grow(facts, "rates")) >= 2, "the duty has moved"
    times = [fact["data"]["at"] for fact in facts]
    assert times == sorted(times), "an older rate after a newer one"
    order = shop.order("ltc").checkout()
    order.node.pay(order.target, order.amount)
    order.wait("paid")
