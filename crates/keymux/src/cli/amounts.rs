//! Amounts as people write them behind an option.

use keymux_policy::Priority;

/// Times a second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err("give a rate such as 50/s, 600/m or 1000/h".to_owned()),
    };
    let number: f64 = number.trim().parse().map_err(|_| "give a rate such as 50/s, 600/m or 1000/h")?;
    let rate = number / seconds;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("give a rate above zero".to_owned()) }
}

/// Nanoseconds.
pub(super) fn time(text: &str) -> Result<u64, String> {
    let wrong = || "give a time such as 90s, 30m or 8h".to_owned();
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds * 1_000_000_000).ok_or_else(wrong)
}

/// Nano-dollars.
pub(super) fn money(text: &str) -> Result<u64, String> {
    let wrong = || "give dollars, such as 5.00".to_owned();
    let text = text.trim().trim_start_matches('$');
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if text.is_empty() || text == "." || !digits(whole) || !digits(part) || part.len() > 9 {
        return Err(wrong());
    }
    let nano = format!("{whole}{part:0<9}");
    let nano: u64 = nano.parse().map_err(|_| wrong())?;
    if nano == 0 { Err("give more than nothing".to_owned()) } else { Ok(nano) }
}

/// A class.
pub(super) fn class(text: &str) -> Result<Priority, String> {
    match text {
        "high" => Ok(Priority::High),
        "normal" => Ok(Priority::Normal),
        "low" => Ok(Priority::Low),
        _ => Err("give high, normal or low".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        let s = 1_000_000_000;
        assert_eq!(
            ["90s", "30m", "8h", "1d", "5", "0s"].map(time),
            [90 * s, 1_800 * s, 28_800 * s, 86_400 * s, 5 * s, 0].map(Ok)
        );
        assert_eq!(["$5", "0.000001", "12.5"].map(money), [5 * s, 1_000, 12_500_000_000].map(Ok));
        assert_eq!(["600/m", "50"].map(rate), [Ok(10.0), Ok(50.0)]);
        for text in ["", "s", "5x", "-1s", "1.5h", "99999999999999d"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert!(["", ".", "five", "0", "-1", "1e3"].into_iter().all(|text| money(text).is_err()));
        assert!(["0", "fast", "1/y", "-1"].into_iter().all(|text| rate(text).is_err()));
    }
}
