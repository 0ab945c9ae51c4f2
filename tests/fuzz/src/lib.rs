//! What the fuzz targets do with their bytes: each body asks the matcher and a reference that is as plain
//! as it can be, and panics where they differ. They are here and not in the targets, so that an ordinary
//! test (`corpus.rs`) runs them too.
#![allow(unreachable_pub, clippy::panic, clippy::unwrap_used)]

mod merkle;
mod parse;
mod reference;
mod script;
mod token;
mod watch;

use tally_matcher::{Options, match_block as ours_block, match_tx as ours_tx};

use self::parse::{block, transaction};
use self::reference::{Watched, assert_same_hits, assert_same_spends};

/// Splits off the byte that says what is watched and how.
fn control(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(control, rest)| (*control, rest))
}

const fn options(control: u8) -> Options {
    Options { strip_token_prefix: control & 1 != 0 }
}

/// A block: the same is read as by the reference, and the same found, or both refuse it. The first byte says
/// which of the block's own scripts and outpoints are watched.
pub fn match_block(data: &[u8]) {
    let Some((control, bytes)) = control(data) else { return };
    let read = block(bytes);
    let watched = Watched::some_of(read.as_ref().map_or(&[], |read| &read.txs), control);
    let found = ours_block(&watched.set(), bytes, options(control));
    match (&read, &found) {
        (None, Err(_)) => {}
        (Some(read), Ok(found)) => {
            assert_eq!(found.header.as_slice(), read.header);
            assert_eq!((found.tx_count as usize, found.trailing_bytes), (read.txs.len(), read.trailing));
            assert_same_hits(&found.hits, &read.txs, &watched, options(control));
            assert_same_spends(&found.spends, &found.hits, &read.txs, &watched);
        }
        _ => panic!(
            "the reference read {} transactions, the matcher {found:?}",
            read.map_or(0, |r| r.txs.len())
        ),
    }
}

/// A transaction that stands alone; as [`match_block`].
pub fn match_tx(data: &[u8]) {
    let Some((control, bytes)) = control(data) else { return };
    let read = transaction(bytes);
    let txs = read.as_slice();
    let watched = Watched::some_of(txs, control);
    let found = ours_tx(&watched.set(), bytes, options(control));
    match (&read, &found) {
        (None, Err(_)) => {}
        (Some(tx), Ok(found)) => {
            let all_mweb = tx.mweb_payload && tx.inputs.is_empty() && tx.outputs.is_empty();
            assert_eq!(found.txid, (!all_mweb).then_some(tx.txid));
            assert_same_hits(&found.hits, txs, &watched, options(control));
            assert_same_spends(&found.spends, &found.hits, txs, &watched);
        }
        _ => panic!("the reference said {}, the matcher {found:?}", read.is_some()),
    }
}

pub use self::merkle::verify_merkle_root;
pub use self::token::strip_token;
pub use self::watch::watch_set;
