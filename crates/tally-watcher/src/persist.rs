//! The watch set in the watcher's own store, and the payments that were told, with the log position it stands at.
//!
//! A cache: where it is lost, or is of another log, the log is read from the start. A store that fails is asked again,
//! then left alone until the next start; the watch goes on, but for what must know which payments were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tally_ports::{PortError, Store, WriteBatch};
use tally_tracker::Told;
use tally_types::{BaseUnits, BlockHash, ChainId, Currency, DepositKey, Height, Position, Script};
use tokio::sync::{mpsc, oneshot};

use crate::addresses::{
    Address, Change, MINED_FROM, MINED_TO, ROWS_FROM, ROWS_TO, from_row, mined_from, mined_in, mined_key,
    mined_value, paid_key, paid_prefix, row_key, row_value,
};

/// The most rows in a commit, which holds up every other user of the store.
const COMMIT_ROWS_MAX: usize = 500;
/// How long rows wait for company.
const COMMIT_AFTER: Duration = Duration::from_millis(200);
/// Changes on their way to the store.
const QUEUE_MAX: usize = 4096;
/// How often a commit is tried where the store may be there again in a moment, and the pause between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(250);

const KEY_CHAIN: &[u8] = b"chain";
/// Stands behind the chain: a store of another form is read from the log again.
const FORM: &str = " 3";
const KEY_CURSOR: &[u8] = b"cursor";
const KEY_CHECKPOINT: &[u8] = b"checkpoint";

/// Facts that change nothing here move the stored position only every so often.
const CURSOR_EVERY: u64 = 1000;

/// What the persister is told.
#[derive(Debug)]
pub(crate) enum Note {
    /// To be written down.
    Entry(Entry),
    /// Answered once all before it is written down; never, where the store has failed.
    Flush(oneshot::Sender<()>),
}

/// The log was followed up to a fact, and this is to be written down of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) position: Position,
    pub(crate) id: String,
    pub(crate) change: Option<Change>,
    /// It is the first part of a checkpoint of the chain: who starts there knows its state.
    pub(crate) checkpoint: bool,
}

impl Entry {
    /// Whether it is worth writing down.
    pub(crate) fn matters(&self) -> bool {
        self.change.is_some() || self.checkpoint || self.position.get().is_multiple_of(CURSOR_EVERY)
    }
}

/// Where the store stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The last fact that was followed, with its id, by which a store of another log is told.
    pub(crate) cursor: Option<(Position, String)>,
    /// The position before the last checkpoint.
    pub(crate) checkpoint: Option<Position>,
}

/// Reads where the store stands. A store of another chain, or of another form, is emptied.
pub(crate) fn stored(store: &dyn Store, chain: &ChainId) -> Result<Stored, PortError> {
    let name = format!("{chain}{FORM}");
    if store.get(KEY_CHAIN)?.as_deref() != Some(name.as_bytes()) {
        store.clear()?;
        let mut batch = WriteBatch::default();
        batch.put(KEY_CHAIN, name);
        store.commit(batch)?;
        return Ok(Stored::default());
    }
    let position = |bytes: &[u8]| bytes.first_chunk::<8>().map(|at| Position::new(u64::from_be_bytes(*at)));
    let cursor = store.get(KEY_CURSOR)?.and_then(|value| {
        let id = String::from_utf8(value.get(8..)?.to_vec()).ok()?;
        Some((position(&value)?, id))
    });
    let checkpoint = store.get(KEY_CHECKPOINT)?.and_then(|value| position(&value));
    Ok(Stored { cursor, checkpoint })
}

/// Every stored address, in pages, to `each`.
pub(crate) fn each_address(store: &dyn Store, mut each: impl FnMut(Address)) -> Result<(), PortError> {
    let mut from = ROWS_FROM.to_vec();
    loop {
        let rows = store.range(&from, ROWS_TO, COMMIT_ROWS_MAX)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from.clone_from(last);
        from.push(0);
        rows.iter().filter_map(|(key, value)| from_row(key, value)).for_each(&mut each);
    }
}

/// The block that a payment is known to be in.
pub(crate) fn known_block(store: &dyn Store, deposit: &DepositKey) -> Result<Option<BlockHash>, PortError> {
    Ok(store.get(&mined_key(deposit))?.as_deref().and_then(mined_in))
}

