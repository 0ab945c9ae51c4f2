"""`tally dev`: one process, nothing to install, and a payment page that follows the order by itself."""

import json
import shutil
import socket
import subprocess
import time
from decimal import Decimal

import pytest
import requests

from stand import tools
from stand.ports import free_port
from stand.process import Process, scratch, wait_until
from support import deepay
from support.browser import Browser
from support.tally import binary

COINS = ["BTC", "LTC", "BCH", "ETH"]
CHAIN = {"BTC": "btc", "LTC": "ltc", "BCH": "bch", "ETH": "eth"}


class Dev:
    """A running `tally dev --json`."""

    def __init__(self):
        self.home = scratch("dev")
        ports = [free_port() for _ in range(3)]
        argv = [binary(), "dev", "--json", "--data", self.home / "data"]
        for flag, port in zip(("--http", "--admin", "--metrics"), ports):
            argv += [flag, f"127.0.0.1:{port}"]
        self.process = Process("dev", argv, self.home)
        self.started = time.monotonic()
        self.process.start()
        line = wait_until("the first line", self._first, 30, every=0.02, log=self.process.tail)
        self.seconds = time.monotonic() - self.started
        self.info = json.loads(line)
        self.http = self.info["http"]
        self.client = deepay.Client(self.http, self.info["merchant_id"], self.info["api_key"])

    def _first(self):
        if not self.process.alive():
            raise AssertionError(f"ended\n{self.process.tail()}")
        text = self.process.log_path.read_text()
        for line in text.splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):
                return line
        return None

    def sandbox(self, call, **body):
        answer = requests.post(f"{self.http}/sandbox/{call}", json=body, timeout=20)
        assert answer.status_code == 200, f"/sandbox/{call}: {answer.status_code} {answer.text}"
        return answer.json()

    def wait(self, order, status, timeout=20, exceptions=None):
        """Polls until the order has a status and, where given, just these exceptions; answers it."""

        def reached():
            answer = self.client.query(order)
            if answer["status"] != status or exceptions not in (None, answer["exceptions"]):
                return None
            return answer

        what = f"{order} to be {status} {exceptions or ''}"
        return wait_until(what, reached, timeout, log=lambda: f"{self.client.query(order)}\n{self.process.tail()}")

    def admin(self, method, path, **body):
        """A call of the admin API, with the token beside the data."""
        token = (self.home / "data" / "admin.token").read_text().strip()
        headers = {"authorization": f"Bearer {token}"}
        answer = requests.request(method, self.info["admin"] + path, json=body or None, headers=headers, timeout=20)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def stop(self):
        code = self.process.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        return code


@pytest.fixture(scope="module")
def dev():
    one = Dev()
    yield one
    one.stop()


@pytest.fixture
def fresh():
    """One whose clock the test may move."""
    one = Dev()
    yield one
    one.stop()


def quoted(dev, asset, price="10"):
    order = dev.client.create(f"D{time.time_ns()}", price)["transaction_id"]
    quote = dev.client.checkout(order, asset)
    return order, quote


def amount(quote):
    return format(Decimal(str(quote["pay_amount"])), "f")


def test_it_is_ready_within_five_seconds(dev):
    assert dev.seconds < 5
    for name in ("http", "admin", "metrics", "merchant_id", "api_key", "payscrypt_api_key", "pg_wallet_ids"):
        assert dev.info.get(name), name
    assert requests.get(dev.http + "/readyz", timeout=5).status_code == 200
    assert dev.info["checkout_url"].startswith(dev.http)


@pytest.mark.parametrize("asset", COINS)
def test_pay_and_mine(dev, asset):
    order, quote = quoted(dev, asset)
    chain = CHAIN[asset]
    dev.sandbox("pay", chain=chain, address=quote["payment_address"], amount=amount(quote))
    if asset != "ETH":
        dev.wait(order, "paid")
    dev.sandbox("mine", chain=chain, blocks=1)
    dev.wait(order, "confirmed")
    dev.sandbox("mine", chain=chain, blocks=5)
    dev.wait(order, "complete")


