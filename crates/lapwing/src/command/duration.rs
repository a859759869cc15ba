//! Lengths of time on the command line.

use std::time::Duration;

/// Reads `90s`, `5m`, `2h` or `7d`; a number alone is seconds.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let error = || format!("'{text}' is no length of time; write 90s, 5m, 2h or 7d");
    let (number, unit) = match text.find(|character: char| !character.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(error()),
    };
    let number: u64 = number.parse().map_err(|_| error())?;
    number.checked_mul(seconds).filter(|&seconds| seconds > 0).map(Duration::from_secs).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_a_number_and_a_unit() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("7d", 604_800)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "5x", "-1s", "1.5h", "0", "0m", "99999999999999999999d", "9999999999999999999d"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