/// The payments to scripts that are known to be in blocks and may have several identities.
pub(crate) fn told_to(store: &dyn Store, scripts: &BTreeSet<Script>) -> Result<Vec<Told>, PortError> {
    let mut told = Vec::new();
    for script in scripts {
        let prefix = paid_prefix(script);
        let (mut from, to) = (prefix.clone(), [prefix.as_slice(), MINED_TO].concat());
        loop {
            let rows = store.range(&from, &to, COMMIT_ROWS_MAX)?;
            let Some((last, _)) = rows.last() else { break };
            from.clone_from(last);
            from.push(0);
            for (key, _) in &rows {
                let Some(key) = key.strip_prefix(prefix.as_slice()) else { continue };
                let value = store.get(key)?;
                let known = value.and_then(|value| mined_from(key, &value));
                told.extend(known.filter(|known| known.script == *script));
            }
        }
    }
    Ok(told)
}

/// What was paid in a currency to each watched script in blocks up to a height; nothing to those that nobody paid.
pub(crate) fn paid_in(
    store: &dyn Store,
    currency: &Currency,
    through: Height,
) -> Result<BTreeMap<Script, BaseUnits>, PortError> {
    let mut paid = BTreeMap::new();
    each_address(store, |address| {
        paid.insert(address.script, BaseUnits::ZERO);
    })?;
    let mut from = MINED_FROM.to_vec();
    loop {
        let rows = store.range(&from, MINED_TO, COMMIT_ROWS_MAX)?;
        let Some((last, _)) = rows.last() else { return Ok(paid) };
        from.clone_from(last);
        from.push(0);
        for told in rows.iter().filter_map(|(key, value)| mined_from(key, value)) {
            if told.currency == *currency
                && told.block.height <= through
                && let Some(sum) = paid.get_mut(&told.script)
            {
                *sum = sum.saturating_add(told.amount);
            }
        }
    }
}

/// Writes entries down, many in one commit.
pub(crate) struct Persister {
    store: Arc<dyn Store>,
    queue: mpsc::Receiver<Note>,
    chain: ChainId,
    failed: bool,
}

impl Persister {
    pub(crate) fn new(store: Arc<dyn Store>, chain: ChainId) -> (mpsc::Sender<Note>, Self) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        (sender, Self { store, queue, chain, failed: false })
    }

    /// Runs until every sender is gone.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            let mut batch = WriteBatch::default();
            let mut asked = None;
            let mut note = Some(first);
            let company = async {
                while let Some(next) = note.take() {
                    match next {
                        Note::Entry(entry) => add(&mut batch, entry),
                        Note::Flush(done) => {
                            asked = Some(done);
                            return;
                        }
                    }
                    if batch.len() < COMMIT_ROWS_MAX {
                        note = self.queue.recv().await;
                    }
                }
            };
            // Full, asked for, or waited long enough: any way it is written.
            let _ = tokio::time::timeout(COMMIT_AFTER, company).await;
            if !batch.is_empty() {
                self.commit(batch).await;
            }
            if let Some(done) = asked.filter(|_| !self.failed) {
                // Who asked may have gone.
                let _ = done.send(());
            }
        }
    }

    async fn commit(&mut self, batch: WriteBatch) {
        if self.failed {
            return;
        }
        for tries in 1.. {
            let (store, batch) = (Arc::clone(&self.store), batch.clone());
            let done = tokio::task::spawn_blocking(move || store.commit(batch)).await;
            match done {
                // Rows say what is, so that one that was written and is written again is the same.
                Ok(Err(error)) if error.is_transient() && tries < TRIES => {
                    tracing::warn!(chain = %self.chain, %error, tries, "the watch set is written again");
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Err(error)) => {
                    tracing::warn!(chain = %self.chain, %error, "the watch set is no longer stored; the next start reads the log");
                    self.failed = true;
                    return;
                }
                Ok(Ok(())) | Err(_) => return,
            }
        }
    }
}

