"""The test's own keys and signatures, held against published vectors."""

import pytest

from stand import codec
from support import deepay, venues
from support.keys import HARD, XPRV, XPUB, Account, Key, checksummed, keccak256, taproot

KEY = "192006250b4c09247ec02edce69f6a2d"


def test_bip32_vector_1():
    master = Key.master(bytes.fromhex("000102030405060708090a0b0c0d0e0f"))
    assert master.xprv(XPRV) == (
        "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi"
    )
    key = master.path("m/0'/1")
    assert key.xpub(XPUB) == (
        "xpub6ASuArnXKPbfEwhqN6e3mwBcDTgzisQN1wXN9BJcM47sSikHjJf3UFHKkNAWbWMiGj7Wf5uMash7SyYq527Hqck2AxYysAA7xmALppuCkwQ"
    )
    public = Key(key.point, key.chain_code, key.depth)
    assert public.child(5).point == key.child(5).point
    assert key.number + HARD > HARD


BIP39_ABANDON = bytes.fromhex(
    "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc1"
    "9a5ac40b389cd370d086206dec8aa6c43daea6690f20ad3d8d48b2d2ce9e38e4"
)


def test_addresses_of_the_bips():
    """The seed of «abandon … about», as BIP 84, BIP 86 and wallets of Ethereum print it."""
    master = Key.master(BIP39_ABANDON)
    segwit = Account(master.path("m/84'/0'/0'"), "p2wpkh", XPUB)
    assert codec.address_of(segwit.script(0), "bc", 0, 5) == "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"
    assert codec.address_of(segwit.script(1), "bc", 0, 5) == "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"
    root = master.path("m/86'/0'/0'")
    wanted = "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"
    assert codec.address_of(taproot(root.child(0).child(0)), "bc", 0, 5) == wanted
    nested = Account(master.path("m/49'/0'/0'"), "p2sh-p2wpkh", XPUB)
    assert codec.address_of(nested.script(0), "bc", 0, 5) == "37VucYSaXLCAsxYyAPfbSi9eh4iEcbShgf"
    plain = Account(master.path("m/44'/0'/0'"), "p2pkh", XPUB)
    assert codec.address_of(plain.script(0), "bc", 0, 5) == "1LqBGSKuX5yYUonjxT5qGfpUsXKYYWeabA"
    ether = Account(master.path("m/44'/60'/0'"), "eth", XPUB)
    assert ether.script(0) == "0x9858EfFD232B4033E47d90003D41EC34EcaEda94"


def test_keccak_and_eip55():
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    raw = bytes.fromhex("5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")
    assert checksummed(raw) == "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"merchat_id": "10001", "out_trade_id": "MDC001", "title": "iphone X"}, "68739BCFD4344894FA9BDDDEE915992C"),
        ({"merchant_id": "10001", "out_trade_id": "MDC001", "title": "iphone X"}, "EFCD3937E838A5DB80129ECC84764B1D"),
        (
            {
                "title": "iPhone X",
                "attach": "additional info",
                "callback_url": "http://example.com/",
                "merchant_id": "10001",
                "notify_url": "http://example.com/notify",
                "out_trade_id": "E201809123",
                "price_amount": "10.0001",
                "price_currency": "CNY",
                "sign": "ignored",
            },
            "09272BCD5FE6F3E71A9D13F9DC7D1642",
        ),
        (
            {
                "merchant_id": "10001",
                "out_trade_id": "42",
                "price_amount": "10.0000",
                "price_currency": "USD",
                "attach": "",
            },
            "D83C3A40890F4498B2E219233B7EA2C6",
        ),
        ({"merchant_id": "10001", "transaction_id": "20181006113100525110"}, "70C1C2D504BB90F4FC62362536A0037A"),
    ],
)
def test_signatures_of_the_documentation(fields, expected):
    assert deepay.sign(fields, KEY) == expected


def test_venues_answer_in_the_shapes_of_the_real_ones():
    server = venues.Venues()
    try:
        _, _, body = server.answer("/0/public/Ticker?pair=XXBTZUSD,XETHZUSD,XLTCZUSD,BCHUSD,XXBTZEUR,USDTZUSD")
        for pair in ("XXBTZUSD", "XETHZUSD", "XLTCZUSD", "BCHUSD", "XXBTZEUR", "USDTZUSD"):
            assert f'"{pair}"' in body
        assert server.answer("/products/LTC-USD/ticker")[0] == 200
        assert server.answer("/products/DOGE-USD/ticker")[0] == 404
        assert "currency='USD' rate='1.1506'" in server.answer("/stats/eurofxref/eurofxref-daily.xml")[2]
        server.down.add("kraken")
        assert server.answer("/0/public/Ticker?pair=XXBTZUSD")[0] == 503
    finally:
        server.close()
