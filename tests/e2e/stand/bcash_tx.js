'use strict';

// Makes a key, or signs a transaction with an output of any script bytes, with bcash's own library:
// its wallet refuses to pay what is no address. One JSON request on standard input, one answer.

const request = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const bcash = require(request.module);
const {Coin, KeyRing, MTX, Script} = bcash;

bcash.set('regtest');

if (request.action === 'key') {
  const ring = KeyRing.generate(true);
  const answer = {key: ring.toSecret('regtest'), address: ring.getAddress('string', 'regtest')};
  console.log(JSON.stringify(answer));
} else {
  const ring = KeyRing.fromSecret(request.key, 'regtest');
  const fee = 2000;
  const coin = Coin.fromJSON({
    version: 1,
    height: -1,
    coinbase: false,
    value: request.coin.value,
    script: request.coin.script,
    hash: request.coin.hash,
    index: request.coin.index
  });
  const mtx = new MTX();
  mtx.addCoin(coin);
  mtx.addOutput({script: Script.fromRaw(Buffer.from(request.script, 'hex')), value: request.value});
  mtx.addOutput({address: ring.getAddress(), value: request.coin.value - request.value - fee});
  mtx.sign(ring);
  if (!mtx.verify())
    throw new Error('the signature does not verify');
  console.log(JSON.stringify({raw: mtx.toRaw().toString('hex'), txid: mtx.txid()}));
}
