//! Shards: which part of a chain's watched scripts a watcher looks after.
//!
//! Not here: how the number of shards changes (`tally-watcher`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use tally_types::Script;

/// The most shards of a chain.
const COUNT_MAX: u32 = 1024;

/// Why a text is no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no shard: needed is I/N with 1 <= I <= N <= {COUNT_MAX}, such as 1/4")]
pub struct ShardError(String);

/// A script's place among all scripts: the first eight bytes of its SHA-256. A shard has a range of places, so
/// that what was one shard's is a range again when the number of shards changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Place(u64);

impl Place {
    /// The place of a script.
    pub fn of(script: &Script) -> Self {
        let digest = Sha256::digest(script.as_bytes());
        Self(digest.first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first)))
    }

    /// The place with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// One of a chain's shards: `1/4` is the first of four. Serialised as that text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    /// From 0.
    index: u32,
    count: u32,
}

impl Shard {
    /// The only one.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// All shards of a chain that has `count`; one where `count` is no number of shards.
    pub fn all(count: u32) -> impl DoubleEndedIterator<Item = Self> {
        let count = if (1..=COUNT_MAX).contains(&count) { count } else { 1 };
        (0..count).map(move |index| Self { index, count })
    }

    /// Its number, from 0.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// How many there are.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// Whether it is the only one.
    pub const fn is_whole(&self) -> bool {
        self.count == 1
    }

    /// The first place and the last that are its own.
    pub fn places(self) -> (Place, Place) {
        let start = |index: u32| {
            let start = (u128::from(index) << 64).div_ceil(u128::from(self.count));
            u64::try_from(start).ok()
        };
        let last = start(self.index.saturating_add(1)).map_or(u64::MAX, |next| next.saturating_sub(1));
        (Place(start(self.index).unwrap_or(u64::MAX)), Place(last))
    }

    /// Whether a place is its own.
    pub fn has_place(self, place: Place) -> bool {
        let (first, last) = self.places();
        (first..=last).contains(&place)
    }

    /// Whether a script is its own.
    pub fn has(self, script: &Script) -> bool {
        self.is_whole() || self.has_place(Place::of(script))
    }

    /// Whether these shards, of whatever count, have every place of this one between them.
    pub fn is_covered_by(self, others: impl IntoIterator<Item = Self>) -> bool {
        let (first, last) = self.places();
        let mut ranges: Vec<(Place, Place)> = others.into_iter().map(Self::places).collect();
        ranges.sort_unstable();
        let mut next = Some(first.0);
        for (from, to) in ranges {
            match next {
                Some(wanted) if from.0 <= wanted && to.0 >= wanted => next = to.0.checked_add(1),
                Some(_) => {}
                None => return true,
            }
        }
        next.is_none_or(|wanted| wanted > last.0)
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", u64::from(self.index).saturating_add(1), self.count)
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let parsed = text.split_once('/').and_then(|(number, count)| {
            let (number, count): (u32, u32) = (number.parse().ok()?, count.parse().ok()?);
            let index = number.checked_sub(1)?;
            (index < count && count <= COUNT_MAX).then_some(Self { index, count })
        });
        parsed.ok_or_else(|| ShardError(text.chars().take(80).collect()))
    }
}

impl Serialize for Shard {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Shard {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_in_just_one_shard() {
        let edges =
            [0, 1, u64::MAX / 3, u64::MAX / 3 + 1, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX - 1, u64::MAX];
        for count in [1, 2, 3, 4, 7, 64, 1000, 1024] {
            for place in edges {
                let having = Shard::all(count).filter(|shard| shard.has_place(Place(place)));
                assert_eq!(having.count(), 1, "{place} of {count}");
            }
            let all: Vec<_> = Shard::all(count).map(Shard::places).collect();
            assert_eq!((all[0].0.0, all.last().unwrap().1.0), (0, u64::MAX));
            assert!(all.windows(2).all(|pair| pair[0].1.0 + 1 == pair[1].0.0), "{count}");
        }
    }

    #[test]
    fn scripts_are_spread_evenly_and_always_in_the_same_way() {
        let mut sizes = [0_u32; 4];
        for number in 0..4000_u32 {
            let script = Script::from_bytes(&number.to_be_bytes()).unwrap();
            let home = Shard::all(4).find(|shard| shard.has(&script)).unwrap();
            sizes[home.index() as usize] += 1;
        }
        assert!(sizes.iter().all(|size| (900..1100).contains(size)), "{sizes:?}");
        let script: Script = "0014751e76e8199196d454941c45d1b3a323f1433bd6".parse().unwrap();
        assert_eq!(Place::of(&script), Place(9_815_867_614_680_412_337), "written in logs: it never changes");
    }

    #[test]
    fn shards_of_another_count_cover_one_together() {
        let shard = |text: &str| text.parse::<Shard>().unwrap();
        let rows = [
            ("1/1", "1/4 2/4 3/4 4/4", true),
            ("1/1", "4/4 1/4 3/4 2/4", true),
            ("1/1", "1/4 2/4 4/4", false),
            ("2/4", "1/1", true),
            ("2/4", "1/2", true),
            ("2/4", "2/2", false),
            ("1/2", "1/4 2/4", true),
            ("1/2", "1/3 2/3", true),
            ("1/2", "1/3", false),
            ("1/1", "", false),
        ];
        for (one, others, covered) in rows {
            let others = others.split_whitespace().map(shard);
            assert_eq!(shard(one).is_covered_by(others), covered, "{one}");
        }
    }

    #[test]
    fn texts() {
        for text in ["1/1", "1/4", "4/4", "1024/1024"] {
            assert_eq!(text.parse::<Shard>().unwrap().to_string(), text);
        }
        for text in ["", "1", "0/1", "2/1", "1/0", "1/1025", "a/b", "-1/2", "1/2/3"] {
            let error = text.parse::<Shard>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?}")), "{error}");
        }
    }
}
