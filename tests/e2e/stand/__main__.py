"""The stand from the shell: `python -m stand up`, then `python -m stand mine btc 1` and so on.

`up` starts one node per chain and a NATS server on fixed ports, prints their addresses as one JSON
line, and runs until it is ended. The other commands speak to it over its control port.
"""

import argparse
import json
import signal
import sys
import tempfile
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import requests

from . import Anvil, Bcash, Bcoin, Litecoind, NatsServer

DECIMALS = {"btc": 8, "ltc": 8, "bch": 8, "eth": 18}
BASE_PORT = 18500


def build(base: int, home: Path):
    """One node per chain on ports counted from `base`."""
    return {
        "btc": Bcoin(base + 1, base + 2, base + 3, home=home / "btc"),
        "ltc": Litecoind(base + 11, home=home / "ltc"),
        "bch": Bcash(base + 21, base + 22, base + 23, home=home / "bch"),
        "eth": Anvil(base + 31, home=home / "eth"),
        "nats": NatsServer(port=base + 41, monitor_port=base + 42, home=home / "nats"),
    }


def describe(nodes, base):
    """What somebody needs to reach every node."""
    out = {"control": f"http://127.0.0.1:{base}"}
    for name, node in nodes.items():
        if name == "nats":
            out[name] = {"url": node.url, "monitor": node.monitor, "pid": node.processes[0].pid}
            continue
        out[name] = {"rpc": node.url, "pid": node.process.pid, "log": str(node.process.log_path)}
        if name == "eth":
            out[name] |= {"chain_id": node.chain_id, "token": node.token(6), "token_decimals": 6}
        else:
            out[name] |= {"network": "regtest", "user": node.user, "password": node.password}
            if hasattr(node, "wallet_url"):
                out[name]["wallet"] = node.wallet_url
    return out


def amount(chain, text):
    """A decimal amount of coins in base units."""
    value = Decimal(str(text)) * 10 ** DECIMALS[chain]
    if value != value.to_integral_value():
        raise ValueError(f"{text} has more than {DECIMALS[chain]} decimals")
    return int(value)


def mined(node, txid, blocks):
    return {"txid": txid, "blocks": node.mine(blocks) if blocks else []}


def do(nodes, command, body):
    """Runs one control command."""
    chain = body["chain"]
    node = nodes[chain]
    if command == "mine":
        return {"blocks": node.mine(int(body.get("blocks", 1)))}
    if command == "pay":
        mode, to = body.get("mode", "normal"), body["address"]
        if mode == "token":
            token = node.token(6)
            txid = node.transfer(token, to, int(Decimal(str(body["amount"])) * 10**6))
        elif mode == "mweb":
            txid, block = node.pay_mweb_mix(to, amount(chain, body["amount"]))
            return {"txid": txid, "blocks": [block]}
        else:
            call = {
                "normal": "pay",
                "contract": "pay_by_contract",
                "reverted": "pay_by_contract_reverted",
                "cashtokens": "pay_cashtokens",
                "pegout": "pegout",
            }[mode]
            txid = getattr(node, call)(to, amount(chain, body["amount"]))
        return mined(node, txid, int(body.get("blocks", 0)))
    if command == "reorg":
        if body.get("out"):
            return {"blocks": node.reorg_out(body["txid"])}
        return {"block": node.reorg(body["txid"], at=int(body.get("at", 1)))}
    raise KeyError(command)


def serve(nodes, base):
    """The control port; one request at a time, in this thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802
            try:
                length = int(self.headers.get("content-length", 0))
                body = json.loads(self.rfile.read(length) or b"{}")
                code, answer = 200, do(nodes, self.path.strip("/"), body)
            except Exception as error:  # noqa: BLE001
                code, answer = 400, {"error": f"{type(error).__name__}: {error}"}
            data = json.dumps(answer).encode() + b"\n"
            self.send_response(code)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    HTTPServer(("127.0.0.1", base), Handler).serve_forever()


def up(options):
    nodes = build(options.base_port, Path(tempfile.mkdtemp(prefix="tally-stand-")))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        for node in nodes.values():
            node.start()
        for name, node in nodes.items():
            node.ready()
            if name != "nats":
                node.fund()
        if not options.no_mweb:
            nodes["ltc"].activate_mweb()
        text = json.dumps(describe(nodes, options.base_port))
        if options.json:
            options.json.write_text(text + "\n")
        print(text, flush=True)
        serve(nodes, options.base_port)
    finally:
        for node in nodes.values():
            node.stop()


def main():
    parser = argparse.ArgumentParser(prog="stand", description=__doc__)
    parser.add_argument("--base-port", type=int, default=BASE_PORT)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("up", help="start every node and stay")
    one.add_argument("--json", type=Path, help="also write the JSON here")
    one.add_argument("--no-mweb", action="store_true", help="leave Litecoin below height 432")
    one = commands.add_parser("mine", help="mine CHAIN [BLOCKS]")
    one.add_argument("chain", choices=DECIMALS)
    one.add_argument("blocks", nargs="?", type=int, default=1)
    one = commands.add_parser("pay", help="pay CHAIN ADDRESS AMOUNT, in coins")
    one.add_argument("chain", choices=DECIMALS)
    one.add_argument("address")
    one.add_argument("amount")
    modes = ["normal", "token", "contract", "reverted", "cashtokens", "pegout", "mweb"]
    one.add_argument("--mode", default="normal", choices=modes)
    one.add_argument("--blocks", type=int, default=0, help="mine so many blocks after it")
    one = commands.add_parser("reorg", help="move a mined payment to another block")
    one.add_argument("chain", choices=DECIMALS)
    one.add_argument("txid")
    one.add_argument("--at", type=int, default=1, help="block of the new branch, from 0")
    one.add_argument("--out", action="store_true", help="leave the payment out of the branch")
    options = parser.parse_args()
    if options.command == "up":
        return up(options)
    body = {k: v for k, v in vars(options).items() if k not in ("command", "base_port")}
    url = f"http://127.0.0.1:{options.base_port}/{options.command}"
    answer = requests.post(url, json=body, timeout=120)
    print(answer.text.strip())
    return 0 if answer.ok else 1


if __name__ == "__main__":
    sys.exit(main())
