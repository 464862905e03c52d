//! Decimal numbers as text, scaled to whole units without floating point: prices and waits must not drift.

/// `text` times ten to the `scale`, rounded half up, for example dollars to nano-dollars with a scale of 9. Takes what
/// JSON and headers write: digits, a point, an exponent, a plus sign. `None` for negative numbers and for anything
/// else; too large a number saturates.
pub(crate) fn scaled(text: &str, scale: i32) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 {
        return None;
    }
    let mut value: u128 = 0;
    // Digits beyond those that fit are dropped: 30 are more than any sum of money has.
    let mut dropped: i64 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        if value < 10_u128.pow(30) {
            value = value * 10 + u128::from(digit - b'0');
        } else {
            dropped += 1;
        }
    }
    if value == 0 {
        return Some(0);
    }
    let fraction_len = i64::try_from(fraction.len()).ok()?;
    let shift = i64::from(scale) + exponent + dropped - fraction_len;
    let units = if shift >= 0 {
        let factor = u32::try_from(shift).ok().and_then(|shift| 10_u128.checked_pow(shift));
        factor.and_then(|factor| value.checked_mul(factor)).unwrap_or(u128::MAX)
    } else {
        match u32::try_from(-shift).ok().and_then(|shift| 10_u128.checked_pow(shift)) {
            Some(divisor) => (value + divisor / 2) / divisor,
            None => 0,
        }
    };
    Some(u64::try_from(units).unwrap_or(u64::MAX))
}

/// The exponent of a number, clamped to where the result is decided anyway.
fn exponent(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(sign * digits.parse::<i64>().unwrap_or(i64::MAX).min(100_000))
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn dollars_become_nano_dollars_exactly() {
        assert_eq!(scaled("0.00014", 9), Some(140_000));
        assert_eq!(scaled("0.1", 9), Some(100_000_000));
        assert_eq!(scaled("1.5e-5", 9), Some(15_000));
        assert_eq!(scaled("2E+1", 9), Some(20_000_000_000));
        // What a float made of 0.00014: still 0.00014.
        assert_eq!(scaled("0.00014000000000000001", 9), Some(140_000));
        assert_eq!(scaled("0.0000000005", 9), Some(1));
        assert_eq!(scaled("0.0000000004", 9), Some(0));
        assert_eq!(scaled("12345678.123456789", 9), Some(12_345_678_123_456_789));
        assert_eq!(scaled(".5", 9), Some(500_000_000));
    }

    #[test]
    fn what_is_no_amount_is_none_and_what_is_too_much_saturates() {
        for text in ["", ".", "-1", "-0.5", "NaN", "inf", "1e", "1e+", "0x10", "1,5", "1.2.3", "e5", "١"] {
            assert_eq!(scaled(text, 9), None, "{text}");
        }
        assert_eq!(scaled("1e30", 9), Some(u64::MAX));
        assert_eq!(scaled("1e999999999999999999999", 9), Some(u64::MAX));
        assert_eq!(scaled("0e999999999999999999999", 9), Some(0));
        assert_eq!(scaled("1e-999999999999999999999", 9), Some(0));
        assert_eq!(scaled(&"9".repeat(5000), 9), Some(u64::MAX));
        assert_eq!(scaled(&format!("0.{}1", "0".repeat(5000)), 9), Some(0));
    }
}
