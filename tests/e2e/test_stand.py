"""The stand itself, proven against the real nodes, with no part of the product in play."""

import asyncio
import os
import signal

import nats
import pytest

from stand import NatsServer, codec
from stand.core import has_mweb
from stand.process import wait_until
from stand.rpc import RpcError

COIN = 10**8
ETHER = 10**18
KEY_HASH = bytes(range(20))
TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


def script(kind, fill):
    """A script of a kind that nobody can spend."""
    twenty, thirty_two = bytes([fill]) * 20, bytes([fill]) * 32
    return {
        "p2pkh": codec.p2pkh(twenty),
        "p2sh": codec.p2sh(twenty),
        "p2wpkh": codec.witness(0, twenty),
        "p2wsh": codec.witness(0, thirty_two),
        "p2tr": codec.witness(1, thirty_two),
    }[kind]


def paid_to(tx, wanted):
    return [o.value for o in tx.outputs if o.script == wanted]


# -- addresses -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "address, expected",
    [
        # BIP 173, BIP 350 and the CashAddr specification
        ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
        (
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
            "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        ),
        ("bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a", "76a91476a04053bda0a88bda5177b86a15c3b29f55987388ac"),
        ("1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu", "76a91476a04053bda0a88bda5177b86a15c3b29f55987388ac"),
        ("3CWFddi6m4ndiGyKqzYvsFYagqDLPVMTzC", "a91476a04053bda0a88bda5177b86a15c3b29f55987387"),
    ],
)
def test_addresses_decode_to_the_scripts_of_their_specifications(address, expected):
    assert codec.script_of(address).hex() == expected


def test_addresses_encode_and_decode():
    for kind in ("p2pkh", "p2sh", "p2wpkh", "p2wsh", "p2tr"):
        wanted = script(kind, 7)
        assert codec.script_of(codec.address_of(wanted, "rltc", 0x6F, 0x3A)) == wanted
    for kind in (0, 1):
        text = codec.cashaddr_encode("bchreg", kind, KEY_HASH)
        assert codec.cashaddr_decode(text) == ("bchreg", kind, KEY_HASH)


# -- the three chains of Bitcoin's family ------------------------------------------------------
CASES = [
    ("btc", "p2pkh"),
    ("btc", "p2wpkh"),
    ("btc", "p2tr"),
    ("ltc", "p2pkh"),
    ("ltc", "p2sh"),
    ("ltc", "p2wpkh"),
    ("bch", "p2pkh"),
    ("bch", "p2sh"),
]


@pytest.mark.parametrize("chain, kind", CASES)
def test_a_payment_reaches_its_script(request, chain, kind):
    node = request.getfixturevalue(chain)
    wanted = script(kind, 33)
    txid = node.pay(wanted, 12_345_678)
    assert txid in node.mempool()
    assert node.block_of(txid) is None
    [mined] = node.mine()
    assert node.block_of(txid) == mined
    assert node.block(mined)[0] == mined
    assert paid_to(node.transaction(txid), wanted) == [12_345_678]


@pytest.mark.parametrize("chain", ["btc", "ltc", "bch"])
def test_a_reorg_moves_a_payment_to_another_block(request, chain):
    node = request.getfixturevalue(chain)
    wanted = script("p2pkh", 44)
    txid = node.pay(wanted, COIN)
    [old] = node.mine()
    node.mine(2)
    height, tip = node.height_of(old), node.tip()
    new = node.reorg(txid, at=1)
    assert node.tip() != tip
    assert node.rpc("getblockhash", height) != old
    assert node.height_of(new) == height + 1
    assert node.block_of(txid) == new != old
    assert node.height() == height + 3
    # the node mines on, and so does its wallet
    again = node.pay(wanted, COIN)
    node.mine()
    assert node.block_of(again) == node.tip()


@pytest.mark.parametrize("chain", ["btc", "ltc", "bch"])
def test_a_reorg_takes_a_payment_out_and_mining_puts_it_back(request, chain):
    node = request.getfixturevalue(chain)
    txid = node.pay(script("p2pkh", 55), COIN)
    [old] = node.mine()
    height = node.height_of(old)
    node.reorg_out(txid)
    assert node.block_of(txid) is None
    assert node.rpc("getblockhash", height) != old
    node.resubmit(txid)
    [new] = node.mine()
    assert node.block_of(txid) == new != old
    # the same node reorganises again
    assert node.reorg(txid) != new


def test_btc_payments_carry_witnesses(btc):
    txid = btc.pay(script("p2wpkh", 66), COIN)
    btc.mine()
    assert btc.transaction(txid).flag == 1


# -- Litecoin ----------------------------------------------------------------------------------
def test_ltc_pays_a_normal_address_beside_mweb_data(ltc):
    wanted = script("p2wpkh", 77)
    txid, block_hash = ltc.pay_mweb_mix(wanted, 3 * COIN)
    block = ltc.block(block_hash)
    assert has_mweb(block)
    assert paid_to(ltc.transaction(txid), wanted) == [3 * COIN]
    # the HogEx is serialised with flag byte 08
    hogex = block[1][-1]
    assert hogex.raw[4:6] == b"\x00\x08"
    assert hogex.txid == ltc.rpc("getblock", block_hash, 1)["tx"][-1]


def test_ltc_peg_out_pays_from_the_hogex_under_another_txid(ltc):
    wanted = script("p2wpkh", 88)
    txid = ltc.pegout(wanted, 2 * COIN)
    assert txid in ltc.mempool()
    [block_hash] = ltc.mine()
    hogex, vout = ltc.pegout_in(block_hash, wanted)
    assert (hogex != txid, vout >= 1) == (True, True)
    _, txs, _ = ltc.block(block_hash)
    assert txs[-1].outputs[vout].value == 2 * COIN
    assert all(tx.txid != txid for tx in txs)


