"""Extended keys and their addresses (BIP 32), for keys that exist only in tests.

Every test makes a key of its own from its name, so no two tests meet on one address of a shared node.
"""

import hashlib
import hmac
from dataclasses import dataclass

from Crypto.Hash import RIPEMD160, keccak

from stand import codec

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
HARD = 1 << 31
#: version bytes of extended public keys
XPUB, TPUB = bytes.fromhex("0488b21e"), bytes.fromhex("043587cf")
XPRV, TPRV = bytes.fromhex("0488ade4"), bytes.fromhex("04358394")


def _add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def _multiply(scalar, point=G):
    result = None
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def _compress(point):
    return bytes([2 + point[1] % 2]) + point[0].to_bytes(32, "big")


def _decompress(data):
    x = int.from_bytes(data[1:], "big")
    y = pow(x**3 + 7, (P + 1) // 4, P)
    return x, y if y % 2 == data[0] % 2 else P - y


def hash160(data):
    return RIPEMD160.new(hashlib.sha256(data).digest()).digest()


def keccak256(data):
    return keccak.new(digest_bits=256, data=data).digest()


@dataclass(frozen=True)
class Key:
    """An extended key: private where `secret` is there."""

    point: tuple
    chain_code: bytes
    depth: int = 0
    parent: bytes = bytes(4)
    number: int = 0
    secret: int | None = None

    @staticmethod
    def master(seed: bytes):
        digest = hmac.digest(b"Bitcoin seed", seed, "sha512")
        secret = int.from_bytes(digest[:32], "big")
        return Key(_multiply(secret), digest[32:], secret=secret)

    def child(self, number):
        """The child key; hardened numbers need the private key."""
        if number >= HARD:
            data = b"\0" + self.secret.to_bytes(32, "big")
        else:
            data = _compress(self.point)
        digest = hmac.digest(self.chain_code, data + number.to_bytes(4, "big"), "sha512")
        tweak = int.from_bytes(digest[:32], "big")
        secret = None if self.secret is None else (self.secret + tweak) % N
        point = _add(_multiply(tweak), self.point)
        parent = hash160(_compress(self.point))[:4]
        return Key(point, digest[32:], self.depth + 1, parent, number, secret)

    def path(self, text):
        """`m/84'/1'/0'` and the like."""
        key = self
        for part in text.split("/")[1:]:
            key = key.child(int(part.rstrip("'h")) + (HARD if part[-1] in "'h" else 0))
        return key

    @property
    def public(self):
        return _compress(self.point)

    def _serialise(self, version, tail):
        head = version + bytes([self.depth]) + self.parent + self.number.to_bytes(4, "big")
        return codec.b58check_encode(head + self.chain_code + tail)

    def xpub(self, version=TPUB):
        return self._serialise(version, self.public)

    def xprv(self, version=TPRV):
        return self._serialise(version, b"\0" + self.secret.to_bytes(32, "big"))


def taproot(key: Key) -> bytes:
    """The script of a BIP 86 output key."""
    x = key.point[0].to_bytes(32, "big")
    tag = hashlib.sha256(b"TapTweak").digest()
    tweak = int.from_bytes(hashlib.sha256(tag + tag + x).digest(), "big")
    even = _decompress(b"\x02" + x)
    return codec.witness(1, _add(even, _multiply(tweak))[0].to_bytes(32, "big"))


def checksummed(address: bytes) -> str:
    """EIP-55."""
    text = address.hex()
    digest = keccak256(text.encode()).hex()
    return "0x" + "".join(c.upper() if int(d, 16) > 7 else c for c, d in zip(text, digest))


@dataclass(frozen=True)
class Account:
    """An account-level key as a merchant registers it, and the addresses that must come from it."""

    key: Key
    kind: str  # p2pkh, p2wpkh, p2sh-p2wpkh, p2tr, eth
    version: bytes = TPUB

    @staticmethod
    def of(name: str, kind: str, coin: int = 1):
        purpose = {"p2pkh": 44, "p2sh-p2wpkh": 49, "p2wpkh": 84, "p2tr": 86, "eth": 44}[kind]
        seed = hashlib.sha512(f"tally test {name}".encode()).digest()
        key = Key.master(seed).path(f"m/{purpose}'/{coin}'/0'")
        return Account(key, kind, XPUB if kind == "eth" else TPUB)

    @property
    def xpub(self):
        return self.key.xpub(self.version)

    @property
    def xprv(self):
        return self.key.xprv(XPRV if self.version == XPUB else TPRV)

    def script(self, index: int):
        """The script of receiving address `index`; for Ethereum the address itself."""
        public = Key(self.key.point, self.key.chain_code, self.key.depth)
        key = public.child(0).child(index)
        if self.kind == "eth":
            raw = key.point[0].to_bytes(32, "big") + key.point[1].to_bytes(32, "big")
            return checksummed(keccak256(raw)[-20:])
        if self.kind == "p2tr":
            return taproot(key)
        digest = hash160(key.public)
        if self.kind == "p2pkh":
            return codec.p2pkh(digest)
        if self.kind == "p2wpkh":
            return codec.witness(0, digest)
        return codec.p2sh(hash160(codec.witness(0, digest)))
