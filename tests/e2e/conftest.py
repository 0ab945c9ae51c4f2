"""Fixtures: each node of the stand once per pytest worker, started on first use."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import stand  # noqa: E402
from stand import ports  # noqa: E402
from support.shop import Shop  # noqa: E402


def _node(make):
    node = make().start()
    try:
        yield node.ready().fund()
    finally:
        node.stop()


@pytest.fixture(scope="session")
def ltc():
    for node in _node(stand.Litecoind):
        yield node.activate_mweb()


@pytest.fixture(scope="session")
def btc():
    yield from _node(stand.Bitcoind if stand.Bitcoind.present() else stand.Bcoin)


@pytest.fixture(scope="session")
def bch():
    yield from _node(stand.Bcash)


@pytest.fixture(scope="session")
def eth():
    yield from _node(stand.Anvil)


@pytest.fixture(scope="session")
def nodes(btc, ltc, bch, eth):
    """One node per chain, shared by the tests of a worker; every shop has keys of its own."""
    return {"btc": btc, "ltc": ltc, "bch": bch, "eth": eth}


@pytest.fixture
def nats():
    server = stand.NatsServer().start()
    try:
        yield server.ready()
    finally:
        server.stop()


@pytest.fixture
def open_shop(nodes):
    """Makes shops; each with a NATS server of its own, as log or to publish on."""
    opened = []

    def make(log="embedded", only=None, replicas=1, sync="always", **kwargs):
        server = stand.NatsServer(nodes=replicas, sync=sync).start().ready()
        opened.append(server.stop)
        chosen = {chain: nodes[chain] for chain in (only or nodes)}
        shop = Shop(chosen, log=log, nats=server, **kwargs)
        opened.append(shop.close)
        return shop.open()

    yield make
    for close in reversed(opened):
        close()


@pytest.fixture(scope="session", params=["embedded", "nats"])
def shop(request, nodes):
    """A running shop per log, shared by the tests that leave it whole."""
    server = stand.NatsServer().start().ready()
    shop = Shop(nodes, log=request.param, nats=server, name=f"shop-{request.param}")
    try:
        yield shop.open()
    finally:
        shop.close()
        server.stop()


@pytest.fixture(scope="session", autouse=True)
def _ports():
    yield
    ports.release_all()
