"""A merchant with wallets on real nodes, and orders followed from creation to their end."""

import itertools
import time
from dataclasses import dataclass
from decimal import Decimal

import requests

from stand import codec
from stand.process import wait_until

from . import deepay, subscriber
from .keys import Account
from .sink import Sink
from .subscriber import Subscriber
from .tally import Tally, bitcoin_chain, ethereum_chain
from .venues import Venues

_serial = itertools.count(1)


@dataclass(frozen=True)
class Coin:
    """How one chain is paid."""

    chain: str
    asset: str
    kind: str
    decimals: int = 8
    mempool: bool = True
    #: regtest prefixes of the addresses the product must show
    hrp: str = ""
    p2pkh_byte: int = 0x6F
    p2sh_byte: int = 0xC4


COINS = {
    "btc": Coin("btc", "BTC", "p2wpkh", hrp="bcrt"),
    "ltc": Coin("ltc", "LTC", "p2wpkh", hrp="rltc", p2sh_byte=0x3A),
    "bch": Coin("bch", "BCH", "p2pkh"),
    "eth": Coin("eth", "ETH", "eth", decimals=18, mempool=False),
}


class Shop:
    """One installation with one merchant, a wallet per chain, a sink and a subscriber."""

    def __init__(
        self,
        nodes,
        log="embedded",
        nats=None,
        name="shop",
        kinds=None,
        apart=False,
        down=(),
        allow_private=True,
        settings=None,
    ):
        """`down` are venues that do not answer; `settings` are more keys for every chain."""
        self.nodes = nodes
        self.nats = nats
        self.apart = apart
        self.sink = Sink()
        self.venues = Venues()
        self.venues.down |= set(down)
        self.token = None
        chains, more = [], {"confirmed": 1, "complete": 6, **(settings or {})}
        for chain, node in nodes.items():
            if chain == "eth":
                self.token = node.token(6)
                chains.append(ethereum_chain(node, [("USDT", self.token, 6)], **more))
            else:
                chains.append(bitcoin_chain(node, chain, **more))
        rest = {"venues": self.venues, "name": name, "allow_private": allow_private}
        if log == "nats":
            nats_log = {"kind": "nats", "url": nats.urls, "replicas": len(nats.urls), "monitor": nats.monitor_urls}
            self.tally = Tally(chains, log=nats_log, **rest)
        else:
            self.tally = Tally(chains, publish=nats.url if nats else None, **rest)
        self.subscriber = Subscriber(nats.urls) if nats else None
        serial = f"{name} {next(_serial)} {self.tally.home}"
        self.accounts = {}
        for chain in nodes:
            kind = (kinds or {}).get(chain, COINS[chain].kind)
            self.accounts[chain] = Account.of(f"{serial} {chain}", kind, 60 if chain == "eth" else 1)
        self.merchant = None
        self.key = None

    def open(self):
        """Makes merchant, key and wallets, and starts the services."""
        self.merchant = self.tally.create_merchant()
        self.key = self.tally.create_key(self.merchant)
        for chain, account in self.accounts.items():
            self.tally.add_wallet(self.merchant, chain, account)
        return self.start()

    def start(self):
        if self.apart:
            self.tally.start_apart()
        else:
            self.tally.start()
        self.tally.wait_chains(self.nodes)
        return self

    def close(self, keep=False):
        self.tally.close(keep)
        self.sink.close()
        self.venues.close()
        if self.subscriber:
            self.subscriber.close()

    @property
    def client(self):
        return deepay.Client(self.tally.http, self.merchant, self.key)

    def wait_rate(self, asset, timeout=30):
        """Waits until the rate service knows an asset in USD."""
        def known():
            return requests.get(f"{self.tally.http}/rate/{asset}/USD", timeout=5).status_code == 200

        wait_until(f"a rate for {asset}", known, timeout, log=self.tally.tail)

    def order(self, chain, price="10.00", asset=None, **fields):
        """A created order; `fields` are further fields of the request."""
        return Order(self, chain, asset or COINS[chain].asset).create(price, **fields)


