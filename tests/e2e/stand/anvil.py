"""An Ethereum node: anvil, chain id 31337, with unlocked funded accounts."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from . import tools
from .ports import free_port
from .process import Process, scratch, wait_until
from .rpc import Rpc

CHAIN_ID = 31337
TRANSFER = "a9059cbb"

# Forwards the call's value to the address in the first word of its data; reverts when that fails.
#   CALL(gas, calldataload(0), callvalue, 0, 0, 0, 0); iszero -> revert
FORWARD = bytes.fromhex("600060006000600034600035" "5af1" "601557600080fd5b00")
# The same, and then reverts in any case: the inner transfer never happens.
FORWARD_THEN_REVERT = bytes.fromhex("600060006000600034600035" "5af1" "5060006000fd")


def creation(runtime: bytes) -> str:
    """Code that deploys a runtime: copies what follows it to memory and returns that."""
    head = bytes([0x60, len(runtime), 0x80, 0x60, 0x0B, 0x60, 0, 0x39, 0x60, 0, 0xF3])
    return "0x" + (head + runtime).hex()


def swallowing(callee: str) -> bytes:
    """Runtime that passes its value and data on to `callee` and ignores whether that worked."""
    #   calldatacopy(0, 0, calldatasize); call(gas, callee, callvalue, 0, calldatasize, 0, 0); stop
    return bytes.fromhex("366000600037" "6000" "6000" "36" "6000" "34" "73" + callee[2:] + "5af1" "5000")


def word(value) -> str:
    """A 32-byte word of call data, from an address or a number."""
    number = int(value, 16) if isinstance(value, str) else value
    return f"{number:064x}"


class Anvil:
    """Mines on command (`automine=False`, the default) or at once."""

    chain = "eth"

    def __init__(self, rpc_port=None, automine=False, chain_id=CHAIN_ID, home=None):
        self.home = home or scratch(self.chain)
        self.port = rpc_port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.rpc = Rpc(self.url)
        self.chain_id = chain_id
        self.accounts = []
        self._deployed = {}
        self._raw = {}
        argv = [tools.anvil(), "--host", "127.0.0.1", "--port", self.port, "--chain-id", chain_id]
        if not automine:
            argv.append("--no-mining")
        self.process = Process(self.chain, argv, self.home)

    def start(self):
        self.process.start()
        return self

    def ready(self):
        self.process.wait_ready(lambda: self.rpc("eth_chainId"))
        self.accounts = self.rpc("eth_accounts")
        return self

    def fund(self):
        """The accounts are funded from genesis; mines one block so that there is a history."""
        if self.height() == 0:
            self.mine(1)
        return self

    def stop(self):
        self.process.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    # -- chain -----------------------------------------------------------------------------
    def height(self):
        return int(self.rpc("eth_blockNumber"), 16)

    def tip(self):
        return self.rpc("eth_getBlockByNumber", "latest", False)["hash"]

    def mine(self, blocks=1):
        """Mines blocks with what is pending; answers their hashes."""
        first = self.height() + 1
        for _ in range(blocks):
            self.rpc("evm_mine")
        return [self.hash_at(number) for number in range(first, first + blocks)]

    def hash_at(self, number):
        return self.rpc("eth_getBlockByNumber", hex(number), False)["hash"]

    def balance(self, address, block="latest"):
        return int(self.rpc("eth_getBalance", address, block), 16)

    def receipt(self, txid):
        return self.rpc("eth_getTransactionReceipt", txid)

    def block_of(self, txid):
        """The hash of the block that holds a transaction, else None."""
        receipt = self.receipt(txid)
        return receipt["blockHash"] if receipt else None

    def height_of(self, block_hash):
        block = self.rpc("eth_getBlockByHash", block_hash, False)
        return int(block["number"], 16) if block else None

    # -- payments --------------------------------------------------------------------------
    def send(self, to, value=0, data="0x", gas=200000):
        """A transaction of the first account, into the pool."""
        request = {"from": self.accounts[0], "value": hex(value), "data": data, "gas": hex(gas)}
        if to:
            request["to"] = to
        return self.rpc("eth_sendTransaction", request)

    def pay(self, address, amount: int) -> str:
        """A plain transfer of wei."""
        return self.send(address, amount, gas=21000)

    def pay_by_contract(self, address, amount: int) -> str:
        """The payment shows only as an internal call of this transaction."""
        return self.send(self._contract("forward", FORWARD), amount, "0x" + word(address))

    def pay_by_contract_reverted(self, address, amount: int) -> str:
        """A successful transaction whose inner transfer to `address` was undone with its parent."""
        inner = self._contract("revert", FORWARD_THEN_REVERT)
        return self.send(self._contract("swallow", swallowing(inner)), amount, "0x" + word(address))

    def deploy(self, code: str) -> str:
        """Deploys creation code at once, in a block of its own; answers the address."""
        txid = self.send(None, 0, code, gas=3_000_000)
        self.mine(1)
        receipt = wait_until("the deployment", lambda: self.receipt(txid), 10)
        if receipt["status"] != "0x1":
            raise AssertionError(f"deployment failed: {receipt}")
        return receipt["contractAddress"]

    def _contract(self, name, runtime):
        if name not in self._deployed:
            self._deployed[name] = self.deploy(creation(runtime))
        return self._deployed[name]

    def token(self, decimals=6) -> str:
        """The address of an ERC-20 contract whose whole supply the first account holds."""
        name = f"token{decimals}"
        if name not in self._deployed:
            self._deployed[name] = self.deploy("0x" + token_bytecode() + word(decimals))
        return self._deployed[name]

    def transfer(self, token, address, amount: int) -> str:
        """An ERC-20 transfer."""
        return self.send(token, 0, f"0x{TRANSFER}{word(address)}{word(amount)}")

    # -- reorgs ----------------------------------------------------------------------------
    def raw_of(self, txid):
        return self.rpc("debug_getRawTransaction", txid)

    def reorg_out(self, txid, extra=1):
        """Replaces the payment's block and all above it by a branch `extra` longer, without the payment.

        The node forgets the payment altogether; `resubmit` sends it again.
        """
        self._raw[txid] = self.raw_of(txid)
        depth = self.height() - self.height_of(self.block_of(txid)) + 1
        self.rpc("anvil_reorg", depth, [])
        if self.receipt(txid):
            raise AssertionError(f"{txid} survived the reorg")
        return self.mine(extra)

    def resubmit(self, txid):
        """Sends a payment again that a reorg threw out; `mine` puts it into a block."""
        if self.rpc("eth_sendRawTransaction", self._raw[txid]) != txid:
            raise AssertionError(f"{txid} changed its hash")

    def reorg(self, txid, at=1, extra=1):
        """As `reorg_out`, with the payment back in block `at` (from 0) of the branch; answers its hash."""
        height, first = self.height(), self.height_of(self.block_of(txid))
        depth = height - first + 1
        if at < depth:
            self.rpc("anvil_reorg", depth, [[self.raw_of(txid), at]])
            self.mine(extra)
        else:
            self.reorg_out(txid, at - depth)
            self.resubmit(txid)
            self.mine(max(extra - (at - depth), 1))
        block_hash = self.block_of(txid)
        if self.height_of(block_hash) != first + at:
            raise AssertionError(f"{txid} is not in block {at} of the new branch")
        return block_hash


def token_bytecode() -> str:
    """Creation code of `token.sol`, compiled once per cache."""
    source = Path(__file__).with_name("token.sol")
    out = tools.cache() / "token-bytecode.hex"
    if not out.exists() or out.stat().st_mtime < source.stat().st_mtime:
        script = Path(__file__).with_name("compile_token.js")
        solc = tools.npm("ethereum", "solc")
        done = subprocess.run(
            [tools.program("node"), script, solc, source],
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise AssertionError(f"solc: {done.stderr}")
        partial = out.with_suffix(f".{os.getpid()}")
        partial.write_text(json.loads(done.stdout)["bytecode"])
        partial.replace(out)
    return out.read_text()
