"""A plain NATS subscriber: core subscriptions with nats-py in a thread of its own."""

import asyncio
import json
import re
import threading
from dataclasses import dataclass
from decimal import Decimal

import nats

from stand.process import wait_until


#: the stream behind the public subjects
STREAM = "TALLY_PUBLIC"


@dataclass
class Heard:
    subject: str
    body: dict

    @property
    def tokens(self):
        return self.subject.split(".")


class Subscriber:
    """Collects everything on the given subjects until it is closed."""

    def __init__(self, urls, subjects=("tally.v1.status.>", "tally.v1.deposit.>")):
        self.urls, self.subjects = list(urls), subjects
        self.heard = []
        #: whether the connection was lost, and with it perhaps messages: a plain subscription has no memory
        self.missed = False
        self.loop = asyncio.new_event_loop()
        self.client = None
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self._run(self._open())

    def _run(self, work, timeout=30):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    async def _open(self):
        async def quiet(*_):
            pass

        async def lost(*_):
            self.missed = True

        self.client = await nats.connect(
            self.urls,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,
            error_cb=quiet,
            disconnected_cb=lost,
        )
        for subject in self.subjects:
            await self.client.subscribe(subject, cb=self._take)
        await self.client.flush()

    async def _take(self, message):
        body = json.loads(message.data, parse_float=Decimal)
        self.heard.append(Heard(message.subject, body))

    def reread(self):
        """Puts what the public stream holds in place of what was heard live, and goes on from there."""
        self.missed = False
        # a server that has just started answers for its streams a moment later
        wait_until("the public stream", lambda: self._run(self._reread()), 30, every=0.5)

    async def _reread(self):
        heard, stream = [], self.client.jetstream()
        info = await stream.stream_info(STREAM)
        reader = await stream.subscribe(">", stream=STREAM, ordered_consumer=True)
        while info.state.messages:
            message = await reader.next_msg(timeout=10)
            heard.append(Heard(message.subject, json.loads(message.data, parse_float=Decimal)))
            if message.metadata.sequence.stream >= info.state.last_seq:
                break
        await reader.unsubscribe()
        self.heard[:] = heard + self.heard
        return True

    def close(self):
        self._run(self.client.close())
        self.loop.call_soon_threadsafe(self.loop.stop)

    def of(self, order_id):
        """(status messages, deposit messages) of one order, in order of arrival, repeats left out by id."""
        seen, status, deposit = set(), [], []
        for one in list(self.heard):
            if order_id not in one.tokens or one.body.get("id") in seen:
                continue
            seen.add(one.body.get("id"))
            (status if one.tokens[2] == "status" else deposit).append(one)
        return status, deposit

    def wait_status(self, order_id, status, timeout=30, log=None):
        def found():
            return any(one.tokens[-1] == status for one in self.of(order_id)[0])

        wait_until(f"status {status} of {order_id} on NATS", found, timeout, log=log)

    def wait_deposit(self, order_id, event, timeout=30, log=None, also=None):
        def found():
            return any(
                one.tokens[-1] == event and (also is None or also(one.body["data"])) for one in self.of(order_id)[1]
            )

        wait_until(f"deposit {event} of {order_id} on NATS", found, timeout, log=log)


def check_envelope(heard: Heard):
    """The message is a CloudEvents 1.0 event in JSON; answers what is inside."""
    body = heard.body
    for name in ("id", "source", "type", "specversion"):
        assert isinstance(body.get(name), str) and body[name], f"{heard.subject}: no {name} in {body}"
    assert body["specversion"] == "1.0"
    assert body["subject"] == heard.subject
    assert body["datacontenttype"] == "application/json"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", str(body["time"])), body
    assert "data" in body, f"{heard.subject}: no data"
    return body["data"]


def check_status(heard: Heard, merchant, order_id):
    """A status message: the whole public order, with its version."""
    data = check_envelope(heard)
    assert heard.tokens == ["tally", "v1", "status", str(merchant), order_id, data["status"]], heard.subject
    assert (data["id"], str(data["merchant_id"])) == (order_id, str(merchant)), data
    assert isinstance(data["version"], int) and data["version"] >= 1, data
    for name in ("exception", "exceptions", "price_amount", "price_currency", "received", "created_at"):
        assert name in data, f"no {name} in {data}"
    return data


def check_deposit(heard: Heard, chain, merchant, order_id):
    """A deposit message: the deposit as of one thing that happened to it."""
    data = check_envelope(heard)
    assert heard.tokens[:6] == ["tally", "v1", "deposit", chain, str(merchant), order_id], heard.subject
    assert heard.tokens[6:] == [data["event"]], heard.subject
    assert (data["order_id"], str(data["merchant_id"])) == (order_id, str(merchant)), data
    assert isinstance(data["version"], int) and data["version"] >= 1, data
    assert re.fullmatch("(0x)?[0-9a-f]{64}", data["txid"]), data
    assert Decimal(data["amount"]) > 0, data
    return data
