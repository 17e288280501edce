//! The time that a plain line bears: the first date with a time of day in its first [`STAMP_BYTES_MAX`] bytes.
//!
//! Read by hand, for a replay looks at every line of the past. A property test holds it against the regular expression that says the
//! same.

use memchr::memchr_iter;

use crate::time::Timestamp;

/// How far from a line's beginning its time may stand.
pub const STAMP_BYTES_MAX: usize = 128;

/// The first time that stands near a line's beginning: RFC 3339, a space in place of the `T`, a comma before the fraction, and no zone,
/// which means UTC, are allowed.
pub(crate) fn stamp(line: &[u8]) -> Option<Timestamp> {
    let near = &line[..line.len().min(STAMP_BYTES_MAX)];
    let at = memchr_iter(b'-', near).find_map(|dash| begins_at(near, dash.checked_sub(4)?))?;
    read(&near[at..])
}

/// `at`, if something of the form `2025-11-24T16:00:00` begins there.
fn begins_at(text: &[u8], at: usize) -> Option<usize> {
    let text = text.get(at..at + FORM.len())?;
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        form => byte == form,
    };
    text.iter().zip(FORM).all(fits).then_some(at)
}

const FORM: &[u8; 19] = b"0000-00-00T00:00:00";

/// The time that a text of that form begins with; none where there is no such day or hour.
fn read(text: &[u8]) -> Option<Timestamp> {
    let number = |at: usize, len: usize| text[at..at + len].iter().fold(0, |n, digit| n * 10 + i64::from(digit - b'0'));
    let (hour, minute, second) = (number(11, 2), number(14, 2), number(17, 2));
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_since_1970(number(0, 4), number(5, 2), number(8, 2))?;
    let (fraction, rest) = fraction(&text[FORM.len()..]);
    // A leap second is the one before it, as Unix time has it.
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second.min(59) - offset_seconds(rest)?;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction).map(Timestamp)
}

/// The nanoseconds of a fraction of a second, and what stands behind all of its digits.
fn fraction(text: &[u8]) -> (i64, &[u8]) {
    let digits_of = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = match text {
        [b'.' | b',', digits @ ..] if digits_of(digits) > 0 => digits,
        text => return (0, &text[digits_of(text)..]),
    };
    let count = digits_of(digits);
    let nanos = (0..9).fold(0, |n, at| n * 10 + if at < count { i64::from(digits[at] - b'0') } else { 0 });
    (nanos, &digits[count..])
}

/// What the zone is ahead of UTC; none where no zone can be so far.
fn offset_seconds(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'+', h, i, b':', m, n, ..] | [b'+', h, i, m, n, ..] => (1, [h, i, m, n]),
        [b'-', h, i, b':', m, n, ..] | [b'-', h, i, m, n, ..] => (-1, [h, i, m, n]),
        _ => return Some(0),
    };
    if !digits.iter().all(|byte| byte.is_ascii_digit()) {
        return Some(0);
    }
    let [hours, minutes] = [0, 2].map(|at| i64::from(digits[at] - b'0') * 10 + i64::from(digits[at + 1] - b'0'));
    (hours <= FURTHEST_OFFSET_HOURS && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// As far as zones go in RFC 3339's readers.
const FURTHEST_OFFSET_HOURS: i64 = 25;

/// The days from 1970-01-01 to a date of the Gregorian calendar; none where there is no such date.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1..=days_in_month).contains(&day) {
        return None;
    }
    // A year that begins in March has its leap day last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    let day_of_year = (153 * months + 2) / 5 + day - 1;
    Some(years * 365 + leap_days + day_of_year - DAYS_TO_1970)
}

/// From the first of March of the year 0 on.
const DAYS_TO_1970: i64 = 719_468;

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use regex::Regex;

    use super::*;
    use crate::query::parameters::rfc3339;

    /// A date, a time of day, the fraction of a second, and the zone.
    static STAMP: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,]([0-9]{1,9}))?[0-9]*(Z|z|[+-][0-9]{2}:?[0-9]{2})?",
        )
        .unwrap()
    });

    fn stamp_by_expression(line: &str) -> Option<Timestamp> {
        let parts = STAMP.captures(&line[..line.floor_char_boundary(STAMP_BYTES_MAX)])?;
        let part = |at: usize, other| parts.get(at).map_or(other, |part| part.as_str());
        rfc3339(&format!("{}T{}.{}{}", &parts[1], &parts[2], part(3, "0"), part(4, "Z")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn lines_bear_the_time_that_the_expression_finds(parts in vec(select(PARTS), 0..12), before in 0..130_usize) {
            let line = "x".repeat(before) + &parts.concat();
            prop_assert_eq!(stamp(line.as_bytes()), stamp_by_expression(&line), "{}", line);
            prop_assert_eq!(stamp(parts.concat().as_bytes()), stamp_by_expression(&parts.concat()), "{}", parts.concat());
        }

        #[test]
        fn every_time_is_read(
            date in (0..=9999_u32, 0..=13_u32, 0..=32_u32),
            time in (0..=24_u32, 0..=60_u32, 0..=61_u32),
            fraction in "([.,][0-9]{0,11})?",
            zone in "(Z|z|[+-][0-9]{2}:?[0-9]{2}|[+-][0-9])?",
            is_spaced: bool,
        ) {
            let between = if is_spaced { ' ' } else { 'T' };
            let ((year, month, day), (hour, minute, second)) = (date, time);
            let line = format!("{year:04}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{second:02}{fraction}{zone} x");
            prop_assert_eq!(stamp(line.as_bytes()), stamp_by_expression(&line), "{}", line);
        }
    }

    const PARTS: &[&str] = &[
        "2025-11-24T16:00:00",
        "2024-02-29 23:59:60",
        "2025-13-45T99:00:00",
        "2025-11-24",
        "T16:00:00",
        "-24t16:00:00",
        ".5",
        ",123456789",
        "0",
        "42",
        ".",
        "Z",
        "+01:00",
        "-0130",
        "+9999",
        "-",
        ":",
        " ",
        "é",
        "٢٠٢٥",
        "\"ts\":\"",
        "x-1-2",
    ];
}