class Order:
    """One order and what is expected of it."""

    def __init__(self, shop, chain, asset):
        self.shop, self.chain, self.asset = shop, chain, asset
        self.coin = COINS[chain]
        self.node = shop.nodes[chain]
        self.out_trade_id = f"T{next(_serial)}-{chain}"
        self.id = None
        self.quote = None
        #: whether the deposit was met in the mempool; a block may be faster unless a test waits for `paid`
        self.seen = "maybe" if self.coin.mempool else False

    def create(self, price, **fields):
        fields = {"notify_url": self.shop.sink.url, "attach": f"for {self.out_trade_id}", **fields}
        answer = self.shop.client.create(self.out_trade_id, price, **fields)
        assert answer["status"] == "new", answer
        self.id = str(answer["transaction_id"])
        assert self.id.isdigit() and len(self.id) >= 26, self.id
        assert answer["payment_url"] == f"{self.shop.tally.http}/order/{self.id}"
        assert Decimal(str(answer["price_amount"])) == Decimal(price), answer
        return self

    def checkout(self):
        """Takes the quote; the address must come from the merchant's own key."""
        self.shop.wait_rate(self.asset)
        self.quote = self.shop.client.checkout(self.id, self.asset)
        assert self.quote["status"] == "pending", self.quote
        assert self.quote["pay_currency"] == self.asset, self.quote
        assert self.target in self._own(), f"{self.address} is not of the merchant's key"
        assert self.amount > 0
        assert 1190 <= self.quote["expire_at"] - time.time() <= 1201, self.quote
        return self

    def _own(self, count=40):
        account = self.shop.accounts[self.chain]
        return {_plain(account.script(index)) for index in range(count)}

    @property
    def address(self):
        return self.quote["payment_address"]

    @property
    def target(self):
        """Where to pay: the script, or the address in lower case on Ethereum."""
        return self.address.lower() if self.chain == "eth" else codec.script_of(self.address)

    @property
    def decimals(self):
        return 6 if self.asset == "USDT" else self.coin.decimals

    @property
    def amount(self):
        """The due amount in base units."""
        value = Decimal(str(self.quote["pay_amount"])) * 10**self.decimals
        assert value == value.to_integral_value(), self.quote
        return int(value)

    # -- following -------------------------------------------------------------------------
    def query(self):
        return self.shop.client.query(self.id)

    def wait(self, status, timeout=45, also=None):
        """Polls until the order has a status (and `also` holds); answers it."""

        def reached():
            answer = self.query()
            return answer if answer["status"] == status and (also is None or also(answer)) else None

        try:
            return wait_until(f"order {self.id} to be {status}", reached, timeout, every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\nnow: {self.query()}\n{self.shop.tally.tail()}") from error

    def wait_paid(self):
        """Waits until the payment was met in the mempool and the merchant was notified of it."""
        answer = self.wait_told("paid")
        self.seen = True
        return answer

    def wait_told(self, status, timeout=45, also=None):
        """As `wait`, and until the merchant was notified of it."""
        answer = self.wait(status, timeout, also)
        self.shop.sink.wait_version(self.id, answer["version"], log=self.shop.tally.tail)
        return answer

    def mine_to(self, status, blocks, timeout=45):
        """Mines blocks and waits for a status, and for the notification of it."""
        self.node.mine(blocks)
        return self.wait_told(status, timeout)

    def wait_fallen(self, timeout=45):
        """Waits until a reorg has thrown the order back; the exception names the cause."""

        def fallen():
            answer = self.query()
            return answer if answer["status"] in ("pending", "paid") else None

        try:
            answer = wait_until(f"order {self.id} to fall back", fallen, timeout, every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.shop.tally.tail()}") from error
        assert "reorged" in answer["exceptions"], answer
        assert answer["exception"] == "reorged", answer
        return answer

    def finish(self, exceptions=(), received=None):
        """Mines until complete, then checks everything that was told about the order."""
        self.node.mine(5)
        final = self.wait("complete")
        due = self.amount if received is None else received
        assert tuple(final["exceptions"]) == tuple(exceptions), final
        assert Decimal(str(final["received"])) * 10**self.decimals == due, final
        self.check_told(received=due)
        return final

    def check_told(self, expected=("pending", "confirmed", "complete"), key=None, received=None):
        """Notifications and NATS messages tell the same story, signed and in order.

        `expected` are statuses that must have been notified.
        """
        shop = self.shop
        shop.sink.wait_status(self.id, expected[-1], log=shop.tally.tail)
        told = shop.sink.check(self.id, key or shop.key)
        _in_order(expected, [fields["status"] for fields in told], "notifications")
        last = told[-1]
        assert last["status"] == expected[-1]
        due = self.amount if received is None else received
        assert Decimal(last["pay_amount"]) * 10**self.decimals == due, last
        if due == self.amount:
            assert Decimal(last["paid_value"]) >= Decimal(last["price_amount"]), last
        for fields in told:
            assert fields["merchant_id"] == str(shop.merchant), fields
            assert fields["out_trade_id"] == self.out_trade_id, fields
            assert fields["attach"] == f"for {self.out_trade_id}", fields
            # an order that is new has no currency to pay in yet
            assert fields["pay_currency"] == ("" if fields["status"] == "new" else self.asset), fields
            assert abs(int(fields["timestamp"]) - time.time()) < 600, fields
        if shop.subscriber:
            self.check_published(expected[-1], told)

    def check_published(self, last, told=()):
        """Every version was published once, in order, with the whole order; so was each step of the deposit."""
        shop = self.shop
        if shop.subscriber.missed:
            shop.subscriber.reread()
        shop.subscriber.wait_status(self.id, last, log=shop.tally.tail)
        status, _ = shop.subscriber.of(self.id)
        versions = [subscriber.check_status(heard, shop.merchant, self.id) for heard in status]
        numbers = [data["version"] for data in versions]
        assert numbers == list(range(1, len(numbers) + 1)), f"versions {numbers}"
        words = [data["status"] for data in versions]
        assert words[:2] == ["new", "pending"], words
        assert words[-1] == last, words
        paid = ["paid"] if self.seen is True else []
        _in_order([*paid, "confirmed", "complete"], words, "status messages")
        for fields in told:
            data = versions[int(fields["version"]) - 1]
            assert (fields["status"], fields["exception"]) == (data["status"], data["exception"]), (fields, data)
        self.check_deposits()

    def check_deposits(self):
        shop = self.shop

        def depths():
            deposit = shop.subscriber.of(self.id)[1]
            return [heard.body["data"]["confirmations"] for heard in deposit if heard.tokens[-1] == "confirmed"]

        wait_until(f"6 confirmations of {self.id} on NATS", lambda: 6 in depths(), 20, log=shop.tally.tail)
        _in_order((1, 2, 3, 6), depths(), "confirmation messages")
        deposit = shop.subscriber.of(self.id)[1]
        for heard in deposit:
            data = subscriber.check_deposit(heard, self.chain, shop.merchant, self.id)
            assert data["currency"] == self.asset, data
        events = [heard.tokens[-1] for heard in deposit]
        first = ["seen"] if self.seen is True else []
        _in_order([*first, "mined", "confirmed"], events, "deposit messages")
        assert self.seen or "seen" not in events, events


def _plain(script):
    return script.lower() if isinstance(script, str) else script


def _in_order(expected, got, what):
    """`expected` is a subsequence of `got`."""
    rest = iter(got)
    missing = [one for one in expected if one not in rest]
    assert not missing, f"{what}: {list(expected)} not in order in {got}"