@pytest.mark.parametrize("asset, mode", [("LTC", "pegout"), ("BCH", "cashtokens"), ("ETH", "contract")])
def test_pay_in_other_ways(dev, asset, mode):
    order, quote = quoted(dev, asset)
    chain = CHAIN[asset]
    dev.sandbox("pay", chain=chain, address=quote["payment_address"], amount=amount(quote), mode=mode)
    dev.sandbox("mine", chain=chain, blocks=6)
    dev.wait(order, "complete")


@pytest.mark.parametrize("asset", COINS)
def test_a_reorg_drops_the_payment(dev, asset):
    order, quote = quoted(dev, asset)
    chain = CHAIN[asset]
    paid = dev.sandbox("pay", chain=chain, address=quote["payment_address"], amount=amount(quote))
    dev.sandbox("mine", chain=chain, blocks=1)
    dev.wait(order, "confirmed")
    dev.sandbox("reorg", chain=chain, depth=1, drop=[paid["txid"]])
    fallen = dev.wait(order, "pending")
    assert (fallen["exceptions"], fallen["received"]) == (["reorged"], 0)


def test_a_replaced_payment_leaves(dev):
    order, quote = quoted(dev, "BTC")
    paid = dev.sandbox("pay", chain="btc", address=quote["payment_address"], amount=amount(quote))
    dev.wait(order, "paid")
    dev.sandbox("replace", chain="btc", txid=paid["txid"])
    fallen = dev.wait(order, "pending")
    assert (fallen["exceptions"], fallen["received"]) == (["replaced"], 0)


def test_the_rate_can_be_set(dev):
    dev.sandbox("rate", BCH="400")

    def told():
        return Decimal(requests.get(dev.http + "/rate/BCH/USD", timeout=5).text) == 400

    wait_until("the new rate", told, 30)


def test_a_partial_payment_and_the_rest(dev):
    order, quote = quoted(dev, "LTC", price="50")
    due = Decimal(str(quote["pay_amount"]))
    part = (due / 4).quantize(Decimal("1e-8"))
    dev.sandbox("pay", chain="ltc", address=quote["payment_address"], amount=str(part))
    half = wait_until("the part", lambda: (a := dev.client.query(order))["received"] == part and a, 20)
    assert (half["status"], half["exception"]) == ("pending", "none")
    # another coin is quoted for what is left
    rest = dev.client.checkout(order, "BTC")
    assert abs(Decimal(str(rest["pay_amount"])) * 65000 / Decimal("37.5") - 1) < Decimal("1e-3"), rest
    dev.sandbox("pay", chain="btc", address=rest["payment_address"], amount=amount(rest))
    dev.sandbox("mine", chain="ltc", blocks=6)
    dev.sandbox("mine", chain="btc", blocks=6)
    assert dev.wait(order, "complete")["exceptions"] == []


def test_the_clock_expires_orders(fresh):
    dev = fresh
    unpaid, _ = quoted(dev, "LTC")
    partly, quote = quoted(dev, "BTC")
    part = (Decimal(str(quote["pay_amount"])) / 2).quantize(Decimal("1e-8"))
    dev.sandbox("pay", chain="btc", address=quote["payment_address"], amount=str(part))
    wait_until("the part", lambda: dev.client.query(partly)["received"] == part, 20)
    late, late_quote = quoted(dev, "BCH")
    dev.sandbox("clock", advance="25m")
    assert dev.wait(unpaid, "expired")["exceptions"] == []
    assert dev.wait(partly, "expired")["exceptions"] == ["underpaid"]
    dev.wait(late, "expired")
    # money after the end waits for a person, who accepts it
    dev.sandbox("pay", chain="bch", address=late_quote["payment_address"], amount=amount(late_quote))
    dev.wait(late, "expired", exceptions=["paid_late"])
    dev.sandbox("mine", chain="bch", blocks=1)
    dev.admin("POST", f"/v1/admin/orders/{late}/accept", by="test")
    assert dev.wait(late, "confirmed")["exceptions"] == []
    # nothing came for this one: it may be checked out again
    again = dev.client.checkout(unpaid, "LTC")
    assert again["status"] == "pending"
    dev.sandbox("pay", chain="ltc", address=again["payment_address"], amount=amount(again))
    dev.sandbox("mine", chain="ltc", blocks=6)
    dev.wait(unpaid, "complete")


