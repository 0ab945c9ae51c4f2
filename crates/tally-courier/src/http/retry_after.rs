//! The header `Retry-After` (RFC 9110, 10.2.3): seconds, or a date, which is taken relative to the answer's own
//! `Date`, so that no clock of ours is needed.
//!
//! Not here: whether it is followed.

use tally_types::Span;
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const IMF_FIXDATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

pub(super) fn parse(value: &str, date: Option<&str>) -> Option<Span> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Span::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = PrimitiveDateTime::parse(value, IMF_FIXDATE).ok()?;
    let now = PrimitiveDateTime::parse(date?.trim(), IMF_FIXDATE).ok()?;
    Some(Span::from_secs(u64::try_from((until - now).whole_seconds()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates() {
        let now = Some("Wed, 21 Oct 2015 07:28:00 GMT");
        for (value, date, expected) in [
            ("120", None, Some(120)),
            (" 0 ", None, Some(0)),
            ("Wed, 21 Oct 2015 07:30:00 GMT", now, Some(120)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", now, Some(0)),
            ("Wed, 21 Oct 2015 07:30:00 GMT", None, None),
            ("-5", None, None),
            ("", None, None),
            ("soon", now, None),
        ] {
            assert_eq!(parse(value, date), expected.map(Span::from_secs), "{value}");
        }
    }
}
