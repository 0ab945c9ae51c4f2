"""What published DeePay clients send and read, beyond an order's plain way: forms, JSON, both signatures."""

import concurrent.futures
import hashlib
import itertools
import json
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from urllib.parse import urlencode

import pytest
import requests

from support import deepay

_serial = itertools.count(1)


def fields(shop, **changes):
    """A whole create request, not signed."""
    return {
        "merchant_id": str(shop.merchant),
        "out_trade_id": f"DP{next(_serial)}",
        "price_currency": "USD",
        "price_amount": "10",
        "notify_url": shop.sink.url,
        "callback_url": "http://127.0.0.1:9/back",
        "title": "A thing",
        **changes,
    }


def signed(shop, **changes):
    out = fields(shop, **changes)
    return {**out, "sign": deepay.sign(out, shop.key)}


def send_json(shop, path, text):
    headers = {"content-type": "application/json"}
    return requests.post(shop.tally.http + path, data=text.encode(), headers=headers, timeout=10)


def test_the_answer_to_create(shop):
    request = signed(shop, price_amount="10.50", attach="")
    answer = deepay.parse(shop.client.post("/order/create", request))
    assert {name: answer[name] for name in ("status", "price_currency", "out_trade_id")} == {
        "status": "new",
        "price_currency": "USD",
        "out_trade_id": request["out_trade_id"],
    }
    assert answer["price_amount"] == Decimal("10.5")
    assert abs(answer["created_at"] - time.time()) < 10
    # the creation time in UTC+8, then digits that cannot be guessed
    made = datetime.strptime(answer["transaction_id"][:14], "%Y%m%d%H%M%S")
    now = datetime.now(timezone(timedelta(hours=8))).replace(tzinfo=None)
    assert abs(now - made) < timedelta(seconds=10)


@pytest.mark.parametrize(
    "amount, shown",
    [("10", "10"), ("10.0000", "10"), ("0.00000001", "0.00000001"), ("1050.99", "1050.99"), ("7.10", "7.1")],
)
def test_amounts_are_plain_numbers(shop, amount, shown):
    answer = shop.client.post("/order/create", signed(shop, price_amount=amount))
    assert answer.status_code == 200, answer.text
    assert f'"price_amount":{shown},' in answer.text.replace(": ", ":"), answer.text


def test_the_answer_to_query(shop):
    order = shop.order("btc", price="10.0001", attach="additional info").checkout()
    answer = order.query()
    assert answer["merchant_id"] == str(shop.merchant)
    assert (answer["out_trade_id"], answer["transaction_id"]) == (order.out_trade_id, order.id)
    assert (answer["price_amount"], answer["price_currency"]) == (Decimal("10.0001"), "USD")
    assert (answer["status"], answer["pay_currency"], answer["attach"]) == ("pending", "BTC", "additional info")
    assert answer["pay_amount"] == order.quote["pay_amount"]
    assert answer["expire_at"] == order.quote["expire_at"]
    assert (answer["exception"], answer["exceptions"], answer["version"], answer["received"]) == ("none", [], 2, 0)
    by_own_id = shop.client.call("/order/query", out_trade_id=order.out_trade_id)
    assert by_own_id == answer


def test_aliases_of_an_older_client_generation(shop):
    request = signed(shop)
    made = deepay.parse(shop.client.post("/payment/create", request))
    found = shop.client.call("/payment/query", transaction_id=made["transaction_id"])
    assert found["out_trade_id"] == request["out_trade_id"]


def test_json_bodies_are_signed_over_the_text_of_their_numbers(shop):
    for literal in ("10", "10.0000", "1e1"):
        request = fields(shop, price_amount=literal)
        request["sign"] = deepay.sign(request, shop.key)
        number = dict(request, price_amount="@", merchant_id=int(shop.merchant))
        text = json.dumps(number).replace('"@"', literal)
        answer = send_json(shop, "/order/create", text)
        assert answer.status_code == 200, (literal, answer.text)
        assert deepay.parse(answer)["price_amount"] == 10


def test_text_of_all_kinds_is_signed_as_received(shop):
    for title in ("你好 & 再见", "a=b", "100 % +plus", "x&", "quote \" ' <b>", "line\nbreak"):
        answer = shop.client.post("/order/create", signed(shop, title=title))
        assert answer.status_code == 200, (title, answer.text)


