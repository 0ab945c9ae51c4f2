//! `tally backup` and `tally restore`.
//!
//! A backup is a plain copy of the log through one position: the log is only ever added to, so that is one
//! consistent moment, whoever appends meanwhile. What had been moved into the archive by then is in it, too, where it
//! once stood. Everything else is folded from it.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, bail};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tally_events::{Epoch, Event, Fact, KeyRegistered, OrdersArchived, Recorded, Subject};
use tally_log::archive::FileArchive;
use tally_log::copy::{self, CopyReader, CopyWriter};
use tally_ports::{Clock, EventLog, Expectation, PortError};
use tally_types::{Fingerprint, MerchantId, Position};

use super::ModelFolder;
use crate::compose::Logs;

/// How far ahead of what the copy knows each key's counter goes: addresses may have been handed out after it.
const SKIPPED_INDEXES: u32 = 1_000;
/// Facts that are written at once.
const FACTS_AT_ONCE: usize = 500;
/// Segments of the archive that are made again in one pass over a copy.
const SEGMENTS_AT_ONCE: usize = 100;

/// The facts of a log through `head`.
pub(super) async fn facts_through(
    log: &dyn EventLog,
    head: Position,
) -> Result<BoxStream<'static, Result<Recorded, PortError>>, PortError> {
    if head == Position::START {
        return Ok(futures::stream::empty().boxed());
    }
    let facts = log.read(Position::START).await?;
    let state = (facts, false);
    Ok(futures::stream::unfold(state, move |(mut facts, ended)| async move {
        if ended {
            return None;
        }
        match facts.next().await? {
            Ok(fact) if fact.position > head => None,
            Ok(fact) => {
                let ended = fact.position >= head;
                Some((Ok(fact), (facts, ended)))
            }
            Err(error) => Some((Err(error), (facts, true))),
        }
    })
    .boxed())
}

/// Writes a backup into an empty folder.
pub(super) async fn write(
    facts: BoxStream<'_, anyhow::Result<Recorded>>,
    to: &Path,
    clock: &dyn Clock,
) -> anyhow::Result<Value> {
    if std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty: a backup needs a folder of its own", to.display());
    }
    let mut writer = CopyWriter::open(to)?;
    let mut count = 0_usize;
    let mut chunks = facts.try_ready_chunks(FACTS_AT_ONCE);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| error.1)?;
        writer.write(&chunk, clock.now())?;
        count += chunk.len();
    }
    writer.sync()?;
    let through = writer.last();
    drop(writer);
    // Read back whole: a backup that cannot be read is none.
    let (read, last) = if count > 0 { copy::verify(to)? } else { (0, Position::START) };
    if (read, last) != (count as u64, through) {
        bail!("{} was not written as it should be: {read} facts through {last}", to.display());
    }
    Ok(json!({ "backup": to, "facts": count, "through": through, "made_at": clock.now() }))
}

/// Moves the daily copy of the log before out of the way, unless it is what was restored: then it goes on.
fn set_aside(copy_dir: &Path, from: &Path, clock: &dyn Clock) -> anyhow::Result<()> {
    if std::fs::canonicalize(copy_dir)? == std::fs::canonicalize(from)? {
        return Ok(());
    }
    let aside = copy_dir.with_extension(format!("before-{}", clock.now().millis()));
    std::fs::rename(copy_dir, &aside).with_context(|| format!("{} cannot be set aside", copy_dir.display()))
}

/// What is wanted of a copy beside its facts, while they pass by.
#[derive(Default)]
struct Noted {
    facts: u64,
    last: Position,
    highest_epoch: u64,
    keys: std::collections::BTreeMap<Fingerprint, Key>,
}

struct Key {
    merchant: MerchantId,
    next: u32,
    position: Position,
}

impl Noted {
    fn note(&mut self, fact: &Recorded) {
        self.facts += 1;
        self.last = fact.position;
        self.highest_epoch = self.highest_epoch.max(fact.event.epoch.get());
        match &fact.event.fact {
            Fact::KeyRegistered(new) => {
                let key = Key { merchant: new.merchant, next: new.next_index, position: fact.position };
                let known = self.keys.entry(new.fingerprint.clone()).or_insert(key);
                known.next = known.next.max(new.next_index);
                known.position = fact.position;
            }
            Fact::KeyAllocated(allocated) => {
                if let Some(known) = self.keys.get_mut(&allocated.fingerprint) {
                    known.next = known.next.max(allocated.index.saturating_add(1));
                    known.position = fact.position;
                }
            }
            _ => {}
        }
    }
}

