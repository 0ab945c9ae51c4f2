"""Raw Bitcoin-family blocks, read independently of the code under test.

Knows the flag byte of SegWit (01) and of Litecoin's MWEB (08) inside a block.
"""

import hashlib
from dataclasses import dataclass


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


@dataclass
class Output:
    value: int
    script: bytes


@dataclass
class Tx:
    txid: str
    raw: bytes
    flag: int
    inputs: list  # (txid, vout)
    outputs: list  # Output


class _Reader:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, count):
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise ValueError("block ends early")
        self.at += count
        return part

    def number(self, width):
        return int.from_bytes(self.take(width), "little")

    def varint(self):
        first = self.number(1)
        return first if first < 0xFD else self.number({0xFD: 2, 0xFE: 4, 0xFF: 8}[first])

    def blob(self):
        return self.take(self.varint())


def read_tx(reader: _Reader) -> Tx:
    """One transaction at the reader's place."""
    start = reader.at
    version = reader.take(4)
    flag = 0
    if reader.data[reader.at] == 0:
        reader.take(1)
        flag = reader.number(1)
    body = reader.at
    inputs = []
    for _ in range(reader.varint()):
        inputs.append((reader.take(32)[::-1].hex(), reader.number(4)))
        reader.blob()
        reader.take(4)
    outputs = [Output(reader.number(8), reader.blob()) for _ in range(reader.varint())]
    end = reader.at
    if flag & 1:
        for _ in inputs:
            for _ in range(reader.varint()):
                reader.blob()
    if flag & 8 and reader.number(1) != 0:
        raise ValueError("MWEB data in a transaction of a block")
    lock = reader.take(4)
    stripped = version + reader.data[body:end] + lock
    txid = sha256d(stripped)[::-1].hex()
    return Tx(txid, reader.data[start : reader.at], flag, inputs, outputs)


def read_block(raw: bytes):
    """The block's hash, its transactions and what follows them (the extension block, if any)."""
    reader = _Reader(raw)
    header = reader.take(80)
    txs = [read_tx(reader) for _ in range(reader.varint())]
    return sha256d(header)[::-1].hex(), txs, raw[reader.at :]
