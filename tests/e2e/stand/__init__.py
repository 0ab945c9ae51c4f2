"""Real nodes on loopback for the end-to-end suites: one class per node.

Amounts are integers in base units (satoshi, wei, token units) everywhere in this package.
"""

from .anvil import Anvil
from .core import Bitcoind, Litecoind
from .jsnode import Bcash, Bcoin
from .nats_server import NatsServer

__all__ = ["Anvil", "Bcash", "Bcoin", "Bitcoind", "Litecoind", "NatsServer"]
