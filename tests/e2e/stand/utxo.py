"""What every Bitcoin-family node of the stand offers, over calls that all of them answer.

A reorg is made on a twin: a second instance that gets our blocks up to the fork, mines another,
longer branch there, and hands it over with `submitblock`. So the node under watch switches in one
step, as it would on the network, and none of them needs `invalidateblock`.
"""

from . import codec, wire
from .process import wait_until
from .rpc import RpcError


class UtxoNode:
    """Base of the node classes; a subclass starts the process and knows the wallet."""

    chain = "?"

    def __init__(self):
        self._twin = None
        self.raw = {}

    # -- a subclass gives these ------------------------------------------------------------
    def _spawn_twin(self):
        """A fresh, empty second instance of the same node."""
        raise NotImplementedError

    def mining_address(self):
        """An address of the node's own wallet, in the node's own format."""
        raise NotImplementedError

    def _send(self, script: bytes, amount: int) -> str:
        """Pays a script from the wallet and answers the txid."""
        raise NotImplementedError

    # -- common ----------------------------------------------------------------------------
    def height(self):
        return self.rpc("getblockcount")

    def tip(self):
        return self.rpc("getbestblockhash")

    def mine(self, blocks=1):
        """Mines blocks with what the mempool holds; answers their hashes."""
        hashes = []
        while blocks > 0:
            step = min(blocks, 100)
            hashes += self.rpc("generatetoaddress", step, self.mining_address())
            blocks -= step
        return hashes

    def mine_to_height(self, height):
        missing = height - self.height()
        if missing > 0:
            self.mine(missing)

    def mempool(self):
        return self.rpc("getrawmempool")

    def pay(self, to, amount: int) -> str:
        """Pays an address or a script from the node's wallet; answers once the mempool shows it."""
        txid = self._send(codec.as_script(to), amount)
        wait_until(f"{txid} in the mempool", lambda: txid in self.mempool(), 15)
        self.raw[txid] = self.rpc("getrawtransaction", txid)
        return txid

    def block(self, block_hash):
        """A block read from its bytes: (hash, transactions, what follows them)."""
        raw = bytes.fromhex(self.rpc("getblock", block_hash, 0))
        return wire.read_block(raw)

    def block_at(self, height):
        return self.block(self.rpc("getblockhash", height))

    def height_of(self, block_hash, depth=300):
        """The height of a block of the best chain, else None."""
        top = self.height()
        for height in range(top, max(top - depth, -1), -1):
            if self.rpc("getblockhash", height) == block_hash:
                return height
        return None

    def block_of(self, txid, depth=60):
        """The hash of the block of the best chain that holds a transaction, else None."""
        top = self.height()
        for height in range(top, max(top - depth, -1), -1):
            block_hash = self.rpc("getblockhash", height)
            if any(tx.txid == txid for tx in self.block(block_hash)[1]):
                return block_hash
        return None

    def transaction(self, txid):
        """A mined transaction as read from its block."""
        block_hash = self.block_of(txid)
        if block_hash is None:
            return None
        return next(tx for tx in self.block(block_hash)[1] if tx.txid == txid)

    # -- reorgs ----------------------------------------------------------------------------
    def branch(self, fork_height, blocks):
        """Replaces everything above `fork_height` by `len(blocks)` new blocks.

        Each entry lists raw transactions (hex) for that block. The branch must be longer than what
        it replaces. Answers the new hashes in ascending order.
        """
        replaced = self.height() - fork_height
        if len(blocks) <= replaced:
            raise ValueError(f"{len(blocks)} blocks do not outgrow the {replaced} they replace")
        twin = self._twin_at(fork_height)
        hashes = []
        for raws in blocks:
            for raw in raws:
                txid = twin.rpc("sendrawtransaction", raw)
                wait_until(f"{txid} in the twin's mempool", lambda t=txid: t in twin.mempool(), 15)
            hashes += twin.rpc("generatetoaddress", 1, twin.mining_address())
        for block_hash in hashes:
            self._submit(self, twin.rpc("getblock", block_hash, 0))
        wait_until("the node to take the longer branch", lambda: self.tip() == hashes[-1], 20)
        return hashes

    def reorg_out(self, txid, extra=1):
        """Puts a longer branch without the payment in place of its block and all above it.

        Afterwards the payment is at most in the mempool; `mine` puts it back where the node kept it.
        """
        fork = self.height_of(self.block_of(txid)) - 1
        return self.branch(fork, [[] for _ in range(self.height() - fork + extra)])

    def reorg(self, txid, at=1, extra=1):
        """As `reorg_out`, with the payment back in block `at` (from 0) of the branch; answers that block's hash."""
        raw = self.raw.get(txid) or self.transaction(txid).raw.hex()
        fork = self.height_of(self.block_of(txid)) - 1
        blocks = [[] for _ in range(max(self.height() - fork + extra, at + 1))]
        blocks[at] = [raw]
        hashes = self.branch(fork, blocks)
        if not any(tx.txid == txid for tx in self.block(hashes[at])[1]):
            raise AssertionError(f"{txid} is not in block {hashes[at]} of the new branch")
        return hashes[at]

    def resubmit(self, txid):
        """Sends a payment again that a reorg threw out, unless the node kept it."""
        if txid not in self.mempool():
            self.rpc("sendrawtransaction", self.raw[txid])
            wait_until(f"{txid} in the mempool", lambda: txid in self.mempool(), 15)

    def _twin_at(self, fork_height):
        twin = self._twin
        if twin is not None:
            top = twin.height()
            ours = top <= fork_height and self.rpc("getblockhash", top) == twin.tip()
            if not ours:
                twin.stop()
                twin = self._twin = None
        if twin is None:
            twin = self._twin = self._spawn_twin()
        for height in range(twin.height() + 1, fork_height + 1):
            self._submit(twin, self.rpc("getblock", self.rpc("getblockhash", height), 0))
        wait_until("the twin to follow", lambda: twin.height() == fork_height, 20)
        return twin

    @staticmethod
    def _submit(node, raw):
        try:
            answer = node.rpc("submitblock", raw)
        except RpcError as error:
            answer = error.message
        if answer not in (None, "inconclusive", "duplicate", "valid"):
            raise AssertionError(f"submitblock: {answer}")

    def _stop_twin(self):
        if self._twin is not None:
            self._twin.stop()
            self._twin = None
