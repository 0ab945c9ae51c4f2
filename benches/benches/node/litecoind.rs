//! A litecoind of our own on regtest, spoken to over bare sockets, and blocks filled as we like.
//!
//! Payments need no wallet and no keys: coins lie on a script that anybody may spend, with a witness as long as a
//! signature and its key. MWEB is never activated, since `generateblock` cannot make its blocks.

#![allow(dead_code, reason = "each bench uses its part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// `bench:bench`, as HTTP wants it.
const SIGN_IN: &str = "YmVuY2g6YmVuY2g=";
/// Who signs in.
pub(crate) const USER: &str = "bench";
/// `OP_DROP OP_TRUE`: takes one item of the witness and is content.
const ANYBODY: [u8; 2] = [0x75, 0x51];
/// In place of a signature and its key.
const FILLER: [u8; 80] = [0x5a; 80];

/// A running node; it ends with this value.
pub(crate) struct Litecoind {
    child: Child,
    port: u16,
    http: Http,
    /// When it was started, in Unix seconds, and the blocks mined since: its clock.
    born: u64,
    mined: u64,
}

/// An output of [`anybody`] that is not spent yet.
#[derive(Clone, Copy)]
pub(crate) struct Coin {
    txid: [u8; 32],
    vout: u32,
    value: u64,
}

/// A transaction's bytes, and its id as bytes are serialised.
pub(crate) struct Transaction {
    pub(crate) raw: Vec<u8>,
    pub(crate) txid: [u8; 32],
}

impl Litecoind {
    /// Starts one on `dir`; what is there is kept.
    pub(crate) fn start(dir: &Path, more: &[&str]) -> Self {
        let program = std::env::var("LITECOIND_BIN").unwrap_or_else(|_| "litecoind".to_owned());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(&program)
            .args(["-regtest", "-server", "-listen=0", "-dnsseed=0", "-disablewallet", "-txindex=0"])
            .args(["-printtoconsole=0", "-rpcuser=bench", "-rpcpassword=bench", "-persistmempool=0"])
            .args([
                "-vbparams=mweb:9999999998:9999999999",
                "-acceptnonstdtxn=1",
                "-minrelaytxfee=0",
                "-checkblockindex=0",
            ])
            .arg(format!("-datadir={}", dir.display()))
            .arg(format!("-rpcport={port}"))
            .args(more)
            .stdin(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{program} cannot be started ({error}): install Debian's litecoind, or set LITECOIND_BIN")
        });
        let until = Instant::now() + Duration::from_secs(60);
        let http = loop {
            if let Ok(mut http) = Http::connect(port)
                && let Ok(answer) = http.call("getblockcount", &json!([]))
                && answer["error"].is_null()
            {
                break http;
            }
            assert!(Instant::now() < until, "litecoind does not answer within a minute");
            std::thread::sleep(Duration::from_millis(100));
        };
        let born = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Self { child, port, http, born, mined: 0 }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Asks; a refusal ends the bench.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        let mut answer = self.http.call(method, &params).unwrap_or_else(|error| panic!("{method}: {error}"));
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }

    pub(crate) fn height(&mut self) -> u64 {
        self.call("getblockcount", json!([])).as_u64().unwrap()
    }

    pub(crate) fn hash(&mut self, height: u64) -> String {
        self.call("getblockhash", json!([height])).as_str().unwrap().to_owned()
    }

    /// Mines blocks with the mempool in them; what they earn is anybody's.
    pub(crate) fn mine(&mut self, blocks: u64) {
        let output = self.output();
        let mut left = blocks;
        while left > 0 {
            let batch = left.min(500);
            // So many a second would soon be dated hours ahead, which the node refuses: its clock goes along.
            self.mined += batch;
            self.call("setmocktime", json!([self.born + self.mined]));
            self.call("generatetodescriptor", json!([batch, output]));
            left -= batch;
        }
    }

    /// Mines a block with these transactions and no others.
    pub(crate) fn mine_these(&mut self, transactions: &[Transaction]) {
        let output = self.output();
        self.mine_to(&output, transactions);
    }

    /// The same, with what it earns to a descriptor.
    pub(crate) fn mine_to(&mut self, output: &str, transactions: &[Transaction]) {
        let raw: Vec<String> = transactions.iter().map(|one| const_hex::encode(&one.raw)).collect();
        self.call("generateblock", json!([output, raw]));
    }

    /// A descriptor of [`anybody`].
    pub(crate) fn output(&mut self) -> String {
        let raw = format!("raw({})", const_hex::encode(anybody()));
        self.call("getdescriptorinfo", json!([raw]))["descriptor"].as_str().unwrap().to_owned()
    }

    /// What the block at a height earned.
    pub(crate) fn reward(&mut self, height: u64) -> Coin {
        let hash = self.hash(height);
        let block = self.call("getblock", json!([hash, 2]));
        let coinbase = &block["tx"][0];
        let mut txid: [u8; 32] = const_hex::decode_to_array(coinbase["txid"].as_str().unwrap()).unwrap();
        txid.reverse();
        let coins = coinbase["vout"][0]["value"].as_f64().unwrap();
        Coin { txid, vout: 0, value: (coins * 1e8).round() as u64 }
    }

    /// Splits the reward of the lowest blocks into `count` coins, in a block of its own. The chain must be 101 high.
    pub(crate) fn coins(&mut self, count: u64) -> Vec<Coin> {
        let reward = self.reward(1);
        let each = reward.value / count;
        let outputs: Vec<_> = (0..count).map(|_| (each, anybody())).collect();
        let split = spend(&[reward], &outputs);
        let coins =
            (0..count).map(|vout| Coin { txid: split.txid, vout: vout as u32, value: each }).collect();
        self.mine_these(&[split]);
        coins
    }
}

