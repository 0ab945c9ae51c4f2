//! Points in time and lengths of time, in whole milliseconds.
//!
//! Not here: a clock. Time is an argument everywhere but in the composition root.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime};

/// Why a text is not a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time as RFC 3339 writes it")]
pub struct TimestampError(String);

/// Milliseconds since 1970 (UTC). Serialised as RFC 3339 text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The last millisecond of the year 9999, the last that RFC 3339 can write.
const LAST_MILLIS: i64 = 253_402_300_799_999;

impl Timestamp {
    /// The beginning of 1970.
    pub const EPOCH: Self = Self(0);

    /// From Unix milliseconds, held between 1970 and the year 9999.
    pub const fn from_millis(millis: i64) -> Self {
        if millis < 0 {
            Self(0)
        } else if millis > LAST_MILLIS {
            Self(LAST_MILLIS)
        } else {
            Self(millis)
        }
    }

    /// From Unix seconds, held between 1970 and the year 9999.
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// Unix milliseconds.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Unix seconds, rounded down.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time and `span` later.
    pub const fn plus(self, span: Span) -> Self {
        Self::from_millis(self.0.saturating_add_unsigned(span.0))
    }

    /// This time and `span` earlier.
    pub const fn minus(self, span: Span) -> Self {
        Self::from_millis(self.0.saturating_sub_unsigned(span.0))
    }

    /// How long after `earlier` this is; nothing if it is not.
    pub const fn since(self, earlier: Self) -> Span {
        if self.0 > earlier.0 { Span(self.0.abs_diff(earlier.0)) } else { Span(0) }
    }

    /// As a date and time in UTC.
    pub fn to_utc(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_utc().format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        if let Some(time) = plain(text.as_bytes()) {
            return Ok(time);
        }
        let parsed = OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| TimestampError(text.chars().take(40).collect()))?;
        let millis = parsed.unix_timestamp_nanos().div_euclid(1_000_000);
        Ok(Self::from_millis(i64::try_from(millis).unwrap_or(LAST_MILLIS)))
    }
}

/// A time as it is written here: in UTC, to the millisecond at most. Everything else is left to the parser.
fn plain(text: &[u8]) -> Option<Timestamp> {
    let &[c, e, n, t, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1, ref rest @ ..] =
        text
    else {
        return None;
    };
    let fraction = match *rest {
        [b'Z'] => 0,
        [b'.', a, b'Z'] => number(&[a, b'0', b'0'])?,
        [b'.', a, b, b'Z'] => number(&[a, b, b'0'])?,
        [b'.', a, b, c, b'Z'] => number(&[a, b, c])?,
        _ => return None,
    };
    let month = Month::try_from(u8::try_from(number(&[m0, m1])?).ok()?).ok()?;
    let day = u8::try_from(number(&[d0, d1])?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(number(&[c, e, n, t])?).ok()?, month, day).ok()?;
    let (hour, minute, second) = (number(&[h0, h1])?, number(&[i0, i1])?, number(&[s0, s1])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = i64::from(date.to_julian_day()) - i64::from(OffsetDateTime::UNIX_EPOCH.to_julian_day());
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp::from_millis(seconds * 1000 + fraction))
}

/// The number that a few digits make.
fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(*digit - b'0')))
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => crate::wire::text(deserializer),
            false => Ok(Self::from_millis(i64::deserialize(deserializer)?)),
        }
    }
}

/// A length of time in milliseconds; serialised as a number of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(u64);

impl Span {
    /// `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// `secs` seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Seconds, rounded down.
    pub const fn secs(self) -> u64 {
        self.0 / 1000
    }

    /// For timers.
    pub const fn to_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_round_trip_as_rfc3339() {
        let at = Timestamp::from_millis(1_538_816_608_123);
        assert_eq!(at.to_string(), "2018-10-06T09:03:28.123Z");
        assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
        assert_eq!(
            Timestamp::from_millis(i64::MAX).to_string().parse::<Timestamp>().unwrap().millis(),
            LAST_MILLIS
        );
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    proptest::proptest! {
        /// What is read without the parser is what the parser reads, and nothing else is.
        #[test]
        fn a_plain_time_is_what_the_parser_makes_of_it(
            millis in 0..=LAST_MILLIS,
            at in 0_usize..24,
            byte in proptest::sample::select(b"0123456789Zz.+-:T ".as_slice()),
        ) {
            let text = Timestamp::from_millis(millis).to_string();
            proptest::prop_assert_eq!(plain(text.as_bytes()), Some(Timestamp::from_millis(millis)));
            let mut odd = text.into_bytes();
            if let Some(place) = odd.get_mut(at) {
                *place = byte;
            }
            if let Some(time) = plain(&odd) {
                let odd = String::from_utf8(odd).unwrap();
                let parsed = OffsetDateTime::parse(&odd, &Rfc3339).unwrap();
                let millis = i64::try_from(parsed.unix_timestamp_nanos().div_euclid(1_000_000)).unwrap();
                proptest::prop_assert_eq!(time, Timestamp::from_millis(millis), "{}", odd);
            }
        }
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Timestamp::EPOCH.minus(Span::from_secs(1)), Timestamp::EPOCH);
        assert_eq!(Timestamp::EPOCH.plus(Span::from_millis(u64::MAX)).millis(), LAST_MILLIS);
        assert_eq!(Timestamp::from_secs(5).since(Timestamp::from_secs(9)), Span::default());
    }
}
