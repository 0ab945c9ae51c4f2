//! Rescans: ranges of blocks that are matched again in parts, by any number of workers, over the log.
//!
//! A part is taken under a lease, matched, and reported; the writer of each shard makes what was found its own.
//! What is done for a part is told by shards, which may be of another count than today's.
//!
//! Not here: leases, matching, appending (`tally-watcher`).

use std::collections::BTreeMap;

use tally_events::{Fact, Shard};
use tally_types::{Height, Position};

/// The most parts of a rescan; a longer range has larger parts.
const PARTS_MAX: u64 = 4096;
/// The fewest blocks of a part.
const PART_BLOCKS_MIN: u64 = 100;

/// How many blocks the parts of a range have.
pub fn part_blocks(from: Height, to: Height) -> u64 {
    let blocks = to.get().saturating_sub(from.get()).saturating_add(1);
    blocks.div_ceil(PARTS_MAX).max(PART_BLOCKS_MIN)
}

/// A part of a rescan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RescanPart {
    /// Which rescan.
    pub rescan: u32,
    /// Which part of it, from 0.
    pub part: u64,
    /// The first block.
    pub from: Height,
    /// The last block.
    pub to: Height,
}

/// What has been said about a part.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// Reports, and whether more of the same was announced.
    reports: Vec<(Shard, Position, bool)>,
    applied: Vec<Shard>,
}

impl Progress {
    fn is_reported(&self, shard: Shard) -> bool {
        let whole = self.reports.iter().filter(|(_, _, more)| !more).map(|(of, _, _)| *of);
        shard.is_covered_by(whole.chain(self.applied.iter().copied()))
    }

    fn is_applied(&self, shard: Shard) -> bool {
        shard.is_covered_by(self.applied.iter().copied())
    }
}

#[derive(Debug, Clone)]
struct Rescan {
    position: Position,
    from: Height,
    to: Height,
    part_blocks: u64,
    parts: BTreeMap<u64, Progress>,
}

impl Rescan {
    fn part(&self, rescan: u32, part: u64) -> Option<RescanPart> {
        let first = self.from.get().checked_add(part.checked_mul(self.part_blocks)?)?;
        let last = first.saturating_add(self.part_blocks.saturating_sub(1)).min(self.to.get());
        (first <= last).then_some(RescanPart {
            rescan,
            part,
            from: Height::new(first),
            to: Height::new(last),
        })
    }

    fn all_parts(&self, rescan: u32) -> impl Iterator<Item = RescanPart> + '_ {
        (0..).map_while(move |part| self.part(rescan, part))
    }

    fn is_done(&self, rescan: u32) -> bool {
        self.all_parts(rescan)
            .all(|part| self.parts.get(&part.part).is_some_and(|known| known.is_applied(Shard::WHOLE)))
    }
}

/// How far a rescan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RescanProgress {
    /// The first block.
    pub from: Height,
    /// The last block.
    pub to: Height,
    /// How many parts it has.
    pub parts: u64,
    /// Parts of which all is done.
    pub done: u64,
}

/// The open rescans of one chain: the fold of the facts on its rescan subject.
#[derive(Debug, Clone, Default)]
pub struct Rescans {
    open: BTreeMap<u32, Rescan>,
    /// The highest number there was, and where it was asked for, if that was seen.
    last: u32,
    last_asked: Position,
}

