"""What whoever runs it gets wrong at first: another master key, another admin token, no file, no node."""

import re
import secrets
import signal
import socket
import time

import pytest
import requests

from stand.ports import free_port
from stand.process import wait_until
from support import deepay
from support.tally import Tally


@pytest.fixture
def plain():
    """An installation without chains."""
    one = Tally(name="operator")
    yield one
    one.close()


def one_line(result, *words):
    """Exit 64 with one line that names the fault; what was logged before it does not count."""
    assert result.code == 64, repr(result)
    lines = [line for line in result.err.splitlines() if line.startswith("tally: ")]
    assert len(lines) == 1 and result.err.rstrip().endswith(lines[0]), repr(result)
    for word in words:
        assert word in lines[0], f"{word!r} not in {lines[0]!r}"


def nothing_listens(tally):
    for port in (tally.http_port, tally.admin_port, tally.metrics_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, port


# -- the master key ----------------------------------------------------------------------------
def signed_is_answered(tally, merchant, key):
    """A signed request is read: the order that it asks for is not there."""
    client = deepay.Client(tally.http, merchant, key)
    with pytest.raises(deepay.Refused) as refused:
        client.call("/order/query", out_trade_id="none")
    assert refused.value.status == 404, refused.value.body


def test_another_master_key_is_refused_before_anything_listens(plain):
    merchant = plain.create_merchant()
    key = plain.create_key(merchant)
    right, other = plain.env["TALLY_MASTER_KEY"], {"TALLY_MASTER_KEY": secrets.token_hex(32)}
    words = ["secrets.master", f"key 1 of merchant {merchant}", "1 of 1", f"key revoke --merchant {merchant} 1"]
    # at first no read model is there, after that there is one
    for _ in range(2):
        for command in ("up", "api", "notify"):
            one_line(plain.run(command, env=other), *words)
        nothing_listens(plain)
        for command in (["key", "create", "--merchant", merchant], ["merchant", "list"], ["order", "list"]):
            one_line(plain.run(*command, env=other), *words)
        assert len(plain.json("key", "list", "--merchant", merchant, env=other)["keys"]) == 1
        plain.start()
        signed_is_answered(plain, merchant, key)
        assert plain.stop() == {"up": 0}
    assert plain.env["TALLY_MASTER_KEY"] == right


def test_a_lost_master_key_costs_the_keys_it_sealed_and_nothing_else(plain):
    merchant = plain.create_merchant()
    for _ in range(2):
        plain.create_key(merchant)
    plain.env["TALLY_MASTER_KEY"] = secrets.token_hex(32)
    for key in (1, 2):
        one_line(plain.run("up"), f"key {key} of merchant {merchant}")
        plain.json("key", "revoke", "--merchant", merchant, key)
    made = plain.create_key(merchant)
    plain.start()
    signed_is_answered(plain, merchant, made)


def test_what_needs_no_master_key_does_not_ask_for_the_right_one(plain):
    merchant = plain.create_merchant()
    plain.create_key(merchant, face="payscrypt")
    plain.env["TALLY_MASTER_KEY"] = secrets.token_hex(32)
    plain.start()
    # nothing is sealed yet, so this one is as good
    key = plain.create_key(merchant)
    signed_is_answered(plain, merchant, key)


# -- the admin token ---------------------------------------------------------------------------
def test_another_admin_token_is_told_as_such(plain):
    plain.start()
    commands = [["merchant", "list"], ["rebuild"], ["order", "export", "--csv"], ["backup", "--to", plain.home / "b"]]
    for command in commands:
        result = plain.run(*command, env={"TALLY_ADMIN_TOKEN": "another"})
        one_line(result, "admin.token", "env:TALLY_ADMIN_TOKEN", str(plain.admin_port))
        assert "Bearer" not in result.err, repr(result)


def test_no_admin_token_is_told_as_such(plain):
    plain.start()
    tokenless = plain.home / "tokenless.toml"
    text = plain.config.read_text()
    tokenless.write_text(text.replace('token = "env:TALLY_ADMIN_TOKEN"\n', ""))
    assert tokenless.read_text() != text
    del plain.env["TALLY_ADMIN_TOKEN"]  # in the environment it would count without being named
    for command in (["merchant", "list"], ["backup", "--to", plain.home / "b"]):
        result = plain.run(*command, config=tokenless)
        assert result.code != 0 and "admin.token is not set" in result.err, repr(result)
        assert "[admin]" in result.err, repr(result)
    # where it is named and not there, that is said
    one_line(plain.run("merchant", "list"), "admin.token", "TALLY_ADMIN_TOKEN")


# -- files and folders -------------------------------------------------------------------------
def test_a_missing_file_is_named(plain):
    for command in ("up", "check-config", "merchant list"):
        one_line(plain.run(*command.split(), config=plain.home / "shop.toml"), "shop.toml", "--config")


def test_what_is_checked_is_not_made(plain):
    assert plain.run("check-config").code == 0
    assert not plain.data.exists()
    plain.data.write_text("a file where the folder should be")
    one_line(plain.run("check-config"), "data_dir", "is no folder")


# -- nodes that are not there ------------------------------------------------------------------
def test_a_node_that_is_not_there_is_told_of_once(plain):
    url = f"http://127.0.0.1:{free_port()}"
    tables = [
        ("[[chain]]", {"id": "ltc", "kind": "bitcoin", "coin": "ltc", "network": "regtest", "rpc": [{"url": url}]}),
        ("[[chain]]", {"id": "eth", "kind": "ethereum", "chain_id": 1, "rpc": [{"url": url}]}),
    ]
    plain.chain_tables += tables
    plain.write()
    plain.start()
    began = time.monotonic()

    def waits():
        return all(f"waiting to start chain={chain}" in plain.tail(1000) for chain in ("ltc", "eth"))

    wait_until("both watchers to say that they wait", waits, 20, log=plain.tail)
    time.sleep(8)
    told = [line for line in plain.tail(1000).splitlines() if url in line]
    for chain in ("ltc", "eth"):
        mine = [line for line in told if f"chain={chain}" in line]
        assert len(mine) == 2, "\n".join(mine)
        assert "node failed" in mine[0] and re.search("refused", mine[0]), mine[0]
    assert time.monotonic() - began < 50, "the reminder of the next minute is not in this"
    shown = requests.get(f"{plain.metrics}/readyz", timeout=5).json()["watchers"]
    assert all("does not answer" in one["stalled"] for one in shown.values()), shown
    plain.processes["up"].signal(signal.SIGTERM)
