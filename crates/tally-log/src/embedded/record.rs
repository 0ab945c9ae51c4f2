//! How facts lie in sled: keys, checksums, and large facts in several pieces.
//!
//! Keys begin with the log's tag and a letter: `e` + position, a fact (and with a piece's number behind, its further
//! pieces); `h` + subject, the position of its last fact; `m`, the log's last position. Numbers are big-endian.
//!
//! sled writes a page that outgrows a quarter of a segment (128 KiB) to a file of its own, without fsync. A page
//! holds up to 17 rows, so none may be larger than [`PIECE_BYTES`].

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;
use tally_events::{Event, Recorded, Subject};
use tally_ports::PortError;
use tally_types::Position;

use super::damaged;
use crate::LogName;

/// Bytes of a fact in one row.
const PIECE_BYTES: usize = 6 * 1024;
/// Bytes before a fact's first piece: checksum, number of further pieces, position of the subject's fact before.
const HEAD_BYTES: usize = 13;
/// The layout described here.
const FORMAT: u8 = 1;
/// The last facts that are checked when a log is opened.
const CHECKED_AT_START: u64 = 1_000;

/// A log's first byte in every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Tag {
    Main = b'M',
    Rates = b'R',
}

impl From<LogName> for Tag {
    fn from(name: LogName) -> Self {
        match name {
            LogName::Main => Self::Main,
            LogName::Rates => Self::Rates,
        }
    }
}

/// The key of a fact.
pub(super) fn fact_key(tag: Tag, position: u64) -> [u8; 10] {
    let mut key = [0; 10];
    let (letters, number) = key.split_at_mut(2);
    letters.copy_from_slice(&[tag as u8, b'e']);
    number.copy_from_slice(&position.to_be_bytes());
    key
}

/// The key of a fact's further piece, the first with number 1.
pub(super) fn piece_key(tag: Tag, position: u64, number: u8) -> Vec<u8> {
    [&fact_key(tag, position)[..], &[number]].concat()
}

/// The key of a subject's head.
pub(super) fn head_key(tag: Tag, subject: &str) -> Vec<u8> {
    [&[tag as u8, b'h'], subject.as_bytes()].concat()
}

/// The key of a log's last position.
pub(super) fn mark_key(tag: Tag) -> [u8; 2] {
    [tag as u8, b'm']
}

/// The key of a lease's last epoch.
pub(super) fn epoch_key(name: &str) -> Vec<u8> {
    [b"Le", name.as_bytes()].concat()
}

/// A summed number.
pub(super) type Mark = [u8; 13];

/// A number under a key, with its checksum.
fn number(key: &[u8], number: u64) -> Mark {
    let mut bytes = [0; 13];
    let (sum, rest) = bytes.split_at_mut(4);
    let (format, value) = rest.split_at_mut(1);
    format.copy_from_slice(&[FORMAT]);
    value.copy_from_slice(&number.to_be_bytes());
    sum.copy_from_slice(&checksum(&[key, &[FORMAT], &number.to_be_bytes()]).to_be_bytes());
    bytes
}

fn read_number(key: &[u8], bytes: &[u8]) -> Option<u64> {
    let (sum, rest) = bytes.split_first_chunk::<4>()?;
    let value = rest.strip_prefix(&[FORMAT])?.try_into().ok()?;
    (checksum(&[key, rest]) == u32::from_be_bytes(*sum)).then_some(u64::from_be_bytes(value))
}

/// A log's last position, as it is stored.
pub(super) fn mark(tag: Tag, position: u64) -> Mark {
    number(&mark_key(tag), position)
}

/// Reads what [`mark`] wrote.
pub(super) fn read_mark(tag: Tag, bytes: &[u8]) -> Option<u64> {
    read_number(&mark_key(tag), bytes)
}