impl Rescans {
    /// Folds a fact. Others than those of rescans change nothing.
    pub fn apply(&mut self, position: Position, shard: Shard, fact: &Fact) {
        match fact {
            Fact::RescanRequested(fact) if fact.rescan > self.last => {
                (self.last, self.last_asked) = (fact.rescan, position);
                let (from, to, part_blocks) = (fact.from, fact.to, fact.part_blocks.max(1));
                let rescan = Rescan { position, from, to, part_blocks, parts: BTreeMap::new() };
                self.open.insert(fact.rescan, rescan);
            }
            Fact::RescanReported(fact) => {
                self.last = self.last.max(fact.rescan);
                if let Some(rescan) = self.open.get_mut(&fact.rescan) {
                    let part = rescan.parts.entry(fact.part).or_default();
                    part.reports.push((shard, position, fact.more));
                }
            }
            Fact::RescanApplied(fact) => {
                self.last = self.last.max(fact.rescan);
                if let Some(rescan) = self.open.get_mut(&fact.rescan) {
                    let part = rescan.parts.entry(fact.part).or_default();
                    part.applied.push(shard);
                    if part.is_applied(Shard::WHOLE) {
                        part.reports.clear();
                    }
                    if rescan.is_done(fact.rescan) {
                        self.open.remove(&fact.rescan);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The number of the next rescan.
    pub fn next_number(&self) -> u32 {
        self.last.saturating_add(1)
    }

    /// Where the oldest open request stands; 0 where none is open.
    pub fn since(&self) -> Position {
        self.open.values().map(|rescan| rescan.position).min().unwrap_or(Position::START)
    }

    /// From where on the log must be read to know as much, were a part applied for a shard: the oldest request that is
    /// open then. Where none is, 0, if the part's own rescan was asked for last; else that request, or its number would
    /// be given out again.
    pub fn since_after_applying(&self, part: &RescanPart, shard: Shard) -> Position {
        let left = |(number, rescan): (&u32, &Rescan)| {
            if *number != part.rescan {
                return Some(rescan.position);
            }
            let mut after = rescan.clone();
            after.parts.entry(part.part).or_default().applied.push(shard);
            (!after.is_done(*number)).then_some(rescan.position)
        };
        let closed = if part.rescan == self.last { Position::START } else { self.last_asked };
        self.open.iter().filter_map(left).min().unwrap_or(closed)
    }

    /// Open parts that nobody has matched against a shard's scripts, in order.
    pub fn to_match(&self, shard: Shard) -> impl Iterator<Item = RescanPart> + '_ {
        self.open.iter().flat_map(move |(number, rescan)| {
            rescan.all_parts(*number).filter(move |part| {
                rescan.parts.get(&part.part).is_none_or(|known| !known.is_reported(shard))
            })
        })
    }

    /// Parts that are matched against all of a shard's scripts and wait for its writer, with the positions of
    /// what was reported.
    pub fn to_apply(&self, shard: Shard) -> impl Iterator<Item = (RescanPart, Vec<Position>)> + '_ {
        self.open.iter().flat_map(move |(number, rescan)| {
            rescan
                .parts
                .iter()
                .filter(move |(_, known)| known.is_reported(shard) && !known.is_applied(shard))
                .filter_map(move |(part, known)| {
                    let positions = known.reports.iter().map(|(_, position, _)| *position).collect();
                    Some((rescan.part(*number, *part)?, positions))
                })
        })
    }

    /// The lowest block that an open rescan younger than `after` begins with.
    pub fn lowest_requested_after(&self, after: Position) -> Option<Height> {
        self.open.values().filter(|rescan| rescan.position > after).map(|rescan| rescan.from).min()
    }

    /// How far an open rescan is; `None` for one that is done or never was.
    pub fn progress(&self, rescan: u32) -> Option<RescanProgress> {
        let open = self.open.get(&rescan)?;
        let parts = u64::try_from(open.all_parts(rescan).count()).unwrap_or(u64::MAX);
        let done = open.parts.values().filter(|known| known.is_applied(Shard::WHOLE)).count();
        let done = u64::try_from(done).unwrap_or(u64::MAX);
        Some(RescanProgress { from: open.from, to: open.to, parts, done })
    }
}

#[cfg(test)]
mod tests {
    use tally_events::{RescanApplied, RescanReported, RescanRequested};
    use tally_types::{BlockHash, BlockRef, ChainId};

    use super::*;

    fn chain() -> ChainId {
        "btc".parse().unwrap()
    }

    fn shard(text: &str) -> Shard {
        text.parse().unwrap()
    }

    /// A book, told in words: `ask 10-350`, `report 0 1/2`, `piece 0 1/2`, `apply 0 1/2`; of the first rescan, or of
    /// that with the number at the end.
    fn told(words: &[&str]) -> Rescans {
        let mut book = Rescans::default();
        for (at, words) in words.iter().enumerate() {
            let position = Position::new(at as u64 + 1);
            let (verb, rest) = words.split_once(' ').unwrap();
            let (since, chain) = (Position::START, chain());
            if verb == "ask" {
                let (from, to) = rest.split_once('-').unwrap();
                let (from, to) = (Height::new(from.parse().unwrap()), Height::new(to.parse().unwrap()));
                let rescan = book.next_number();
                let fact = RescanRequested { chain, rescan, from, to, part_blocks: 100, since };
                book.apply(position, Shard::WHOLE, &fact.into());
                continue;
            }
            let (part, of) = rest.split_once(' ').unwrap();
            let (of, rescan) = of.split_once(' ').unwrap_or((of, "1"));
            let (rescan, part) = (rescan.parse().unwrap(), part.parse().unwrap());
            let last = BlockRef { height: Height::new(0), hash: BlockHash::from_display([0; 32]) };
            let fact: Fact = match verb {
                "apply" => RescanApplied { chain, rescan, part, since }.into(),
                _ => {
                    let more = verb == "piece";
                    RescanReported { chain, rescan, part, last, found: Vec::new(), more, since }.into()
                }
            };
            book.apply(position, shard(of), &fact);
        }
        book
    }

    fn parts(book: &Rescans, of: &str) -> (Vec<u64>, Vec<u64>) {
        let to_match = book.to_match(shard(of)).map(|part| part.part).collect();
        (to_match, book.to_apply(shard(of)).map(|(part, _)| part.part).collect())
    }

    #[test]
    fn a_range_has_parts_with_nothing_left_over() {
        let book = told(&["ask 10-350"]);
        let ranges: Vec<_> =
            book.to_match(Shard::WHOLE).map(|part| (part.from.get(), part.to.get())).collect();
        assert_eq!(ranges, [(10, 109), (110, 209), (210, 309), (310, 350)]);
        assert_eq!(part_blocks(Height::new(0), Height::new(0)), 100);
        assert_eq!(part_blocks(Height::new(0), Height::new(799_999)), 196);
        let one = told(&["ask 7-7"]);
        assert_eq!(one.to_match(Shard::WHOLE).count(), 1);
    }

    #[test]
    fn the_table_of_what_is_left_to_do() {
        type Row = (&'static str, &'static [&'static str], &'static str, &'static [u64], &'static [u64]);
        let rows: [Row; 9] = [
            ("asked", &["ask 0-150"], "1/1", &[0, 1], &[]),
            ("reported", &["ask 0-150", "report 1 1/1"], "1/1", &[0], &[1]),
            ("a piece of it", &["ask 0-150", "piece 1 1/1"], "1/1", &[0, 1], &[]),
            ("all of it", &["ask 0-150", "piece 1 1/1", "report 1 1/1"], "1/1", &[0], &[1]),
            ("applied", &["ask 0-150", "report 1 1/1", "apply 1 1/1"], "1/1", &[0], &[]),
            ("of another shard", &["ask 0-150", "report 1 1/2"], "2/2", &[0, 1], &[]),
            ("of the shard there was", &["ask 0-150", "report 1 1/1"], "3/4", &[0], &[1]),
            ("applied by the shard there was", &["ask 0-150", "apply 1 1/2"], "2/4", &[0], &[]),
            ("of half of it", &["ask 0-150", "report 1 1/2"], "1/1", &[0, 1], &[]),
        ];
        for (name, words, of, to_match, to_apply) in rows {
            let book = told(words);
            assert_eq!(parts(&book, of), (to_match.to_vec(), to_apply.to_vec()), "{name}");
        }
    }

    #[test]
    fn it_is_done_once_every_part_is_every_shards_own() {
        let mut words = vec!["ask 0-150", "report 0 1/2", "report 0 2/2", "report 1 1/1", "apply 0 1/2"];
        assert_eq!(told(&words).since(), Position::new(1));
        words.extend(["apply 1 1/2", "apply 1 2/2"]);
        let book = told(&words);
        let left = book.progress(1).unwrap();
        assert_eq!((left.parts, left.done), (2, 1));
        let last = book.to_apply(shard("2/2")).next().unwrap().0;
        assert_eq!(book.since_after_applying(&last, shard("1/2")), Position::new(1), "it was that half's");
        assert_eq!(book.since_after_applying(&last, shard("2/2")), Position::START, "nothing is open then");
        words.push("apply 0 2/2");
        let book = told(&words);
        assert!(book.is_empty() && book.progress(1).is_none());
        assert_eq!(book.next_number(), 2);
        words.push("ask 5-6");
        assert_eq!(told(&words).since(), Position::new(9));
    }

    #[test]
    fn the_number_of_a_rescan_that_was_done_first_is_not_forgotten() {
        let mut words = vec!["ask 0-50", "ask 0-50", "report 0 1/1 2", "apply 0 1/1 2", "report 0 1/1"];
        let book = told(&words);
        let first = book.to_apply(Shard::WHOLE).next().unwrap().0;
        assert_eq!(book.since_after_applying(&first, Shard::WHOLE), Position::new(2));
        words.push("apply 0 1/1");
        assert_eq!((told(&words).is_empty(), told(&words).next_number()), (true, 3));
    }
}
