"""Bad input gets the documented error, and leaves nothing half-done."""

import itertools
import json
import socket
from urllib.parse import urlencode

import pytest
import requests

import stand
from stand import tools
from stand.process import wait_until
from support import deepay
from support.keys import Account
from support.shop import Shop
from support.tally import Tally, bitcoin_chain, ethereum_chain

_serial = itertools.count(1)


def fields(shop, **changes):
    """A whole create request; a change to None leaves the field out."""
    out = {
        "merchant_id": str(shop.merchant),
        "out_trade_id": f"BAD{next(_serial)}",
        "price_currency": "USD",
        "price_amount": "10",
        "notify_url": shop.sink.url,
        "callback_url": "http://127.0.0.1:9/back",
        "title": "A thing",
        **changes,
    }
    return {k: v for k, v in out.items() if v is not None}


def signed(shop, **changes):
    out = fields(shop, **changes)
    return {**out, "sign": deepay.sign(out, shop.key)}


def check_refused(shop, answer, status, reason, own_id=None):
    """The documented error in every form that published clients read, and no order."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["error"] == body["reason"] == reason, body
    assert body["message"] == body["msg"] and body["message"], body
    if own_id and len(own_id) < 200:
        with pytest.raises(deepay.Refused) as refused:
            shop.client.call("/order/query", out_trade_id=own_id)
        assert refused.value.status in (404, 422)


UNSIGNED = [
    ("wrong signature", lambda f, k: {**f, "sign": "0" * 32}, 401, "BadCredentials"),
    ("signature of another key", lambda f, k: {**f, "sign": deepay.sign(f, "x" + k)}, 401, "BadCredentials"),
    ("changed after signing", lambda f, k: {**f, "sign": deepay.sign(f, k), "price_amount": "1"}, 401, "BadCredentials"),
    ("no signature", lambda f, k: f, 401, "BadCredentials"),
    ("empty signature", lambda f, k: {**f, "sign": ""}, 401, "BadCredentials"),
    ("unknown merchant", lambda f, k: resign({**f, "merchant_id": "99999"}, k), 401, "BadCredentials"),
    ("merchant no number", lambda f, k: resign({**f, "merchant_id": "abc"}, k), 401, "BadCredentials"),
    ("no merchant", lambda f, k: resign({a: b for a, b in f.items() if a != "merchant_id"}, k), 400, "CredentialsMissing"),
    ("a notification replayed", lambda f, k: resign({**f, "status": "paid", "pay_amount": "1"}, k), 401, "BadCredentials"),
]


def resign(f, key):
    return {**f, "sign": deepay.sign(f, key)}


@pytest.mark.parametrize("name, change, status, reason", UNSIGNED, ids=[r[0] for r in UNSIGNED])
def test_credentials(shop, name, change, status, reason):
    request = change(fields(shop), shop.key)
    answer = shop.client.post("/order/create", request)
    check_refused(shop, answer, status, reason, request["out_trade_id"])


def test_unknown_merchant_and_wrong_signature_answer_alike(shop):
    wrong = shop.client.post("/order/create", {**fields(shop), "sign": "0" * 32})
    unknown = {**fields(shop, merchant_id="99999")}
    unknown = shop.client.post("/order/create", {**unknown, "sign": deepay.sign(unknown, shop.key)})
    assert (wrong.status_code, wrong.text) == (unknown.status_code, unknown.text)


AMOUNTS = [
    "abc", "-1", "0", "0.00", "NaN", "Infinity", "-Infinity", "1e400", "1e-400", "1,5", "0x10", " ", "1 000",
    "12345678901234567890123456789", "0.00000000000000000000000000001", "１０", "1.2.3", "++1",
]


@pytest.mark.parametrize("amount", AMOUNTS)
def test_malformed_amounts(shop, amount):
    request = signed(shop, price_amount=amount)
    answer = shop.client.post("/order/create", request)
    check_refused(shop, answer, 422, "OrderIsNotValid", request["out_trade_id"])
    assert "price_amount" in answer.json()["message"]


FIELDS = [
    ("no amount", {"price_amount": None}, "price_amount"),
    ("no own id", {"out_trade_id": None}, "out_trade_id"),
    ("no currency", {"price_currency": None}, "price_currency"),
    ("unknown currency", {"price_currency": "XYZ"}, "price_currency"),
    ("no title", {"title": None}, "title"),
    ("notify_url no address", {"notify_url": "somewhere"}, "notify_url"),
    ("notify_url of another kind", {"notify_url": "ftp://example.com/x"}, "notify_url"),
    ("callback_url of another kind", {"callback_url": "javascript:alert(1)"}, "callback_url"),
    ("a field smuggled in the title", {"title": "x&price_amount=1"}, "title"),
    ("a field smuggled in the own id", {"out_trade_id": "x&title=1"}, "out_trade_id"),
]


@pytest.mark.parametrize("name, changes, field", FIELDS, ids=[r[0] for r in FIELDS])
def test_malformed_fields(shop, name, changes, field):
    request = signed(shop, **changes)
    answer = shop.client.post("/order/create", request)
    check_refused(shop, answer, 422, "OrderIsNotValid")
    assert field in answer.json()["message"]


def test_repeated_keys(shop):
    request = signed(shop)
    for name in ("price_amount", "title", "sign", "merchant_id"):
        raw = urlencode(list(request.items()) + [(name, request[name])])
        answer = shop.client.post("/order/create", None, raw=raw)
        check_refused(shop, answer, 422, "OrderIsNotValid", request["out_trade_id"])
    body = json.dumps(request)[:-1] + ', "price_amount": "10"}'
    answer = requests.post(
        shop.tally.http + "/order/create", data=body, headers={"content-type": "application/json"}, timeout=10
    )
    check_refused(shop, answer, 422, "OrderIsNotValid", request["out_trade_id"])


@pytest.mark.parametrize("size", [200_000, 2_000_000])
def test_oversized_bodies(shop, size):
    request = signed(shop, attach="x" * size)
    answer = shop.client.post("/order/create", request)
    assert answer.status_code in (400, 413, 422), answer.status_code
    assert answer.json()["error"] == answer.json()["reason"] != "", answer.text
    with pytest.raises(deepay.Refused) as refused:
        shop.client.call("/order/query", out_trade_id=request["out_trade_id"])
    assert refused.value.status == 404


def test_a_body_that_never_ends_does_not_hold_the_server(shop):
    with socket.create_connection(("127.0.0.1", shop.tally.http_port)) as wire:
        wire.sendall(
            b"POST /order/create HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n"
            b"content-type: application/x-www-form-urlencoded\r\n\r\nmerchant_id=1"
        )
        assert requests.get(shop.tally.http + "/livez", timeout=5).status_code == 200


def test_not_a_form_and_not_json(shop):
    for kind, body in (("application/json", b"{"), ("application/json", b"[]"), ("text/plain", b"x=1")):
        answer = requests.post(
            shop.tally.http + "/order/create", data=body, headers={"content-type": kind}, timeout=10
        )
        assert 400 <= answer.status_code < 500, (kind, answer.status_code)
        assert answer.json()["error"]


def test_orders_that_are_not_there(shop):
    for path in ("/order/query", "/order/checkout"):
        request = {"transaction_id": "20181006113100525110", "pay_currency": "LTC"}
        with pytest.raises(deepay.Refused) as refused:
            shop.client.call(path, **request)
        assert (refused.value.status, refused.value.body["error"]) == (404, "OrderNotFound")


def test_checkout_in_a_currency_that_is_not_offered(shop):
    order = shop.order("ltc")
    with pytest.raises(deepay.Refused) as refused:
        shop.client.checkout(order.id, "DOGE")
    assert (refused.value.status, refused.value.body["error"]) == (422, "OrderIsNotValid")
    assert order.query()["status"] == "new"


def test_the_same_request_again_is_the_same_order_and_other_content_is_refused(shop):
    order = shop.order("ltc", price="12.5", attach="x")
    same = {"notify_url": shop.sink.url, "attach": "x"}
    again = shop.client.create(order.out_trade_id, "12.50", **same, of_no_meaning="1")
    assert str(again["transaction_id"]) == order.id
    for price, change in (("12.51", {}), ("12.5", {"title": "Another thing"}), ("12.5", {"attach": "y"})):
        with pytest.raises(deepay.Refused) as refused:
            shop.client.create(order.out_trade_id, price, **{**same, **change})
        assert (refused.value.status, refused.value.body["error"]) == (422, "OrderIsNotValid")
        assert "out_trade_id" in refused.value.body["message"]


def test_unknown_rates(shop):
    answer = requests.get(shop.tally.http + "/rate/BTC/XYZ", timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (404, "RecordNotFound")


def test_the_admin_api_wants_its_token_and_is_not_public(shop):
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic x"}):
        answer = requests.get(shop.tally.admin + "/v1/admin/merchants", headers=headers, timeout=10)
        assert (answer.status_code, answer.json()["error"]) == (401, "BadCredentials")
    token = {"authorization": f"Bearer {shop.tally.env['TALLY_ADMIN_TOKEN']}"}
    assert requests.get(shop.tally.admin + "/v1/admin/merchants", headers=token, timeout=10).status_code == 200
    for path in ("/v1/admin/merchants", "/sandbox/mine", "/metrics", "/nothing"):
        answer = requests.post(shop.tally.http + path, headers=token, json={}, timeout=10)
        assert (answer.status_code, answer.json()["error"]) == (404, "RecordNotFound"), path


def test_the_page_shows_text_as_text(shop):
    title = "<script>alert(1)</script>"
    order = shop.order("ltc", title=title)
    page = requests.get(f"{shop.tally.http}/order/{order.id}", timeout=10)
    assert page.status_code == 200 and title not in page.text and "&lt;script&gt;" in page.text
    assert "frame-ancestors" in page.headers["content-security-policy"]
    missing = requests.get(f"{shop.tally.http}/order/20181006113100525110", timeout=10)
    assert missing.status_code == 404 and missing.headers["content-type"].startswith("text/html")


# -- keys ------------------------------------------------------------------------------------
def one_line(result, *words):
    """Exit 64 with one line that names the fault."""
    assert result.code == 64, repr(result)
    lines = [line for line in result.err.splitlines() if line.strip()]
    assert len(lines) == 1, repr(result)
    for word in words:
        assert word.lower() in lines[0].lower(), f"{word!r} not in {lines[0]!r}"


def test_private_and_foreign_keys_are_refused_and_never_echoed(shop):
    account = Account.of(f"private {shop.tally.home}", "p2wpkh")
    args = ["wallet", "add", "--merchant", shop.merchant, "--chain", "ltc", "--type", "p2wpkh"]
    result = shop.tally.run(*args, account.xprv)
    assert result.code != 0, repr(result)
    assert account.xprv not in result.out + result.err + shop.tally.tail(10_000)
    mainnet = Account(account.key, "p2wpkh", bytes.fromhex("0488b21e"))
    result = shop.tally.run(*args, mainnet.xpub)
    assert result.code != 0, repr(result)


def test_a_key_of_another_merchant_is_refused(shop):
    other = shop.tally.create_merchant("Other shop")
    args = ["wallet", "add", "--merchant", other, "--chain", "ltc", "--type", "p2wpkh"]
    result = shop.tally.run(*args, shop.accounts["ltc"].xpub)
    assert result.code != 0, repr(result)
    assert "another merchant" in result.out + result.err


# -- configuration -----------------------------------------------------------------------------
def nothing_listens(tally):
    for port in (tally.http_port, tally.admin_port, tally.metrics_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, port


@pytest.fixture
def plain(request):
    """Installations that a test spoils."""
    made = []

    def make(chains=(), **kwargs):
        made.append(Tally(chains, name="bad", **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_node_of_another_network(plain, ltc):
    tally = plain([bitcoin_chain(ltc, "ltc", network="mainnet")])
    for command in ("up", "check-config"):
        one_line(tally.run(command), "mainnet", "ltc")
    nothing_listens(tally)


def test_a_node_of_another_coin(plain, ltc):
    tally = plain([bitcoin_chain(ltc, "btc")])
    tally.env["BTC_PASSWORD"] = ltc.password
    one_line(tally.run("up"), "btc")


def test_an_ethereum_node_of_another_chain(plain, eth):
    tally = plain([ethereum_chain(eth, chain_id=1)])
    one_line(tally.run("up"), "31337")


def test_a_wrong_key_in_the_file(plain, ltc):
    tally = plain([bitcoin_chain(ltc, "ltc")])
    tally.config.write_text(tally.config.read_text().replace("data_dir", "data_dirr"))
    one_line(tally.run("up"), "data_dirr")


def test_a_missing_secret(plain, ltc):
    tally = plain([bitcoin_chain(ltc, "ltc")])
    del tally.env["LTC_PASSWORD"]
    one_line(tally.run("up"), "LTC_PASSWORD", "chain ltc")


def test_an_unwritable_directory(plain, ltc):
    tally = plain([bitcoin_chain(ltc, "ltc")])
    tally.data.parent.mkdir(exist_ok=True)
    tally.data.write_text("a file where the directory should be")
    one_line(tally.run("up"), "data")


def test_a_nats_server_that_is_too_old(plain, ltc):
    server = stand.NatsServer(binary=tools.old_nats_server(), sync=None).start()
    try:
        server.ready()
        tally = plain([bitcoin_chain(ltc, "ltc")], log={"kind": "nats", "url": [server.url], "replicas": 1})
        result = tally.run("up")
        assert result.code in (1, 64), repr(result)
        assert "2.12" in result.err and "2.9" in result.err, repr(result)
        nothing_listens(tally)
    finally:
        server.stop()


# -- nodes that are not there --------------------------------------------------------------------
def test_an_unreachable_node_stops_its_own_coin_only(nodes):
    away = stand.Litecoind()  # never started yet
    shop = Shop({"ltc": away, "btc": nodes["btc"]}, name="away")
    tally = shop.tally
    try:
        shop.merchant = tally.create_merchant()
        shop.key = tally.create_key(shop.merchant)
        for chain, account in shop.accounts.items():
            tally.add_wallet(shop.merchant, chain, account)
        tally.start(wait=False)
        wait_until("the server", lambda: requests.get(f"{tally.http}/livez", timeout=2).ok, 30, log=tally.tail)
        shop.wait_rate("LTC")
        shop.wait_rate("BTC")
        order = shop.order("ltc")
        with pytest.raises(deepay.Refused) as refused:
            shop.client.checkout(order.id, "LTC")
        assert (refused.value.status, refused.value.body["error"]) == (503, "ChainUnavailable")
        assert order.query()["status"] == "new"
        other = shop.order("btc")
        wait_until("the other coin", lambda: other.checkout(), 30, log=tally.tail)
        # and once the node is there, so is its coin
        away.start().ready().fund()
        wait_until("the coin", lambda: order.checkout(), 60, log=tally.tail)
        away.pay(order.target, order.amount)
        order.wait_paid()
        order.mine_to("confirmed", 1)
        order.finish()
    finally:
        shop.close()
        away.stop()


def test_a_node_that_stops_and_comes_back_loses_nothing(nodes):
    node = stand.Anvil().start().ready().fund()
    shop = Shop({"eth": node}, name="stops")
    try:
        shop.open()
        order = shop.order("eth").checkout()
        # told before it is overtaken by what comes next
        order.wait_told("pending")
        node.pay(order.target, order.amount)
        node.process.signal(19)  # SIGSTOP: connections hang
        assert order.query()["status"] == "pending"
        node.process.signal(18)  # SIGCONT
        order.mine_to("confirmed", 1, timeout=90)
        order.finish()
    finally:
        node.process.signal(18)
        shop.close()
        node.stop()
