"""Nodes of Bitcoin Core's family: Litecoin Core, and a Bitcoin Core that the machine brings along."""

import os
import shutil
from decimal import Decimal

from . import codec, tools
from .ports import free_port
from .process import Process, scratch, wait_until
from .rpc import Rpc
from .utxo import UtxoNode


class CoreNode(UtxoNode):
    """`-regtest`, one wallet, no peers."""

    program = "?"
    hrp, p2pkh_byte, p2sh_byte = "bcrt", 0x6F, 0xC4
    user, password = "stand", "stand-password"
    extra_args = ()

    def __init__(self, rpc_port=None, home=None):
        super().__init__()
        self.home = home or scratch(self.chain)
        self.port = rpc_port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.rpc = Rpc(self.url, self.user, self.password)
        self.wallet_rpc = Rpc(f"{self.url}/wallet/", self.user, self.password)
        self._mining = None
        self.process = Process(
            self.chain,
            [
                self._binary(),
                "-regtest",
                "-server",
                f"-datadir={self.home}",
                "-listen=0",
                "-dnsseed=0",
                f"-rpcport={self.port}",
                "-rpcbind=127.0.0.1",
                "-rpcallowip=127.0.0.1",
                f"-rpcuser={self.user}",
                f"-rpcpassword={self.password}",
                "-fallbackfee=0.0002",
                "-printtoconsole=1",
                *self.extra_args,
            ],
            self.home,
        )

    def _binary(self):
        return tools.program(self.program)

    def start(self):
        self.process.start()
        return self

    def ready(self):
        self.process.wait_ready(lambda: self.rpc("getblockcount") >= 0)
        wallets = self.rpc("listwallets")
        if "" not in wallets:
            known = [w["name"] for w in self.rpc("listwalletdir")["wallets"]]
            self.rpc("loadwallet" if "" in known else "createwallet", "")
        return self

    def stop(self):
        # SIGKILL: nothing is to be kept, and on SIGTERM it waits for every idle connection
        self._stop_twin()
        self.process.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def _spawn_twin(self):
        return type(self)().start().ready()

    def mining_address(self):
        if self._mining is None:
            self._mining = self.wallet_rpc("getnewaddress", "mining", "bech32")
        return self._mining

    def fund(self):
        """Mature coins in the wallet."""
        if self.height() < 110:
            self.mine(110 - self.height())
        return self

    def address(self, script):
        return codec.address_of(script, self.hrp, self.p2pkh_byte, self.p2sh_byte)

    def _send(self, script, amount):
        return self.wallet_rpc("sendtoaddress", self.address(script), str(Decimal(amount) / 10**8))


class Bitcoind(CoreNode):
    """Bitcoin Core, where `TALLY_BITCOIND` or `PATH` has one."""

    chain = "btc"
    program = "bitcoind"

    @staticmethod
    def present():
        return bool(os.environ.get("TALLY_BITCOIND") or shutil.which("bitcoind"))

    def _binary(self):
        return os.environ.get("TALLY_BITCOIND") or super()._binary()


class Litecoind(CoreNode):
    """Litecoin Core; blocks carry MWEB from height 432 of regtest on."""

    chain = "ltc"
    program = "litecoind"
    hrp, p2pkh_byte, p2sh_byte = "rltc", 0x6F, 0x3A
    MWEB_HEIGHT = 432
    MWEB_WALLET = "mweb"

    def wallet(self, name):
        """An RPC endpoint of one of the node's wallets."""
        return Rpc(f"{self.url}/wallet/{name}", self.user, self.password)

    def activate_mweb(self):
        """Mines past the activation and pegs coins into a wallet that holds nothing else."""
        if self.MWEB_WALLET in self.rpc("listwallets"):
            return self
        main = self.wallet("")
        self.mine_to_height(self.MWEB_HEIGHT - 1)
        self.rpc("createwallet", self.MWEB_WALLET)
        main("sendtoaddress", self.wallet(self.MWEB_WALLET)("getnewaddress", "", "mweb"), "50")
        self.mine(2)
        wait_until(
            "coins in the MWEB wallet",
            lambda: self.wallet(self.MWEB_WALLET)("getbalance") > 0,
            20,
        )
        return self

    def pay_mweb_mix(self, to, amount):
        """Pays `to` and mines it in a block that carries MWEB data beside it.

        Answers (txid, block hash).
        """
        self.activate_mweb()
        main = self.wallet("")
        main("sendtoaddress", main("getnewaddress", "", "mweb"), "1")
        txid = self.pay(to, amount)
        return txid, self.mine(1)[0]

    def pegout(self, to, amount):
        """Pays `to` out of MWEB coins, into the mempool only; answers the wallet's txid.

        The block shows the payment under the HogEx's txid instead: see `pegout_in`.
        """
        self.activate_mweb()
        address = self.address(codec.as_script(to))
        txid = self.wallet(self.MWEB_WALLET)(
            "sendtoaddress", address, str(Decimal(amount) / 10**8)
        )
        wait_until("the peg-out in the mempool", lambda: txid in self.mempool(), 15)
        return txid

    def pegout_in(self, block_hash, to):
        """(txid, vout) of the HogEx output that pays a script in a block."""
        script = codec.as_script(to)
        hogex = self.block(block_hash)[1][-1]
        for index, output in enumerate(hogex.outputs):
            if index and output.script == script:
                return hogex.txid, index
        raise AssertionError(f"no peg-out to {script.hex()} in {block_hash}")


def has_mweb(block):
    """Whether a block as `UtxoNode.block` gives it ends in a HogEx and an extension block."""
    _, txs, rest = block
    return txs[-1].flag & 8 == 8 and rest[:1] == b"\x01"


__all__ = ["Bitcoind", "CoreNode", "Litecoind", "has_mweb"]
