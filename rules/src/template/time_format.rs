//! Prints times and durations as Go's `time` does.

use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::time::Timestamp;

/// `time.Time.String()`: `2006-01-02 15:04:05.999999999 -0700 MST`.
pub(super) fn display(time: Option<Timestamp>, zone: &TimeZone) -> String {
    format(time, zone, "2006-01-02 15:04:05.999999999 -0700 MST")
}

/// `time.Time.Format(layout)`.
pub(super) fn format(time: Option<Timestamp>, zone: &TimeZone, layout: &str) -> String {
    let zoned = zoned(time, zone);
    let mut text = String::new();
    let mut rest = layout;
    while !rest.is_empty() {
        match ELEMENTS.iter().find(|element| rest.starts_with(**element)) {
            // `Jan` in `January` is found first as the longer; `1` in a word is still an element, as in Go.
            Some(element) => {
                text.push_str(&self::element(&zoned, element));
                rest = &rest[element.len()..];
            }
            None => rest = fraction_or_char(&zoned, rest, &mut text),
        }
    }
    text
}

/// `time.Duration.String()`: `1h2m3.5s`, `1.5ms`, `0s`.
pub(super) fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    if magnitude < 1_000_000_000 {
        let (unit, name) = match magnitude {
            0 => return "0s".into(),
            1..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(magnitude, unit));
    }
    let seconds = magnitude / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = decimal(magnitude % 60_000_000_000, 1_000_000_000);
    match (hours, seconds / 60) {
        (0, 0) => format!("{sign}{rest}s"),
        (0, _) => format!("{sign}{minutes}m{rest}s"),
        _ => format!("{sign}{hours}h{minutes}m{rest}s"),
    }
}

/// The time in its zone; Go's zero time is the first second of year 1.
pub(super) fn zoned(time: Option<Timestamp>, zone: &TimeZone) -> Zoned {
    let nanos = time.map_or(ZERO_SECONDS * 1_000_000_000, |time| i128::from(time.nanos()));
    jiff::Timestamp::from_nanosecond(nanos).unwrap_or(jiff::Timestamp::MIN).to_zoned(zone.clone())
}

fn decimal(value: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    if digits == 0 { (value / unit).to_string() } else { text.trim_end_matches('0').trim_end_matches('.').into() }
}

fn element(zoned: &Zoned, element: &str) -> String {
    let hour12 = (i32::from(zoned.hour()) + 11) % 12 + 1;
    match element {
        "January" => zoned.strftime("%B").to_string(),
        "Jan" => zoned.strftime("%b").to_string(),
        "Monday" => zoned.strftime("%A").to_string(),
        "Mon" => zoned.strftime("%a").to_string(),
        "MST" => zone_name(zoned),
        "2006" => format!("{:04}", zoned.year()),
        "06" => format!("{:02}", zoned.year().rem_euclid(100)),
        "01" => format!("{:02}", zoned.month()),
        "1" => zoned.month().to_string(),
        "002" => format!("{:03}", zoned.day_of_year()),
        "__2" => format!("{:3}", zoned.day_of_year()),
        "02" => format!("{:02}", zoned.day()),
        "_2" => format!("{:2}", zoned.day()),
        "2" => zoned.day().to_string(),
        "15" => format!("{:02}", zoned.hour()),
        "03" => format!("{hour12:02}"),
        "3" => hour12.to_string(),
        "04" => format!("{:02}", zoned.minute()),
        "4" => zoned.minute().to_string(),
        "05" => format!("{:02}", zoned.second()),
        "5" => zoned.second().to_string(),
        "PM" => (if zoned.hour() < 12 { "AM" } else { "PM" }).into(),
        "pm" => (if zoned.hour() < 12 { "am" } else { "pm" }).into(),
        offset => zone_offset(zoned, offset),
    }
}

/// `MST`: the zone's abbreviation; one without is written as its offset.
fn zone_name(zoned: &Zoned) -> String {
    if zoned.time_zone() == &TimeZone::UTC {
        return "UTC".into();
    }
    if zoned.time_zone().iana_name().is_none() {
        return zone_offset(zoned, "-0700");
    }
    zoned.strftime("%Z").to_string()
}

/// `-0700`, `Z07:00` and so on.
fn zone_offset(zoned: &Zoned, layout: &str) -> String {
    let seconds = zoned.offset().seconds();
    if layout.starts_with('Z') && seconds == 0 {
        return "Z".into();
    }
    let (sign, seconds) = (if seconds < 0 { '-' } else { '+' }, seconds.abs());
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match &layout[1..] {
        "07" => format!("{sign}{hours:02}"),
        "07:00" => format!("{sign}{hours:02}:{minutes:02}"),
        _ => format!("{sign}{hours:02}{minutes:02}"),
    }
}

/// `.000` or `,999` (which drops trailing zeros), else one character as it is.
fn fraction_or_char<'l>(zoned: &Zoned, rest: &'l str, text: &mut String) -> &'l str {
    let mut chars = rest.chars();
    let first = chars.next().unwrap_or(' ');
    let digit = chars.next().filter(|digit| matches!(first, '.' | ',') && matches!(digit, '0' | '9'));
    let Some(digit) = digit else {
        text.push(first);
        return &rest[first.len_utf8()..];
    };
    let count = rest[1..].chars().take_while(|c| *c == digit).count();
    let behind = &rest[1 + count..];
    if behind.starts_with(|c: char| c.is_ascii_digit()) {
        text.push(first);
        return &rest[1..];
    }
    let all = format!("{:09}", zoned.subsec_nanosecond());
    let digits = &all[..count.min(9)];
    let digits = if digit == '9' { digits.trim_end_matches('0') } else { digits };
    if !digits.is_empty() {
        text.push(first);
        text.push_str(digits);
    }
    behind
}

/// Seconds from Go's zero time to 1970, negative.
const ZERO_SECONDS: i128 = -62_135_596_800;

/// Longer ones before those they start with.
pub(super) const ELEMENTS: [&str; 31] = [
    "January", "Jan", "Monday", "Mon", "MST", "2006", "002", "__2", "Z07:00", "Z0700", "Z07", "-07:00", "-0700", "-07",
    "06", "01", "02", "03", "04", "05", "_2", "15", "PM", "pm", "1", "2", "3", "4", "5", "Z070000", "-070000",
];
