//! Headers far below the tip, read ahead: whoever asks for one height after the other asks for the next ones soon.
//!
//! Near the tip nothing is read ahead, for there the best branch changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tally_ports::Header;
use tally_types::{BlockHash, Height};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::bodies::Bodies;
use super::rpc::RpcError;

/// Headers that are read at once.
const HEADERS_MAX: u64 = 64;
/// Not so close to the tip.
const MARGIN: u64 = 100;
/// For so long what was read is given out.
const FRESH: Duration = Duration::from_secs(10);

/// Headers read ahead.
#[derive(Default)]
pub(crate) struct Ahead {
    /// The node's tip as last told.
    tip: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    last_asked: Option<u64>,
    headers: BTreeMap<u64, Header>,
    read_at: Option<Instant>,
}

impl Ahead {
    pub(crate) fn set_tip(&self, height: Height) {
        self.tip.store(height.get(), Ordering::Relaxed);
    }

    /// The header at a height, where it is read ahead. `check` proves bytes to be the header of a block.
    pub(crate) async fn at(
        &self,
        height: Height,
        bodies: &Bodies,
        check: impl AsyncFnOnce(Vec<(Height, BlockHash, Vec<u8>)>) -> Option<Vec<Header>>,
    ) -> Option<Header> {
        let (height, last) = (height.get(), self.tip.load(Ordering::Relaxed).saturating_sub(MARGIN));
        if height > last {
            return None;
        }
        let mut known = self.known.lock().await;
        let follows =
            known.last_asked.replace(height).is_some_and(|last| last.checked_add(1) == Some(height));
        if known.read_at.is_none_or(|read_at| read_at.elapsed() > FRESH) {
            known.headers.clear();
        }
        if let Some(header) = known.headers.remove(&height) {
            return Some(header);
        }
        if !follows {
            return None;
        }
        let to = last.min(height.saturating_add(HEADERS_MAX - 1));
        let told = read(height, to, bodies).await.ok()?;
        let headers = check(told).await?;
        let linked = headers.windows(2).all(|pair| match pair {
            [before, after] => after.prev == before.block.hash,
            _ => true,
        });
        if !linked {
            return None;
        }
        known.headers = headers.into_iter().map(|header| (header.block.height.get(), header)).collect();
        known.read_at = Some(Instant::now());
        known.headers.remove(&height)
    }
}

async fn read(from: u64, to: u64, bodies: &Bodies) -> Result<Vec<(Height, BlockHash, Vec<u8>)>, RpcError> {
    let heights = from..=to;
    let hashes = bodies.batch::<BlockHash>("getblockhash", heights.clone().map(|height| json!([height])));
    let hashes: Vec<BlockHash> = hashes.await?.into_iter().collect::<Result<_, _>>()?;
    let headers = bodies.batch::<String>("getblockheader", hashes.iter().map(|hash| json!([hash, false])));
    let headers: Vec<String> = headers.await?.into_iter().collect::<Result<_, _>>()?;
    let decode = |((height, hash), text): ((u64, BlockHash), String)| match const_hex::decode(text) {
        Ok(bytes) => Ok((Height::new(height), hash, bytes)),
        Err(_) => Err(RpcError::Malformed("getblockheader answers something else".to_owned())),
    };
    heights.zip(hashes).zip(headers).map(decode).collect()
}
