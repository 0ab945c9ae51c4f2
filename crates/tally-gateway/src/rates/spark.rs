//! The last hours of a price as a small picture, in whole numbers.

use std::fmt::Write as _;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use tally_pricing::{HISTORY_SPAN, HISTORY_STEP, PricePoint};
use tally_types::Timestamp;

/// The size of the picture, in its own units.
const WIDTH: u64 = 2_400;
const HEIGHT: u64 = 480;
/// Room for the line's own thickness.
const MARGIN: u64 = 30;
/// Fewer points than this show nothing.
const POINTS_MIN: usize = 3;
/// A longer silence than this is a gap in the line.
const GAP_STEPS: u64 = 3;

/// An SVG of `points`, oldest first, up to `now`; none of too few to see anything.
pub(super) fn svg(points: &[PricePoint], now: Timestamp) -> Option<String> {
    let low = points.iter().map(|point| point.usd).min()?;
    let high = points.iter().map(|point| point.usd).max()?;
    let mut path = String::new();
    let mut before: Option<PricePoint> = None;
    for point in points {
        let gap = before
            .is_none_or(|before| point.at.since(before.at).millis() > HISTORY_STEP.millis() * GAP_STEPS);
        let _ =
            write!(path, "{}{} {}", if gap { 'M' } else { 'L' }, x(point.at, now), y(point.usd, low, high)?);
        before = Some(*point);
    }
    let last = before.filter(|_| points.len() >= POINTS_MIN)?;
    let (x, y) = (x(last.at, now), y(last.usd, low, high)?);
    Some(format!(
        "<svg class=\"spark\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"between {} and {} dollars\">\
         <path class=\"base\" d=\"M{MARGIN} {base}H{end}\"/><path d=\"{path}\"/><circle cx=\"{x}\" cy=\"{y}\" r=\"36\"/></svg>",
        low.normalize(),
        high.normalize(),
        base = HEIGHT - 8,
        end = WIDTH - MARGIN,
    ))
}

fn x(at: Timestamp, now: Timestamp) -> u64 {
    let span = HISTORY_SPAN.millis();
    let ago = now.since(at).millis().min(span);
    // The newest point keeps clear of the edge.
    (span - ago) * (WIDTH - 2 * MARGIN) / span + MARGIN
}

fn y(usd: Decimal, low: Decimal, high: Decimal) -> Option<u64> {
    let room = HEIGHT - 2 * MARGIN;
    let range = high.checked_sub(low)?;
    let below = match range.is_zero() {
        true => room / 2,
        false => {
            let part = high.checked_sub(usd)?.checked_div(range)?;
            part.checked_mul(Decimal::from(room))?.round().to_u64()?
        }
    };
    Some(below + MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_gaps_between_low_and_high() {
        let now = Timestamp::from_secs(1_700_000_000);
        let point = |ago: i64, usd: i64| PricePoint {
            at: Timestamp::from_secs(1_700_000_000 - ago),
            usd: Decimal::from(usd),
        };
        assert_eq!(svg(&[], now), None);
        assert_eq!(svg(&[point(120, 4), point(0, 5)], now), None);
        let drawn = svg(&[point(21_600, 10), point(21_480, 20), point(120, 15), point(0, 10)], now).unwrap();
        assert!(drawn.contains("d=\"M30 450L43 30M2357 240L2370 450\""), "{drawn}");
        assert!(drawn.contains("between 10 and 20 dollars"), "{drawn}");
        let flat = svg(&[point(240, 7), point(120, 7), point(0, 7)], now).unwrap();
        assert!(flat.contains("M2344 240L2357 240L2370 240"), "{flat}");
    }
}
