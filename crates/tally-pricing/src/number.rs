//! Numbers from and to text, never through a float.

use rust_decimal::Decimal;

use crate::ratio::Ratio;

/// Why a text is no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a number that a price can be")]
pub struct NumberError(String);

/// Reads a number as venues write them: plain decimal, or with an exponent as JSON allows. What goes past 28
/// fraction digits is rounded, which no price needs.
///
/// # Errors
/// [`NumberError`] for anything else, and for what is too large to hold.
pub fn parse_number(text: &str) -> Result<Decimal, NumberError> {
    let error = || NumberError(text.chars().take(40).collect());
    let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E');
    if text.is_empty() || text.len() > 80 || !text.bytes().all(plain) {
        return Err(error());
    }
    if text.contains(['e', 'E']) {
        Decimal::from_scientific(text).map_err(|_| error())
    } else {
        text.parse::<Decimal>().map_err(|_| error())
    }
}

/// A number with at most ten significant digits, half-even, no exponent, trailing zeros trimmed.
pub fn format_significant(value: Decimal) -> String {
    match Ratio::from_decimal(value.abs()) {
        Some(ratio) if value.is_sign_negative() => format!("-{}", ratio.to_significant()),
        Some(ratio) => ratio.to_significant(),
        None => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_their_text() {
        for (text, value) in [
            ("562.26", "562.26"),
            ("1e-3", "0.001"),
            ("6.8667E0", "6.8667"),
            ("0", "0"),
            ("-1.5", "-1.5"),
            ("0.1000", "0.1"),
            ("0.12345678901234567890123456789012", "0.1234567890123456789012345679"),
        ] {
            assert_eq!(parse_number(text).unwrap().normalize().to_string(), value, "{text}");
        }
        for text in
            ["", "NaN", "inf", "1_000", "1,5", "0x1", " 1", "null", "e", "1e", "1e99", &"9".repeat(40)]
        {
            assert!(parse_number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ten_significant_digits_half_even() {
        for (text, printed) in [
            ("7762.8", "7762.8"),
            ("7762.80", "7762.8"),
            ("1", "1"),
            ("0", "0"),
            ("100", "100"),
            ("1.0000000005", "1"),
            ("1.0000000015", "1.000000002"),
            ("9.9999999999", "10"),
            ("99999999995", "100000000000"),
            ("123456789012", "123456789000"),
            ("0.000012345678901", "0.0000123456789"),
            ("0.00001234567890123", "0.00001234567890"),
            ("-2.50", "-2.5"),
        ] {
            let printed = if printed.contains('.') { printed.trim_end_matches('0') } else { printed };
            assert_eq!(format_significant(text.parse().unwrap()), printed, "{text}");
        }
    }
}
