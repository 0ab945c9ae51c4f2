"""A merchant's DeePay client, from the published documentation: requests, signatures, notifications."""

import hashlib
import hmac
import json
from decimal import Decimal

import requests


def message(fields: dict) -> str:
    """String A: every non-empty field except `sign`, by key in byte order."""
    pairs = [(k, v) for k, v in fields.items() if k != "sign" and v != ""]
    return "&".join(f"{k}={v}" for k, v in sorted(pairs, key=lambda p: p[0].encode()))


def sign(fields: dict, key: str) -> str:
    """MD5 by default, HMAC-SHA256 where the fields say so."""
    text = f"{message(fields)}&key={key}".encode()
    if fields.get("sign_type") == "HMAC-SHA256":
        return hmac.new(key.encode(), text, hashlib.sha256).hexdigest().upper()
    return hashlib.md5(text).hexdigest().upper()


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, answer):
        super().__init__(f"HTTP {answer.status_code}: {answer.text[:300]}")
        self.status = answer.status_code
        self.text = answer.text
        try:
            self.body = answer.json()
        except ValueError:
            self.body = None


def parse(answer):
    """The JSON of a 200 answer with exact decimals; anything else is `Refused`."""
    if answer.status_code != 200:
        raise Refused(answer)
    return json.loads(answer.text, parse_float=Decimal)


class Client:
    """One merchant against one gateway."""

    def __init__(self, base: str, merchant_id, api_key: str):
        self.base = base
        self.merchant_id = str(merchant_id)
        self.api_key = api_key

    def signed(self, fields: dict) -> dict:
        """Fields with the merchant's id and the signature."""
        out = {"merchant_id": self.merchant_id, **{k: str(v) for k, v in fields.items()}}
        return {**out, "sign": sign(out, self.api_key)}

    def post(self, path, fields, raw=None):
        """A POST as published clients send it; `raw` replaces the encoded body."""
        headers = {"content-type": "application/x-www-form-urlencoded"}
        data = raw if raw is not None else fields
        return requests.post(self.base + path, data=data, headers=headers, timeout=30)

    def call(self, path, **fields):
        return parse(self.post(path, self.signed(fields)))

    def create(self, out_trade_id, price, currency="USD", **more):
        fields = {
            "out_trade_id": out_trade_id,
            "price_amount": price,
            "price_currency": currency,
            "notify_url": "http://127.0.0.1:9/none",
            "callback_url": "http://127.0.0.1:9/back",
            "title": "A thing",
            **more,
        }
        return self.call("/order/create", **fields)

    def checkout(self, transaction_id, currency, **more):
        return self.call(
            "/order/checkout", transaction_id=transaction_id, pay_currency=currency, **more
        )

    def query(self, transaction_id):
        return self.call("/order/query", transaction_id=transaction_id)