impl Drop for Litecoind {
    fn drop(&mut self) {
        // Answered before it stops; what it does not keep, the next start makes up for.
        let stopped = self.http.call("stop", &json!([])).is_ok();
        for _ in 0..300 {
            if !stopped || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The script that anybody may spend.
pub(crate) fn anybody() -> Vec<u8> {
    let mut script = vec![0x00, 0x20];
    script.extend(Sha256::digest(ANYBODY));
    script
}

/// Pays one coin to `script`, as a wallet does: the rest comes back, as the coin that takes its place.
pub(crate) fn pay(coin: &mut Coin, value: u64, script: Vec<u8>) -> Transaction {
    let rest = coin.value - value;
    let transaction = spend(&[*coin], &[(value, script), (rest, anybody())]);
    *coin = Coin { txid: transaction.txid, vout: 1, value: rest };
    transaction
}

fn spend(coins: &[Coin], outputs: &[(u64, Vec<u8>)]) -> Transaction {
    let mut body = Vec::new();
    length(&mut body, coins.len());
    for coin in coins {
        body.extend(coin.txid);
        body.extend(coin.vout.to_le_bytes());
        body.extend([0, 0xfd, 0xff, 0xff, 0xff]);
    }
    length(&mut body, outputs.len());
    for (value, script) in outputs {
        body.extend(value.to_le_bytes());
        length(&mut body, script.len());
        body.extend(script);
    }
    let version = 2_u32.to_le_bytes();
    let without = [&version[..], &body, &[0; 4]].concat();
    let mut raw = [&version[..], &[0, 1], &body].concat();
    for _ in coins {
        raw.push(2);
        length(&mut raw, FILLER.len());
        raw.extend(FILLER);
        length(&mut raw, ANYBODY.len());
        raw.extend(ANYBODY);
    }
    raw.extend([0; 4]);
    Transaction { raw, txid: Sha256::digest(Sha256::digest(without)).into() }
}

fn length(bytes: &mut Vec<u8>, length: usize) {
    match length {
        0..0xfd => bytes.push(length as u8),
        0xfd..=0xffff => {
            bytes.push(0xfd);
            bytes.extend((length as u16).to_le_bytes());
        }
        _ => {
            bytes.push(0xfe);
            bytes.extend((length as u32).to_le_bytes());
        }
    }
}

/// One connection that is kept.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Http {
    pub(crate) fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(256 * 1024, stream), body: Vec::new() })
    }

    /// The body of an answer, as it comes.
    pub(crate) fn get(&mut self, path: &str) -> std::io::Result<&[u8]> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.read()
    }

    /// The body of an answer to a call, as it comes.
    pub(crate) fn post(&mut self, body: &str) -> std::io::Result<&[u8]> {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {SIGN_IN}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream.get_mut().write_all((head + body).as_bytes())?;
        self.read()
    }

    pub(crate) fn call(&mut self, method: &str, params: &Value) -> std::io::Result<Value> {
        let request = json!({"jsonrpc": "1.0", "id": 0, "method": method, "params": params});
        Ok(serde_json::from_slice(self.post(&request.to_string())?)?)
    }

    fn read(&mut self) -> std::io::Result<&[u8]> {
        let mut length = None;
        let mut line = String::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok();
            }
        }
        let length: usize = length.ok_or_else(|| std::io::Error::other("an answer without its length"))?;
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)?;
        Ok(&self.body)
    }
}
