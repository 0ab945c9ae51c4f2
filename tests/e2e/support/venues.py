"""Venues of rates on loopback, in the shapes of the real ones, with prices that a test sets."""

import json
import threading
import time
from datetime import datetime, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from stand.ports import free_port

PRICES = {
    "BTC": Decimal("65000"),
    "ETH": Decimal("3000"),
    "LTC": Decimal("100"),
    "BCH": Decimal("500"),
    "USDT": Decimal("1"),
    "USDC": Decimal("1"),
}
EURO_IN_USD = Decimal("1.1506")
EURO_IN_CNY = Decimal("7.9009")

_KRAKEN = {"XXBT": "BTC", "XBT": "BTC", "XETH": "ETH", "XLTC": "LTC", "XXLTC": "LTC"}


class Venues:
    """One server that answers as Kraken, Coinbase, Bitstamp, Gemini, the ECB and Frankfurter do."""

    def __init__(self):
        self.prices = dict(PRICES)
        self.down = set()  # venue names that answer 503
        self.calls = []
        venues = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # noqa: N802
                code, kind, body = venues.answer(self.path)
                data = body.encode()
                self.send_response(code)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def book(self, asset, shift=Decimal("0.0002")):
        """Bid and ask around the price."""
        price = self.prices[asset]
        return price * (1 - shift), price * (1 + shift)

    def answer(self, path):
        parts = urlsplit(path)
        self.calls.append(path)
        for venue, start, make in (
            ("kraken", "/0/public/Ticker", self.kraken),
            ("coinbase", "/products/", self.coinbase),
            ("bitstamp", "/api/v2/ticker", self.bitstamp),
            ("gemini", "/v1/pubticker/", self.gemini),
            ("ecb", "/stats/eurofxref", self.ecb),
            ("frankfurter", "/v1/latest", self.frankfurter),
        ):
            if parts.path.startswith(start):
                if venue in self.down:
                    return 503, "text/plain", "down"
                try:
                    body = make(parts)
                except KeyError as error:
                    return 404, "application/json", json.dumps({"message": f"NotFound {error}"})
                kind = "text/xml" if body.startswith("<") else "application/json"
                return 200, kind, body
        return 404, "text/plain", "no such venue"

    def kraken(self, parts):
        result = {}
        for pair in parse_qs(parts.query).get("pair", [""])[0].split(","):
            name, asset, euro = self._kraken_pair(pair)
            if asset not in self.prices:
                return json.dumps({"error": ["EQuery:Unknown asset pair"]})
            bid, ask = (v / (EURO_IN_USD if euro else 1) for v in self.book(asset))
            a, b = f"{ask:.8f}", f"{bid:.8f}"
            result[name] = {"a": [a, "1", "1.000"], "b": [b, "1", "1.000"], "c": [b, "0.01"]}
        return json.dumps({"error": [], "result": result})

    @staticmethod
    def _kraken_pair(pair):
        euro = pair.endswith("EUR")
        base = pair[:-4] if pair[-4:] in ("ZUSD", "ZEUR") else pair[:-3]
        asset = _KRAKEN.get(base, base)
        long = {"BTC": "XXBTZ", "ETH": "XETHZ", "LTC": "XLTCZ", "USDT": "USDTZ"}.get(asset, asset)
        if asset == "USDT" and euro:
            long = "USDT"
        return long + ("EUR" if euro else "USD"), asset, euro

    def coinbase(self, parts):
        asset, _, quote = parts.path.split("/")[2].partition("-")
        if quote != "USD":
            raise KeyError(quote)
        bid, ask = self.book(asset)
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return json.dumps(
            {
                "trade_id": 1,
                "price": str(self.prices[asset]),
                "size": "0.1",
                "bid": f"{bid:.8f}",
                "ask": f"{ask:.8f}",
                "volume": "1000",
                "time": now,
            }
        )

    def bitstamp(self, _):
        rows = []
        for asset in self.prices:
            bid, ask = self.book(asset)
            rows.append(
                {
                    "pair": f"{asset}/USD",
                    "last": str(self.prices[asset]),
                    "bid": f"{bid:.8f}",
                    "ask": f"{ask:.8f}",
                    "timestamp": str(int(time.time())),
                }
            )
        return json.dumps(rows)

    def gemini(self, parts):
        asset = parts.path.rsplit("/", 1)[1].upper().removesuffix("USD")
        bid, ask = self.book(asset)
        volume = {"timestamp": int(time.time() * 1000)}
        return json.dumps({"bid": f"{bid:.8f}", "ask": f"{ask:.8f}", "last": f"{bid:.8f}", "volume": volume})

    def ecb(self, _):
        day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        rates = {"USD": EURO_IN_USD, "CNY": EURO_IN_CNY, "GBP": "0.85", "JPY": "160.1"}
        rows = "".join(f"<Cube currency='{c}' rate='{r}'/>" for c, r in rates.items())
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01" '
            'xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">'
            "<gesmes:subject>Reference rates</gesmes:subject>"
            f"<Cube><Cube time='{day}'>{rows}</Cube></Cube></gesmes:Envelope>"
        )

    def frankfurter(self, parts):
        base = parse_qs(parts.query).get("base", ["EUR"])[0]
        day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        in_euro = {"EUR": Decimal(1), "USD": EURO_IN_USD, "CNY": EURO_IN_CNY}
        rates = {c: float(r / in_euro[base]) for c, r in in_euro.items() if c != base}
        return json.dumps({"amount": 1.0, "base": base, "date": day, "rates": rates})