/// A number of a head or an epoch, as it is stored under `key`.
pub(super) fn pointer(key: &[u8], value: u64) -> Mark {
    number(key, value)
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// Puts a fact into a batch; answers how many rows it took. `previous` is where its subject's fact before stands.
pub(super) fn put_fact(
    batch: &mut sled::Batch,
    tag: Tag,
    position: u64,
    previous: u64,
    json: &[u8],
) -> usize {
    let (first, rest) = json.split_at(json.len().min(PIECE_BYTES));
    let key = fact_key(tag, position);
    // Facts have at most 512 KiB, which is 86 pieces.
    let count = u8::try_from(rest.len().div_ceil(PIECE_BYTES)).unwrap_or(u8::MAX);
    let mut row = Vec::with_capacity(HEAD_BYTES + first.len());
    row.extend(checksum(&[&key, &[count], &previous.to_be_bytes(), json]).to_be_bytes());
    row.push(count);
    row.extend(previous.to_be_bytes());
    row.extend(first);
    batch.insert(&key[..], row);
    for (number, piece) in (1..=count).zip(rest.chunks(PIECE_BYTES)) {
        batch.insert(piece_key(tag, position, number), piece);
    }
    usize::from(count) + 1
}

/// Puts a mark at a position that holds no fact: the log this one was restored from had a gap there.
pub(super) fn put_void(batch: &mut sled::Batch, tag: Tag, position: u64) -> usize {
    put_fact(batch, tag, position, 0, &[])
}

/// Removes a fact. Its subject's head stays.
pub(super) fn remove_fact(batch: &mut sled::Batch, tag: Tag, fact: &Stored) {
    batch.remove(&fact_key(tag, fact.position)[..]);
    for number in 1..=fact.further {
        batch.remove(piece_key(tag, fact.position, number));
    }
}

/// A fact as it lies there, its checksum found right.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its position.
    pub(super) position: u64,
    /// Where its subject's fact before stands; 0 where there is none.
    pub(super) previous: u64,
    /// How many further rows it has.
    pub(super) further: u8,
    json: Json,
}

/// An envelope's bytes, where they lie or put together.
#[derive(Debug)]
enum Json {
    Row(sled::IVec),
    Pieces(Vec<u8>),
}

#[derive(Deserialize)]
struct Identity<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
}

impl Stored {
    /// Its envelope.
    fn json(&self) -> &[u8] {
        match &self.json {
            Json::Row(row) => row.get(HEAD_BYTES..).unwrap_or_default(),
            Json::Pieces(json) => json,
        }
    }

    /// The fact.
    pub(super) fn event(&self, dir: &Path) -> Result<Event, PortError> {
        Event::from_json(self.json()).map_err(|error| {
            PortError::persistent(format!(
                "the fact at position {} of the log in {} cannot be read",
                self.position,
                dir.display()
            ))
            .because(error)
        })
    }

    /// The fact with its position.
    pub(super) fn recorded(&self, dir: &Path) -> Result<Recorded, PortError> {
        Ok(Recorded { position: Position::new(self.position), event: self.event(dir)? })
    }

    /// Whether the position holds no fact.
    pub(super) fn is_void(&self) -> bool {
        self.json().is_empty()
    }

    /// Whether it is this fact on this subject.
    pub(super) fn is(&self, id: &str, subject: &Subject) -> bool {
        serde_json::from_slice::<Identity<'_>>(self.json())
            .is_ok_and(|stored| stored.id == id && stored.subject == subject.as_str())
    }
}

/// Reads one log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) dir: &'a Path,
    pub(super) db: &'a sled::Db,
    pub(super) tag: Tag,
}

