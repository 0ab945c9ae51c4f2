"""The merchant's notify_url: takes every POST, answers `ok`, and remembers what came."""

import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

from stand.ports import free_port
from stand.process import wait_until

from . import deepay


#: what every notification carries
FIELDS = (
    "merchant_id transaction_id out_trade_id price_currency price_amount pay_currency pay_amount status attach "
    "exception version timestamp paid_value sign"
).split()


@dataclass
class Received:
    at: float
    path: str
    pairs: list
    content_type: str
    acknowledged: bool

    @property
    def fields(self):
        return dict(self.pairs)


class Sink:
    """A server on a port of its own. `answer` may be replaced to test retries."""

    def __init__(self):
        self.received = []
        self.answer = lambda received: (200, "ok")
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # noqa: N802
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                got = Received(
                    time.time(),
                    self.path,
                    parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=False),
                    self.headers.get("content-type", ""),
                    False,
                )
                code, text = sink.answer(got)
                got.acknowledged = code // 100 == 2 and text.strip().lower() == "ok"
                sink.received.append(got)
                data = text.encode()
                self.send_response(code)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/notify"
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def of(self, transaction_id):
        """What came for one order, in order of arrival."""
        return [r for r in list(self.received) if r.fields.get("transaction_id") == transaction_id]

    def wait_status(self, transaction_id, status, timeout=30, log=None):
        return wait_until(
            f"notification {status} of {transaction_id}; got {self.statuses(transaction_id)}",
            lambda: next(
                (r for r in self.of(transaction_id) if r.fields.get("status") == status), None
            ),
            timeout,
            log=log,
        )

    def wait_version(self, transaction_id, version, timeout=30, log=None):
        """Until a version of the order, or a newer one that took its place, was told."""
        return wait_until(
            f"notification of version {version} of {transaction_id}",
            lambda: next(
                (r for r in self.of(transaction_id) if int(r.fields.get("version") or 0) >= version), None
            ),
            timeout,
            log=log,
        )

    def statuses(self, transaction_id):
        return [r.fields.get("status") for r in self.of(transaction_id)]

    def check(self, transaction_id, api_key):
        """Every notification of an order is signed and in order; answers their fields, newest last."""
        got = self.of(transaction_id)
        version = 0
        for one in got:
            fields = one.fields
            missing = [name for name in FIELDS if name not in fields]
            assert not missing, f"{missing} missing in {fields}"
            assert len(fields) == len(one.pairs), f"repeated key: {one.pairs}"
            assert one.content_type.startswith("application/x-www-form-urlencoded")
            assert fields["sign"] == deepay.sign(fields, api_key), f"bad signature: {fields}"
            assert int(fields["version"]) >= version, f"older after newer: {self.statuses(transaction_id)}"
            version = int(fields["version"])
        return [one.fields for one in got]