def test_a_payment_in_time_counts_however_late_it_is_mined(fresh):
    dev = fresh
    order, quote = quoted(dev, "BTC")
    dev.sandbox("pay", chain="btc", address=quote["payment_address"], amount=amount(quote))
    dev.wait(order, "paid")
    dev.sandbox("clock", advance="30m")
    dev.sandbox("mine", chain="btc", blocks=1)
    assert dev.wait(order, "confirmed")["exceptions"] == []


def test_a_payment_that_never_confirms_is_invalid(fresh):
    dev = fresh
    order, quote = quoted(dev, "BTC")
    dev.sandbox("pay", chain="btc", address=quote["payment_address"], amount=amount(quote))
    dev.wait(order, "paid")
    dev.sandbox("clock", advance="25h")
    dev.wait(order, "invalid")
    dev.sandbox("mine", chain="btc", blocks=1)
    assert "paid_late" in dev.wait(order, "invalid", exceptions=["paid_late"])["exceptions"]


def test_a_canceled_order(dev):
    order, quote = quoted(dev, "LTC")
    dev.admin("POST", f"/v1/admin/orders/{order}/cancel")
    # DeePay knows no canceled: it reads as expired
    dev.wait(order, "expired")
    assert dev.admin("GET", f"/v1/admin/orders/{order}")["status"] == "canceled"
    dev.sandbox("pay", chain="ltc", address=quote["payment_address"], amount=amount(quote))
    dev.sandbox("mine", chain="ltc", blocks=6)
    dev.wait(order, "expired", exceptions=["paid_late"])


@pytest.mark.parametrize("asset", COINS)
def test_a_coin_whose_node_stands_still_is_not_offered(fresh, asset):
    dev, chain = fresh, CHAIN[asset]
    dev.sandbox("fault", chain=chain, kind="stall", on=True)
    dev.sandbox("clock", advance="2m")
    order = dev.client.create(f"D{time.time_ns()}", "10")["transaction_id"]

    def refused():
        try:
            dev.client.checkout(order, asset)
        except deepay.Refused as error:
            return error
        return None

    error = wait_until("a refusal", refused, 20, log=dev.process.tail)
    assert (error.status, error.body["error"]) == (503, "ChainUnavailable")
    other = "BTC" if asset != "BTC" else "LTC"
    assert dev.client.checkout(order, other)["pay_currency"] == other
    dev.sandbox("fault", chain=chain, kind="stall", on=False)
    wait_until("the coin", lambda: dev.client.checkout(order, asset), 60, log=dev.process.tail)


def test_the_browser_follows_an_order_without_a_reload(dev):
    browser = Browser().start()
    try:
        browser.open(dev.info["checkout_url"])
        loads = browser.loads
        browser.run("window.__same = 'same page'")
        browser.click("LTC")
        order = dev.info["checkout_url"].rstrip("/").rsplit("/", 1)[1].split("?")[0]
        dev.wait(order, "pending")
        wait_until("the address", lambda: dev.client.query(order)["pay_currency"] == "LTC", 10)
        wait_until("a QR code", lambda: browser.run("!!document.querySelector('svg, canvas, img')"), 10)
        after_choice = browser.loads
        browser.run("window.__same = 'same page'")
        browser.click("pay and mine")
        dev.wait(order, "complete", timeout=40)
        wait_until(
            "complete in the page", lambda: "complete" in browser.text().lower(), 20, log=browser.text
        )
        assert browser.run("window.__same") == "same page"
        assert browser.loads == after_choice, "the page was loaded again"
        assert after_choice - loads <= 1
        assert not browser.errors, browser.errors
    except AssertionError:
        browser.screenshot(tools.cache() / "browser.png")
        raise
    finally:
        browser.stop()


def test_sigterm_and_a_busy_port(tmp_path):
    assert Dev().stop() == 0
    taken = free_port()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", taken))
        holder.listen()
        done = subprocess.run(
            [binary(), "dev", "--http", f"127.0.0.1:{taken}", "--data", str(tmp_path / "data")],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode != 0
    assert str(taken) in done.stderr