impl Reader<'_> {
    /// The same of another log.
    pub(super) fn of(self, tag: Tag) -> Self {
        Self { tag, ..self }
    }

    fn failed(&self, error: sled::Error) -> PortError {
        damaged(self.dir, &format!("its database cannot be read ({error})"))
    }

    /// A number under a key; 0 where there is none.
    fn number(&self, key: &[u8]) -> Result<u64, PortError> {
        match self.db.get(key).map_err(|error| self.failed(error))? {
            None => Ok(0),
            Some(bytes) => read_number(key, &bytes).ok_or_else(|| {
                damaged(self.dir, &format!("the sum of {:?} is wrong", String::from_utf8_lossy(key)))
            }),
        }
    }

    /// The position of a subject's last fact; 0 where there is none.
    pub(super) fn head(&self, subject: &Subject) -> Result<u64, PortError> {
        self.number(&head_key(self.tag, subject.as_str()))
    }

    /// A lease's last epoch; 0 where there was none.
    pub(super) fn epoch(&self, name: &str) -> Result<u64, PortError> {
        self.number(&epoch_key(name))
    }

    /// The facts from `from` to `to`, both included, up to `limit`. Without the older ones where those were removed.
    pub(super) fn facts(&self, from: u64, to: u64, limit: usize) -> Result<Vec<Stored>, PortError> {
        let mut facts: Vec<Stored> = Vec::new();
        self.each(from, to, limit, |fact| {
            facts.push(fact);
            Ok(())
        })?;
        Ok(facts)
    }

    /// Takes the facts one by one.
    pub(super) fn each(
        &self,
        from: u64,
        to: u64,
        limit: usize,
        mut take: impl FnMut(Stored) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        let end = fact_key(self.tag, to.saturating_add(1));
        let mut rows = self.db.range(fact_key(self.tag, from)..end);
        let mut before: Option<u64> = None;
        let mut count = 0;
        while count < limit
            && let Some(row) = rows.next()
        {
            let (key, bytes) = row.map_err(|error| self.failed(error))?;
            let fact = self.assemble(&key, bytes, &mut rows)?;
            if before.is_some_and(|before| before.saturating_add(1) != fact.position) {
                return Err(damaged(
                    self.dir,
                    &format!("facts before position {} are missing", fact.position),
                ));
            }
            before = Some(fact.position);
            count += 1;
            take(fact)?;
        }
        Ok(())
    }

    /// The fact at a position; `None` where there is none.
    pub(super) fn fact(&self, position: u64) -> Result<Option<Stored>, PortError> {
        Ok(self.facts(position, position, 1)?.pop())
    }

    fn assemble(&self, key: &[u8], row: sled::IVec, rows: &mut sled::Iter) -> Result<Stored, PortError> {
        let mut whole = || {
            let position = u64::from_be_bytes(key.get(2..)?.try_into().ok()?);
            let (sum, rest) = row.split_first_chunk::<4>()?;
            let (count, rest) = rest.split_first()?;
            let (previous, first) = rest.split_first_chunk::<8>()?;
            let mut pieces = Vec::new();
            for number in 1..=*count {
                if number == 1 {
                    pieces.extend_from_slice(first);
                }
                let (piece, bytes) = rows.next()?.ok()?;
                if piece.strip_prefix(key)? != [number] {
                    return None;
                }
                pieces.extend_from_slice(&bytes);
            }
            let json = if *count == 0 { first } else { pieces.as_slice() };
            let right = checksum(&[key, &[*count], previous, json]) == u32::from_be_bytes(*sum);
            let (further, previous) = (*count, u64::from_be_bytes(*previous));
            let json = if further == 0 { Json::Row(row.clone()) } else { Json::Pieces(pieces) };
            right.then_some(Stored { position, previous, further, json })
        };
        whole().ok_or_else(|| {
            let position = key.get(2..10).and_then(|at| at.try_into().ok()).map_or(0, u64::from_be_bytes);
            damaged(self.dir, &format!("the fact at position {position} is not what was written"))
        })
    }
}

/// The ends of one log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The position of the last fact; 0 where there is none.
    pub(super) last: u64,
    /// The position of the oldest fact that is kept.
    pub(super) oldest: u64,
}

/// Checks what can be checked without reading everything: that the facts end where the mark says and the high-water
/// mark beside the database allows, and that the last thousand are whole.
pub(super) fn check_end(reader: Reader<'_>, high_water: u64) -> Result<Bounds, PortError> {
    let Reader { dir, db, tag } = reader;
    let last = reader.number(&mark_key(tag))?;
    if high_water > last {
        return Err(damaged(dir, &format!("it ends at position {last}, but {high_water} was reached")));
    }
    let facts = fact_key(tag, 0)..fact_key(tag, u64::MAX);
    let position = |row: Option<sled::Result<(sled::IVec, sled::IVec)>>| match row {
        None => Ok(0),
        Some(Ok((key, _))) => {
            Ok(key.get(2..10).and_then(|at| at.try_into().ok()).map_or(0, u64::from_be_bytes))
        }
        Some(Err(error)) => Err(reader.failed(error)),
    };
    let (oldest, found) = (position(db.range(facts.clone()).next())?, position(db.range(facts).next_back())?);
    if found != last {
        return Err(damaged(dir, &format!("its last fact stands at {found}, but should at {last}")));
    }
    if last > 0 {
        let from = last.saturating_sub(CHECKED_AT_START).max(oldest);
        let checked = reader.facts(from, last, usize::MAX)?;
        if checked.last().is_none_or(|fact| fact.position != last) {
            return Err(damaged(dir, &format!("facts after position {from} are missing")));
        }
    }
    Ok(Bounds { last, oldest })
}