def test_fields_of_the_merchants_own_are_signed_too(shop):
    request = signed(shop, zzz_own="7", aaa="x")
    assert shop.client.post("/order/create", request).status_code == 200
    changed = dict(signed(shop, zzz_own="7"), zzz_own="8")
    assert shop.client.post("/order/create", changed).status_code == 401


def test_empty_values_are_left_out_of_the_sign(shop):
    request = signed(shop, attach="", own="")
    assert shop.client.post("/order/create", request).status_code == 200
    zero = fields(shop, own="0")
    without = deepay.sign({k: v for k, v in zero.items() if k != "own"}, shop.key)
    assert shop.client.post("/order/create", {**zero, "sign": without}).status_code == 401


def test_a_trailing_ampersand_is_accepted_in_both_forms(shop):
    # `title` sorts last
    request = fields(shop, title="last&")
    trimmed = deepay.message(request).removesuffix("&")
    sign = hashlib.md5(f"{trimmed}&key={shop.key}".encode()).hexdigest().upper()
    assert shop.client.post("/order/create", {**request, "sign": sign}).status_code == 200


def test_hmac_where_the_request_asks_for_it(shop):
    assert shop.client.post("/order/create", signed(shop, sign_type="HMAC-SHA256")).status_code == 200
    unknown = signed(shop, sign_type="SHA1")
    assert shop.client.post("/order/create", unknown).status_code == 401


def test_a_merchant_who_requires_hmac(shop):
    strict = shop.tally.create_merchant("Strict shop")
    key = shop.tally.create_key(strict)
    shop.tally.json("merchant", "set", strict, "--require-hmac", "true")
    md5 = fields(shop, merchant_id=str(strict))
    assert shop.client.post("/order/create", {**md5, "sign": deepay.sign(md5, key)}).status_code == 401
    hmac = fields(shop, merchant_id=str(strict), sign_type="HMAC-SHA256")
    answer = deepay.parse(shop.client.post("/order/create", {**hmac, "sign": deepay.sign(hmac, key)}))
    # and what he is told is signed the same way
    told = shop.sink.wait_status(answer["transaction_id"], "new", log=shop.tally.tail).fields
    assert told["sign_type"] == "HMAC-SHA256"
    shop.sink.check(answer["transaction_id"], key)


def test_a_revoked_key_opens_nothing(shop):
    other = shop.tally.create_merchant("Careless shop")
    made = shop.tally.json("key", "create", "--merchant", other, "--face", "deepay")
    client = deepay.Client(shop.tally.http, other, made["api_key"])
    client.create("R1", "1")
    shop.tally.json("key", "revoke", "--merchant", other, made["key"])
    with pytest.raises(deepay.Refused) as refused:
        client.create("R2", "1")
    assert refused.value.status == 401


def test_another_merchants_order_is_not_there(shop):
    order = shop.order("ltc")
    other = shop.tally.create_merchant("Curious shop")
    client = deepay.Client(shop.tally.http, other, shop.tally.create_key(other))
    for name, value in (("transaction_id", order.id), ("out_trade_id", order.out_trade_id)):
        with pytest.raises(deepay.Refused) as refused:
            client.call("/order/query", **{name: value})
        assert (refused.value.status, refused.value.body["error"]) == (404, "OrderNotFound")


def test_checkout_again_answers_the_same_quote(shop):
    order = shop.order("ltc").checkout()
    again = shop.client.checkout(order.id, "LTC")
    for name in ("payment_address", "pay_amount", "expire_at"):
        assert again[name] == order.quote[name], name
    other = shop.client.call("/order/checkout", out_trade_id=order.out_trade_id, pay_currency="BTC")
    assert (other["pay_currency"], other["transaction_id"]) == ("BTC", order.id)
    assert other["payment_address"] != order.address


def test_every_quote_has_an_address_of_its_own(shop):
    addresses = [shop.order("btc").checkout().address for _ in range(3)]
    assert len(set(addresses)) == 3


def test_parallel_requests_make_one_order(shop):
    request = signed(shop)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: shop.client.post("/order/create", request), range(16)))
    assert {a.status_code for a in answers} == {200}, {a.text for a in answers}
    assert len({a.json()["transaction_id"] for a in answers}) == 1


def test_urlencoded_variants_are_read_alike(shop):
    request = signed(shop, title="a b")
    for raw in (urlencode(request), urlencode(request).replace("+", "%20")):
        assert shop.client.post("/order/create", None, raw=raw).status_code == 200
