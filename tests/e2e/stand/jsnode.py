"""bcoin (BTC) and bcash (BCH) on Node.js, in memory.

Their wallets listen on a port of their own and take outputs as raw scripts, which spares us their
address prefixes (bcoin's regtest has its own).
"""

import json
import shutil
import subprocess
from pathlib import Path

import requests

from . import codec, tools
from .ports import free_port
from .process import Process, scratch, wait_until
from .rpc import Rpc
from .utxo import UtxoNode


class JsNode(UtxoNode):
    """What the two share."""

    project = "?"
    user, password = "x", "stand-password"
    account = "default"
    #: blocks that give the wallet mature coins
    funded_height = 120

    def __init__(self, rpc_port=None, p2p_port=None, wallet_port=None, home=None):
        super().__init__()
        self.home = home or scratch(self.chain)
        self.port = rpc_port or free_port()
        self.wallet_port = wallet_port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.wallet_url = f"http://127.0.0.1:{self.wallet_port}"
        self.rpc = Rpc(self.url, self.user, self.password)
        self._mining = None
        self.process = Process(
            self.chain,
            [
                tools.program("node"),
                tools.npm(self.project, f"{self.project}/bin/node"),
                "--network=regtest",
                "--memory=true",
                f"--prefix={self.home}",
                "--http-host=127.0.0.1",
                f"--http-port={self.port}",
                "--host=127.0.0.1",
                f"--port={p2p_port or free_port()}",
                "--wallet-http-host=127.0.0.1",
                f"--wallet-http-port={self.wallet_port}",
                f"--api-key={self.password}",
                "--listen=false",
                "--no-dns=true",
                "--max-outbound=1",
                "--log-level=warning",
            ],
            self.home,
        )

    def start(self):
        self.process.start()
        return self

    def ready(self):
        self.process.wait_ready(lambda: self.rpc("getblockcount") >= 0)
        self.process.wait_ready(lambda: self.wallet("GET", "/wallet/primary"))
        return self

    def stop(self):
        self._stop_twin()
        self.process.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def _spawn_twin(self):
        return type(self)().start().ready()

    def wallet(self, method, path, **body):
        """One call of the wallet's HTTP interface."""
        answer = requests.request(
            method,
            self.wallet_url + path,
            json=body or None,
            auth=(self.user, self.password),
            timeout=30,
        )
        value = answer.json()
        if value is None or value.get("error"):
            raise AssertionError(f"{method} {path}: {value}")
        return value

    def mining_address(self):
        if self._mining is None:
            path = f"/wallet/primary/account/{self.account}"
            self._mining = self.wallet("GET", path)["receiveAddress"]
        return self._mining

    def fund(self):
        """Mature coins in the wallet, which follows its node a moment later."""
        self.mine_to_height(self.funded_height)
        wait_until("coins in the wallet", lambda: self.balance() > 10**9, 30)
        return self

    def balance(self):
        answer = self.wallet("GET", f"/wallet/primary/balance?account={self.account}")
        return int(answer["confirmed"])

    def _send(self, script, amount):
        output = {"script": script.hex(), "value": amount}
        answer = self.wallet(
            "POST", "/wallet/primary/send", account=self.account, rate=20000, outputs=[output]
        )
        return answer["hash"]


class Bcoin(JsNode):
    """Bitcoin. The wallet's account is a SegWit one, so its payments have witnesses."""

    chain = "btc"
    project = "bcoin"
    account = "segwit"
    #: SegWit is active from height 432 of regtest on
    funded_height = 440

    def ready(self):
        super().ready()
        self.wallet("PUT", f"/wallet/primary/account/{self.account}", witness=True)
        return self


class Bcash(JsNode):
    """Bitcoin Cash. It predates CashTokens, so an output's script may be any bytes."""

    chain = "bch"
    project = "bcash"

    def pay_cashtokens(self, to, amount, category=b"\x11" * 32, tokens=1):
        """Pays an output whose script bytes carry a token prefix in front of the real script."""
        script = codec.cashtoken_prefix(category, tokens) + codec.as_script(to)
        made = self._craft(script, amount)
        txid = self.rpc("sendrawtransaction", made)
        wait_until(f"{txid} in the mempool", lambda: txid in self.mempool(), 15)
        self.raw[txid] = made
        return txid

    def _craft(self, script, amount):
        """A signed transaction from a fresh coinbase of a key that the wallet does not know."""
        helper = Path(__file__).with_name("bcash_tx.js")

        def run(request):
            done = subprocess.run(
                [tools.program("node"), str(helper)],
                input=json.dumps({"module": str(tools.npm("bcash", "bcash")), **request}),
                capture_output=True,
                text=True,
                timeout=30,
            )
            if done.returncode:
                raise AssertionError(f"bcash_tx.js: {done.stderr}")
            return json.loads(done.stdout)

        key = run({"action": "key"})
        block_hash = self.rpc("generatetoaddress", 1, key["address"])[0]
        self.mine(101)
        coinbase = self.block(block_hash)[1][0]
        output = coinbase.outputs[0]
        coin = {
            "hash": coinbase.txid,
            "index": 0,
            "value": output.value,
            "script": output.script.hex(),
        }
        request = {"action": "sign", "key": key["key"], "coin": coin}
        return run({**request, "script": script.hex(), "value": amount})["raw"]