def test_ltc_reorganises_past_mweb_blocks(ltc):
    txid, old = ltc.pay_mweb_mix(script("p2wpkh", 99), COIN)
    assert ltc.reorg(txid) != old


# -- Bitcoin Cash --------------------------------------------------------------------------------
def test_bch_output_carries_a_token_prefix_on_chain(bch):
    wanted = script("p2pkh", 11)
    txid = bch.pay_cashtokens(wanted, COIN // 2)
    bch.mine()
    outputs = bch.transaction(txid).outputs
    assert outputs[0].script == b"\xef" + b"\x11" * 32 + b"\x10\x01" + wanted
    assert outputs[0].value == COIN // 2


# -- Ethereum --------------------------------------------------------------------------------------
def test_eth_payment_and_receipts_by_hash(eth):
    to = "0x" + "21" * 20
    txid = eth.pay(to, ETHER)
    assert eth.block_of(txid) is None
    [mined] = eth.mine()
    receipts = eth.rpc("eth_getBlockReceipts", mined)
    assert [r["transactionHash"] for r in receipts] == [txid]
    assert (receipts[0]["status"], receipts[0]["blockHash"]) == ("0x1", mined)
    assert eth.balance(to) == ETHER


def frames(call, dead=False):
    """Every frame of a call trace, with whether it or an ancestor failed."""
    dead = dead or "error" in call
    yield call, dead
    for inner in call.get("calls", []):
        yield from frames(inner, dead)


def traced(eth, block_hash, to):
    traces = eth.rpc("debug_traceBlockByHash", block_hash, {"tracer": "callTracer"})
    hits = []
    for trace in traces:
        for call, dead in frames(trace["result"]):
            if call.get("to", "").lower() == to and int(call.get("value", "0x0"), 16):
                hits.append((int(call["value"], 16), dead))
    return hits


def test_eth_payment_by_contract_shows_only_in_the_trace(eth):
    to = "0x" + "31" * 20
    txid = eth.pay_by_contract(to, 5 * ETHER)
    [mined] = eth.mine()
    block = eth.rpc("eth_getBlockByHash", mined, True)
    assert [tx["to"].lower() != to for tx in block["transactions"]] == [True]
    receipt = eth.receipt(txid)
    assert (receipt["status"], receipt["logs"]) == ("0x1", [])
    assert traced(eth, mined, to) == [(5 * ETHER, False)]
    assert eth.balance(to) == 5 * ETHER


def test_eth_inner_payment_undone_with_its_parent(eth):
    to = "0x" + "41" * 20
    txid = eth.pay_by_contract_reverted(to, ETHER)
    [mined] = eth.mine()
    assert eth.receipt(txid)["status"] == "0x1"
    assert traced(eth, mined, to) == [(ETHER, True)]
    assert eth.balance(to) == 0


def test_eth_token_transfer_logs_topics_and_value(eth):
    to = "0x" + "51" * 20
    token = eth.token(decimals=6)
    txid = eth.transfer(token, to, 25_000_000)
    [mined] = eth.mine()
    [log] = eth.rpc("eth_getLogs", {"blockHash": mined, "address": token})
    assert log["transactionHash"] == txid
    assert log["topics"][0] == TRANSFER_TOPIC
    assert log["topics"][2][-40:] == to[2:]
    assert (len(log["topics"]), int(log["data"], 16)) == (3, 25_000_000)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_eth_reorg_moves_a_payment_to_another_block(eth, at):
    txid = eth.pay("0x" + "61" * 20, ETHER)
    [old] = eth.mine()
    eth.mine(1)
    height = eth.height_of(old)
    if at == 0:
        eth.reorg_out(txid)
        assert eth.block_of(txid) is None
        assert eth.hash_at(height) != old
        eth.resubmit(txid)
        eth.mine()
        assert eth.block_of(txid) not in (None, old)
    else:
        new = eth.reorg(txid, at=at)
        assert eth.hash_at(height) != old
        assert eth.block_of(txid) == new == eth.hash_at(height + at)
        assert eth.height() > height + 1


# -- NATS --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("nodes", [1, 3])
def test_nats_keeps_what_it_acknowledged_through_a_kill(nodes):
    server = NatsServer(nodes=nodes).start()

    async def publish():
        client = await nats.connect(server.urls)
        js = client.jetstream()

        async def created():
            try:
                return await js.add_stream(name="S", subjects=["s.>"], num_replicas=nodes)
            except Exception:  # noqa: BLE001 - the cluster is still electing
                return None

        for _ in range(100):
            if await created():
                break
            await asyncio.sleep(0.1)
        for number in range(20):
            await js.publish("s.a", str(number).encode())
        await client.close()

    async def count():
        client = await nats.connect(server.urls)
        info = await client.jetstream().stream_info("S")
        await client.close()
        return info.state.messages

    try:
        server.ready()
        asyncio.run(publish())
        for index in range(nodes):
            server.kill(index)
        assert not any(p.alive() for p in server.processes)
        for process in server.processes:
            process.start()
        server.ready()
        wait_until("20 messages", lambda: asyncio.run(count()) == 20, 20)
    finally:
        server.stop()


def test_stopping_leaves_no_process():
    server = NatsServer().start().ready()
    pid = server.processes[0].pid
    assert server.processes[0].alive()
    server.stop()
    assert server.processes[0].child.returncode in (0, 1, -signal.SIGTERM)
    with pytest.raises(ProcessLookupError):

        os.kill(pid, 0)


def test_an_unknown_call_is_an_error_of_the_node(ltc):
    with pytest.raises(RpcError):
        ltc.rpc("nosuchmethod")