/// Fills an empty log from a backup or a daily copy, and makes it safe to go on from there.
pub(super) async fn restore(
    from: &Path,
    (data_dir, copy_dir): (&Path, Option<&Path>),
    logs: &Logs,
    clock: &dyn Clock,
) -> anyhow::Result<Value> {
    let mut noted = Noted::default();
    for fact in CopyReader::open(from)? {
        noted.note(&fact?);
    }
    let reached = copy::restore(&*logs.restorable, CopyReader::open(from)?).await?;
    if reached != noted.last {
        bail!("the log ends at {reached}, the copy at {}: the copy changed meanwhile", noted.last);
    }
    logs.raise_epochs(Epoch::new(noted.highest_epoch)).await?;
    let mut skipped = Vec::new();
    for (fingerprint, key) in noted.keys {
        let next_index = key.next.saturating_add(SKIPPED_INDEXES);
        let subject = Subject::key(&fingerprint);
        let fact = KeyRegistered { fingerprint: fingerprint.clone(), merchant: key.merchant, next_index };
        let event = Event::new(subject.clone(), fact, clock.now());
        logs.main
            .append(vec![Expectation::new(subject, key.position)], vec![event])
            .await
            .with_context(|| format!("the counter of key {fingerprint} was not moved on: restore again"))?;
        skipped.push(json!({ "key": fingerprint, "next_index": next_index }));
    }
    if let Some(copy_dir) = copy_dir.filter(|dir| dir.exists()) {
        set_aside(copy_dir, from, clock)?;
    }
    let segments = restore_archive(from, logs.archive.clone(), clock).await?;
    // What was folded from the log before is of another one.
    for model in ModelFolder::all_below(data_dir) {
        model.remove()?;
    }
    for entry in std::fs::read_dir(data_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("watch-") && entry.path().is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(json!({
        "restored": noted.facts, "through": reached, "archive_segments": segments, "keys": skipped
    }))
}

/// Makes the archive again from a copy, which has the facts that had left the log, too. They are in the restored log
/// as well; whoever has the duty of archiving takes them out again.
async fn restore_archive(from: &Path, archive: FileArchive, clock: &dyn Clock) -> anyhow::Result<u64> {
    if archive.dir().exists() {
        let aside = archive.dir().with_extension(format!("before-{}", clock.now().millis()));
        std::fs::rename(archive.dir(), &aside)
            .with_context(|| format!("{} cannot be set aside", archive.dir().display()))?;
    }
    let from = from.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut done = 0;
        loop {
            let written = restore_segments(&from, &archive, done)?;
            if written == 0 {
                return Ok(done);
            }
            done += written;
        }
    })
    .await?
}

/// Writes some of the segments after the one of that number; answers how many.
fn restore_segments(from: &Path, archive: &FileArchive, after: u64) -> anyhow::Result<u64> {
    let mut wanted: Vec<(OrdersArchived, Vec<Recorded>)> = Vec::new();
    for fact in CopyReader::open(from)? {
        if let Fact::OrdersArchived(index) = fact?.event.fact
            && index.segment > after
        {
            wanted.push((index, Vec::new()));
            if wanted.len() >= SEGMENTS_AT_ONCE {
                break;
            }
        }
    }
    let mut places: HashMap<Subject, Vec<(Position, Position, usize)>> = HashMap::new();
    for (number, (index, _)) in wanted.iter().enumerate() {
        for order in &index.orders {
            let (own, delivery) = (Subject::order(&order.order), Subject::delivery(&order.order));
            places.entry(own).or_default().push((order.first, order.last, number));
            places.entry(delivery).or_default().push((order.first, order.delivered, number));
        }
    }
    if wanted.is_empty() {
        return Ok(0);
    }
    for fact in CopyReader::open(from)? {
        let fact = fact?;
        let Some(places) = places.get(&fact.event.subject) else { continue };
        let own = places.iter().find(|(first, last, _)| (*first..=*last).contains(&fact.position));
        if let Some((_, facts)) = own.and_then(|(_, _, number)| wanted.get_mut(*number)) {
            facts.push(fact);
        }
    }
    let count = wanted.len() as u64;
    for (index, facts) in wanted {
        if OrdersArchived::digest_of(&facts) != index.digest {
            bail!("{} lacks facts of segment {} of the archive", from.display(), index.segment);
        }
        archive.write(index, &facts)?;
    }
    Ok(count)
}
