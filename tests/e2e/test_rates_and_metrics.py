"""Rates over HTTP from venues on loopback, and metrics that promtool accepts."""

import json
import subprocess
from decimal import Decimal

import pytest
import requests

from stand import tools
from stand.process import wait_until
from support import deepay
from support.subscriber import Subscriber, check_envelope
from support.venues import EURO_IN_CNY, EURO_IN_USD, PRICES


def rate(shop, start, to):
    return requests.get(f"{shop.tally.http}/rate/{start}/{to}", timeout=10)


@pytest.mark.parametrize("asset", ["BTC", "ETH", "LTC", "BCH"])
def test_a_rate_is_the_bare_number(shop, asset):
    shop.wait_rate(asset)
    answer = rate(shop, asset, "USD")
    assert Decimal(answer.text) == PRICES[asset]
    assert answer.headers["content-type"].startswith("application/json")
    for header in ("cache-control", "x-rate-timestamp", "x-rate-sources", "x-rate-confidence"):
        assert answer.headers.get(header), header


def test_cross_rates_and_fiat(shop):
    for asset in ("BTC", "ETH"):
        shop.wait_rate(asset)
    near = Decimal("1e-9")
    cny = PRICES["BTC"] / EURO_IN_USD * EURO_IN_CNY
    assert abs(Decimal(rate(shop, "BTC", "CNY").text) / cny - 1) < near
    assert abs(Decimal(rate(shop, "eth", "btc").text) / (PRICES["ETH"] / PRICES["BTC"]) - 1) < near
    assert abs(Decimal(rate(shop, "USD", "RMB").text) / (EURO_IN_CNY / EURO_IN_USD) - 1) < near
    assert rate(shop, "LTC", "LTC").text == "1"


@pytest.mark.parametrize("start, to", [("BTC", "XYZ"), ("XYZ", "USD"), ("XYZ", "XYZ")])
def test_unknown_currencies(shop, start, to):
    answer = rate(shop, start, to)
    assert (answer.status_code, answer.json()["error"]) == (404, "RecordNotFound")


def test_a_change_of_price_is_followed_and_published(open_shop):
    shop = open_shop(only=["ltc"], name="prices")
    heard = Subscriber(shop.nats.urls, ["tally.v1.rate.>"])
    try:
        shop.wait_rate("LTC")
        shop.venues.prices["LTC"] = Decimal("104")
        wait_until("the new rate", lambda: Decimal(rate(shop, "LTC", "USD").text) == 104, 20, log=shop.tally.tail)

        def published():
            of_ltc = [one for one in list(heard.heard) if one.tokens == ["tally", "v1", "rate", "LTC"]]
            return next((one for one in of_ltc if "104" in json.dumps(check_envelope(one), default=str)), None)

        wait_until("the new rate on NATS", published, 20, log=shop.tally.tail)
        # an order keeps the rate it was quoted at
        order = shop.order("ltc").checkout()
        assert order.amount == -(-10 * 10**8 // 104)
        shop.venues.prices["LTC"] = Decimal("100")
        wait_until("the old rate", lambda: Decimal(rate(shop, "LTC", "USD").text) == 100, 20, log=shop.tally.tail)
        assert shop.client.checkout(order.id, "LTC")["pay_amount"] == order.quote["pay_amount"]
    finally:
        heard.close()


def test_without_venues_there_is_no_rate(open_shop):
    shop = open_shop(only=["ltc"], name="no-rate", down=["kraken", "coinbase"])
    answer = rate(shop, "LTC", "USD")
    assert (answer.status_code, answer.json()["error"]) == (503, "RateUnavailable")
    assert int(answer.headers["retry-after"]) > 0
    # creating needs no rate; a quote does
    order = shop.order("ltc")
    with pytest.raises(deepay.Refused) as refused:
        shop.client.checkout(order.id, "LTC")
    assert (refused.value.status, refused.value.body["error"]) == (503, "RateUnavailable")
    assert order.query()["status"] == "new"
    # one of two venues is enough where the configuration says so
    shop.venues.down.remove("kraken")
    order.checkout()
    assert order.amount == 10**7


#: those of the published names that say something here from the start
NAMES = (
    "tally_chain_tip_height tally_chain_lag_blocks tally_block_process_seconds_count tally_matcher_bytes_total "
    "tally_watched_scripts tally_deposits_total tally_orders tally_order_transitions_total "
    "tally_projector_lag_events tally_log_append_seconds_count tally_log_durability tally_rate_sources "
    "tally_rate_age_seconds tally_feed_polls_total tally_deliveries_total tally_delivery_backlog "
    "tally_http_requests_total tally_http_request_seconds_count"
).split()


def test_metrics_have_their_names(shop):
    order = shop.order("ltc").checkout()
    order.node.pay(order.target, order.amount)
    order.mine_to("confirmed", 1)
    text = requests.get(shop.tally.metrics + "/metrics", timeout=10).text
    done = subprocess.run(
        [tools.promtool(), "check", "metrics"], input=text, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for chain, node in shop.nodes.items():
        wait_until(
            f"the tip of {chain}",
            lambda c=chain, n=node: shop.tally.metric("tally_chain_tip_height", chain=c) == n.height(),
            20,
        )
    for name in NAMES:
        assert shop.tally.metric(name) is not None, name
    assert shop.tally.metric("tally_deposits_total", chain="ltc", event="mined") >= 1
    assert shop.tally.metric("tally_order_transitions_total", status="confirmed") >= 1
    assert shop.tally.metric("tally_orders", status="confirmed") >= 1
    assert shop.tally.metric("tally_http_requests_total", route="/order/create", code="200") >= 1
    assert shop.tally.metric("tally_feed_polls_total", venue="kraken") >= 1
    assert shop.tally.metric("tally_rate_sources", asset="LTC") == 2
