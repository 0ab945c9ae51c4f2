"""The command line: on a running installation and on a stopped one, for people and for scripts."""

import json

import pytest

from support.keys import Account
from support.tally import Tally, bitcoin_chain

KEY = "192006250b4c09247ec02edce69f6a2d"


@pytest.fixture
def stopped(ltc):
    one = Tally([bitcoin_chain(ltc, "ltc")], name="commands")
    yield one
    one.close()


def walk(tally):
    """Merchant, key and wallet, from nothing."""
    merchant = tally.create_merchant("Corner shop")
    assert any(m["merchant_id"] == merchant for m in tally.json("merchant", "list")["merchants"])
    tally.json("merchant", "set", merchant, "--quote", "30m", "--tolerance-percent", "0.5")
    shown = tally.json("merchant", "show", merchant)
    assert shown["settings"]["name"] == "Corner shop"
    made = tally.json("key", "create", "--merchant", merchant)
    keys = tally.json("key", "list", "--merchant", merchant)
    assert len(keys["keys"]) == 1 and made["api_key"] not in json.dumps(keys), keys
    account = Account.of(f"commands {tally.home}", "p2wpkh")
    added = tally.add_wallet(merchant, "ltc", account)
    listed = tally.json("wallet", "list", "--merchant", merchant)["wallets"]
    assert [wallet["wallet"] for wallet in listed] == [added["wallet"]]
    several = tally.json("wallet", "addresses", "--merchant", merchant, added["wallet"], "--count", 5)["addresses"]
    assert [one["script"] for one in several] == [account.script(index).hex() for index in range(5)]
    assert [one["script"] for one in added["first_addresses"]] == [account.script(i).hex() for i in range(3)]
    exported = tally.json("wallet", "export", "--merchant", merchant, added["wallet"])
    assert account.xpub in exported["descriptor"], exported
    return merchant


def test_a_stopped_installation(stopped):
    merchant = walk(stopped)
    assert stopped.json("order", "list", "--merchant", merchant)["orders"] == []
    # what was made is there when it starts
    stopped.start()
    assert stopped.json("merchant", "show", merchant)["settings"]["name"] == "Corner shop"


def test_a_running_installation(shop):
    walk(shop.tally)
    order = shop.order("ltc").checkout()
    shown = shop.tally.json("order", "show", order.id)
    assert shown["status"] == "pending"
    assert "kraken" in shown["quotes"][0]["rate_sources"], shown
    listed = shop.tally.json("order", "list", "--merchant", shop.merchant, "--status", "pending")["orders"]
    assert order.id in [one["id"] for one in listed]
    canceled = shop.tally.json("order", "cancel", order.id)
    assert canceled["status"] == "canceled"
    assert order.query()["status"] == "expired"
    shop.subscriber.wait_status(order.id, "canceled", log=shop.tally.tail)


def test_the_configuration_is_checked(stopped):
    result = stopped.run("check-config")
    assert (result.code, result.err) == (0, ""), repr(result)
    assert not stopped.data.exists(), "nothing is made"


@pytest.mark.parametrize(
    "pairs, sign",
    [
        (["merchant_id=10001", "out_trade_id=MDC001", "title=iphone X"], "EFCD3937E838A5DB80129ECC84764B1D"),
        (
            ["merchant_id=10001", "out_trade_id=42", "price_amount=10.0000", "price_currency=USD"],
            "D83C3A40890F4498B2E219233B7EA2C6",
        ),
        (["transaction_id=20181006113100525110", "merchant_id=10001"], "70C1C2D504BB90F4FC62362536A0037A"),
    ],
)
def test_sign_makes_the_published_signatures(stopped, pairs, sign):
    result = stopped.run("sign", "--key", KEY, *pairs)
    assert result.code == 0 and sign in result.out, repr(result)
    assert stopped.json("sign", "--key", KEY, *pairs)["sign"] == sign


COMMANDS = (
    "dev up watch project rate api notify check-config merchant key wallet order sign".split()
    + ["merchant create", "merchant list", "merchant show", "merchant set", "key create", "key list", "key revoke"]
    + ["wallet add", "wallet list", "wallet addresses", "wallet export"]
    + ["order list", "order show", "order accept", "order cancel"]
)
GROUPS = ("merchant", "key", "wallet", "order")


def test_every_command_has_help_with_an_example(stopped):
    for command in COMMANDS:
        result = stopped.run(*command.split(), "--help")
        assert result.code == 0, repr(result)
        assert "--json" in result.out and "--config" in result.out, command
        assert command in GROUPS or "Example" in result.out, command


@pytest.mark.parametrize("words", [["nonsense"], ["up", "--nonsense"], ["merchant", "show"], ["order", "show", "x y"]])
def test_bad_usage(stopped, words):
    result = stopped.run(*words)
    assert result.code == 64 and result.err, repr(result)


def test_what_is_not_there_fails(stopped):
    result = stopped.run("merchant", "show", "99999")
    assert result.code == 1 and "99999" in result.err, repr(result)


def test_a_chain_that_is_not_configured(stopped):
    result = stopped.run("watch", "doge")
    assert result.code == 64 and "doge" in result.err and "ltc" in result.err, repr(result)