/// A later row of a key replaces an earlier one, so only the last cursor of a batch is kept.
fn add(batch: &mut WriteBatch, entry: Entry) {
    match entry.change {
        Some(Change::Watch(address)) => batch.put(row_key(&address.script), row_value(&address)),
        Some(Change::Unwatch(scripts)) => {
            scripts.iter().for_each(|script| batch.remove(row_key(script)));
        }
        Some(Change::Mined { told, several_ways }) => {
            batch.put(mined_key(&told.key), mined_value(&told));
            if several_ways {
                batch.put(paid_key(&told), []);
            }
        }
        Some(Change::Unmined(deposit)) => batch.remove(mined_key(&deposit)),
        None => {}
    }
    if entry.checkpoint {
        let before = entry.position.get().saturating_sub(1);
        batch.put(KEY_CHECKPOINT, before.to_be_bytes());
    }
    batch.rows.retain(|(key, _)| key != KEY_CURSOR);
    let mut cursor = entry.position.get().to_be_bytes().to_vec();
    cursor.extend_from_slice(entry.id.as_bytes());
    batch.put(KEY_CURSOR, cursor);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tally_ports::Rows;
    use tally_testkit::{MemoryStore, chain_id, script};
    use tally_types::Height;

    use super::*;

    fn watch(number: u64) -> Entry {
        let address =
            Address { script: script(number), position: Position::new(number), birth: Height::new(3) };
        let change = Some(Change::Watch(address));
        Entry { position: Position::new(number), id: format!("id{number}"), change, checkpoint: number == 41 }
    }

    /// A store whose first commits fail.
    struct Failing {
        store: MemoryStore,
        left: AtomicU32,
        error: fn() -> PortError,
    }

    impl Store for Failing {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
            self.store.get(key)
        }

        fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
            self.store.range(from, to, limit)
        }

        fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
            self.store.range_back(from, to, limit)
        }

        fn commit(&self, batch: WriteBatch) -> Result<(), PortError> {
            let fails =
                self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if fails.is_err() { self.store.commit(batch) } else { Err((self.error)()) }
        }

        fn clear(&self) -> Result<(), PortError> {
            self.store.clear()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_asked_again_and_never_said_to_be_whole() {
        let busy: fn() -> PortError = || PortError::transient("the disk is busy");
        let gone: fn() -> PortError = || PortError::persistent("the disk is gone");
        let rows = [
            ("it is there", 0, busy, true),
            ("it is there again", TRIES - 1, busy, true),
            ("it stays away", TRIES, busy, false),
            ("it is gone", 1, gone, false),
        ];
        for (name, failures, error, whole) in rows {
            let store = Arc::new(Failing { store: MemoryStore::new(), left: failures.into(), error });
            let (sender, persister) = Persister::new(store.clone(), chain_id("btc"));
            let running = tokio::spawn(persister.run());
            for number in 1..=2 {
                let (done, written) = oneshot::channel();
                sender.send(Note::Entry(watch(number))).await.unwrap();
                sender.send(Note::Flush(done)).await.unwrap();
                assert_eq!(written.await.is_ok(), whole, "{name}");
            }
            drop(sender);
            running.await.unwrap();
            let mut found = 0;
            each_address(store.as_ref(), |_| found += 1).unwrap();
            assert_eq!(found, if whole { 2 } else { 0 }, "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read_again() {
        let (store, chain) = (Arc::new(MemoryStore::new()), chain_id("btc"));
        assert_eq!(stored(store.as_ref(), &chain).unwrap(), Stored::default());
        let (sender, persister) = Persister::new(store.clone(), chain.clone());
        for number in 1..=1200 {
            sender.try_send(Note::Entry(watch(number))).unwrap();
        }
        let gone = Some(Change::Unwatch(vec![script(7)]));
        let last = Entry { position: Position::new(1201), id: "z".into(), change: gone, checkpoint: false };
        sender.try_send(Note::Entry(last)).unwrap();
        drop(sender);
        persister.run().await;
        let mut found = Vec::new();
        each_address(store.as_ref(), |address| found.push(address.position.get())).unwrap();
        found.sort_unstable();
        assert_eq!(found, (1..=1200).filter(|number| *number != 7).collect::<Vec<_>>());
        let expected =
            Stored { cursor: Some((Position::new(1201), "z".into())), checkpoint: Some(Position::new(40)) };
        assert_eq!(stored(store.as_ref(), &chain).unwrap(), expected);
        assert_eq!(stored(store.as_ref(), &chain_id("ltc")).unwrap(), Stored::default(), "of another chain");
        assert_eq!(store.rows().len(), 1);
    }
}
