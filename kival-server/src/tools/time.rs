//! Times as people write them: Unix seconds, Unix milliseconds, RFC 3339.

use jiff::Timestamp;

/// Numbers from here on are milliseconds: as seconds they would be after the year 5000.
const MILLISECONDS: u64 = 100_000_000_000;

const NO_TIME: &str = "not a time: give Unix seconds or milliseconds, or one like 2026-11-22T10:00:00Z";

/// A time in Unix milliseconds.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    if let Ok(number) = text.parse::<u64>() {
        return Ok(if number < MILLISECONDS { number * 1000 } else { number });
    }
    let time: Timestamp = text.parse().map_err(|_| NO_TIME.to_owned())?;
    time.as_millisecond().try_into().map_err(|_| "a time before 1970".to_owned())
}

/// A time in Unix milliseconds as text.
pub(super) fn text(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| ms.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_milliseconds_and_dates_are_the_same_time() {
        for text in ["1795341600", "1795341600000", "2026-11-22T10:00:00Z", "2026-11-22T12:00:00+02:00"] {
            assert_eq!(parse(text), Ok(1_795_341_600_000), "{text}");
        }
        assert_eq!(text(1_795_341_600_999), "2026-11-22T10:00:00.999Z");
        for wrong in ["", "yesterday", "2026-11-22", "1950-01-01T00:00:00Z", "-1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
