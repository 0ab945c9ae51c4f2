"""Notifications that are not acknowledged at once, and what may be read when one arrives."""

import pytest

from stand.process import wait_until
from support.sink import Sink


@pytest.fixture
def sink():
    one = Sink()
    yield one
    one.close()


def test_a_version_is_readable_before_it_is_told(shop, sink):
    read = []

    def look(received):
        fields = received.fields
        answer = shop.client.query(fields["transaction_id"])
        read.append((int(fields["version"]), answer["version"]))
        return 200, "OK\n"

    sink.answer = look
    order = shop.order("ltc", notify_url=sink.url).checkout()
    order.node.pay(order.target, order.amount)
    order.wait("paid")
    order.node.mine(6)
    order.wait("complete")
    sink.wait_status(order.id, "complete", log=shop.tally.tail)
    assert read and all(told <= known for told, known in read), read


def test_the_query_of_the_url_is_kept(shop, sink):
    order = shop.order("ltc", notify_url=f"{sink.url}?shop=7&name=%C3%BC")
    told = sink.wait_status(order.id, "new", log=shop.tally.tail)
    assert told.path == "/notify?shop=7&name=%C3%BC"


NOT_OK = {
    "error": (500, "ok"),
    "page": (200, "<html>an error</html>"),
    "redirect": (302, "ok"),
    "empty": (200, ""),
    "more": (200, "ok, thanks"),
}


def test_what_is_not_acknowledged_is_sent_again(shop):
    sinks, orders = {}, {}
    try:
        for name, refusal in NOT_OK.items():
            sinks[name] = one = Sink()
            one.answer = lambda _, one=one, refusal=refusal: (200, " Ok\n") if one.received else refusal
            orders[name] = shop.order("ltc", notify_url=one.url)
        for name, one in sinks.items():
            one.wait_status(orders[name].id, "new", log=shop.tally.tail)
        # another endpoint is not held up by them
        shop.sink.wait_status(shop.order("ltc").id, "new", timeout=10, log=shop.tally.tail)
        for name, one in sinks.items():
            order = orders[name]
            wait_until(f"the second try after {name}", lambda: len(one.of(order.id)) == 2, 25, log=shop.tally.tail)
            first, second = one.of(order.id)
            assert 14 <= second.at - first.at <= 22, (name, second.at - first.at)
            assert first.fields["version"] == second.fields["version"] == "1"
            one.check(order.id, shop.key)
    finally:
        for one in sinks.values():
            one.close()


def test_a_newer_version_takes_the_place_of_an_older_one(shop, sink):
    sink.answer = lambda received: (200, "ok") if received.fields["status"] == "pending" else (500, "no")
    order = shop.order("ltc", notify_url=sink.url)
    sink.wait_status(order.id, "new", log=shop.tally.tail)
    order.checkout()
    sink.wait_status(order.id, "pending", timeout=10, log=shop.tally.tail)
    assert sink.statuses(order.id) == ["new", "pending"]
    sink.check(order.id, shop.key)


def test_private_addresses_are_refused_unless_allowed(open_shop):
    shop = open_shop(only=["ltc"], allow_private=False, name="private")
    for url in (shop.sink.url, shop.sink.url.replace("127.0.0.1", "localhost"), "http://[::1]:9/", "http://10.0.0.1/"):
        order = shop.order("ltc", notify_url=url)  # where it leads is not looked at here
        assert order.query()["status"] == "new"
    wait_until(
        "four refused deliveries",
        lambda: (shop.tally.metric("tally_deliveries_total", outcome="failed") or 0) >= 4,
        20,
        log=shop.tally.tail,
    )
    assert shop.sink.received == []
