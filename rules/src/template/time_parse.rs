//! Reads times as Go's `time.ParseInLocation` does.

use jiff::civil;
use jiff::tz::{Offset, TimeZone};

use super::time_format::ELEMENTS;
use super::value::Value;
use crate::time::Timestamp;

/// The time in `text`, written after `layout`, in `zone` where it names none; Go's zero time where it is none.
pub(super) fn parse(layout: &str, text: &str, zone: &TimeZone) -> Value {
    Fields::default()
        .read(layout, text)
        .and_then(|fields| fields.time(zone))
        .unwrap_or(Value::Time(None, TimeZone::UTC))
}

#[derive(Default)]
struct Fields {
    year: i16,
    month: Option<i8>,
    day: Option<i8>,
    day_of_year: Option<i16>,
    hour: i8,
    minute: i8,
    second: i8,
    nanos: i32,
    is_pm: Option<bool>,
    offset_seconds: Option<i32>,
}

impl Fields {
    fn read(mut self, mut layout: &str, mut text: &str) -> Option<Self> {
        while !layout.is_empty() {
            if let Some(element) = ELEMENTS.iter().find(|element| layout.starts_with(**element)) {
                layout = &layout[element.len()..];
                text = self.element(element, text)?;
                if matches!(*element, "05" | "5") && !is_fraction(layout) && is_fraction(text) {
                    text = self.fraction(text)?;
                }
            } else if is_fraction(layout) {
                let places = layout[1..].find(|c| !matches!(c, '0' | '9')).unwrap_or(layout.len() - 1);
                layout = &layout[1 + places..];
                text = if is_fraction(text) { self.fraction(text)? } else { text };
            } else {
                let c = layout.chars().next()?;
                text = text.strip_prefix(c)?;
                layout = &layout[c.len_utf8()..];
            }
        }
        text.is_empty().then_some(self)
    }

    /// Reads what an element stands for; yields what stands behind it.
    fn element<'t>(&mut self, element: &str, text: &'t str) -> Option<&'t str> {
        match element {
            "2006" => put(digits(text, 4, 4)?, &mut self.year),
            "06" => {
                let (short, behind) = digits::<i16>(text, 2, 2)?;
                self.year = if short >= 69 { 1900 + short } else { 2000 + short };
                Some(behind)
            }
            "January" => named(text, MONTHS, usize::MAX).map(|(at, behind)| self.set_month(at, behind)),
            "Jan" => named(text, MONTHS, 3).map(|(at, behind)| self.set_month(at, behind)),
            "Monday" => named(text, DAYS, usize::MAX).map(|(_, behind)| behind),
            "Mon" => named(text, DAYS, 3).map(|(_, behind)| behind),
            "01" => put(some(digits(text, 2, 2)?), &mut self.month),
            "1" => put(some(digits(text, 1, 2)?), &mut self.month),
            "02" => put(some(digits(text, 2, 2)?), &mut self.day),
            "2" => put(some(digits(text, 1, 2)?), &mut self.day),
            "_2" => put(some(digits(text.strip_prefix(' ').unwrap_or(text), 1, 2)?), &mut self.day),
            "002" => put(some(digits(text, 3, 3)?), &mut self.day_of_year),
            "__2" => put(some(digits(text.trim_start_matches(' '), 1, 3)?), &mut self.day_of_year),
            "15" => put(digits(text, 2, 2)?, &mut self.hour),
            "03" => put(digits(text, 2, 2)?, &mut self.hour),
            "3" => put(digits(text, 1, 2)?, &mut self.hour),
            "04" => put(digits(text, 2, 2)?, &mut self.minute),
            "4" => put(digits(text, 1, 2)?, &mut self.minute),
            "05" => put(digits(text, 2, 2)?, &mut self.second),
            "5" => put(digits(text, 1, 2)?, &mut self.second),
            "PM" | "pm" => {
                let half = text.get(..2)?;
                let is_pm = half == if element == "PM" { "PM" } else { "pm" };
                self.is_pm = Some(is_pm);
                (is_pm || half == if element == "PM" { "AM" } else { "am" }).then(|| &text[2..])
            }
            "MST" => self.zone_name(text),
            offset => self.offset(offset, text),
        }
    }

    fn set_month<'t>(&mut self, at: usize, behind: &'t str) -> &'t str {
        self.month = Some(at as i8 + 1);
        behind
    }

    fn fraction<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let len = text[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - 1);
        let digits = format!("{:0<9.9}", &text[1..1 + len]);
        self.nanos = digits.parse().ok()?;
        Some(&text[1 + len..])
    }

    /// Three or four capital letters: other names than UTC's tell no offset.
    fn zone_name<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let len = text.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(text.len());
        if text.starts_with("UTC") || text.starts_with("GMT") {
            self.offset_seconds = Some(0);
        }
        (3..=4).contains(&len).then(|| &text[len..])
    }

    fn offset<'t>(&mut self, layout: &str, text: &'t str) -> Option<&'t str> {
        if layout.starts_with('Z')
            && let Some(behind) = text.strip_prefix('Z')
        {
            self.offset_seconds = Some(0);
            return Some(behind);
        }
        let sign = match text.as_bytes().first()? {
            b'-' => -1,
            b'+' => 1,
            _ => return None,
        };
        let (hours, mut behind) = digits::<i32>(&text[1..], 2, 2)?;
        let mut minutes = 0;
        if layout.len() > 3 {
            let minutes_text = if layout.contains(':') { behind.strip_prefix(':')? } else { behind };
            (minutes, behind) = digits::<i32>(minutes_text, 2, 2)?;
        }
        self.offset_seconds = Some(sign * (hours * 3600 + minutes * 60));
        Some(behind)
    }

    fn time(self, zone: &TimeZone) -> Option<Value> {
        let hour = match (self.is_pm, self.hour) {
            (Some(true), 0..=11) => self.hour + 12,
            (Some(false), 12) => 0,
            (_, hour) => hour,
        };
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        let mut date = civil::Date::new(self.year, month, day).ok()?;
        if let Some(day) = self.day_of_year {
            date = date.with().day_of_year(day).build().ok()?;
        }
        let local = date.to_datetime(civil::Time::new(hour, self.minute, self.second, self.nanos).ok()?);
        let zone = match self.offset_seconds {
            None => zone.clone(),
            Some(0) => TimeZone::UTC,
            Some(seconds) => TimeZone::fixed(Offset::from_seconds(seconds).ok()?),
        };
        let nanos = local.to_zoned(zone.clone()).ok()?.timestamp().as_nanosecond();
        Some(Value::Time(Some(Timestamp(i64::try_from(nanos).ok()?)), zone))
    }
}

/// A number of so many digits, and what stands behind it.
fn digits<T: std::str::FromStr>(text: &str, min: usize, max: usize) -> Option<(T, &str)> {
    let len = text.bytes().take(max).take_while(u8::is_ascii_digit).count();
    (len >= min).then_some(())?;
    Some((text[..len].parse().ok()?, &text[len..]))
}

fn some<T>((value, behind): (T, &str)) -> (Option<T>, &str) {
    (Some(value), behind)
}

fn put<'t, T>((value, behind): (T, &'t str), field: &mut T) -> Option<&'t str> {
    *field = value;
    Some(behind)
}

/// The name at the start, as far as `len` letters of it, and what stands behind it.
fn named<'t>(text: &'t str, names: &[&str], len: usize) -> Option<(usize, &'t str)> {
    names.iter().enumerate().find_map(|(at, name)| {
        let name = &name[..name.len().min(len)];
        let head = text.get(..name.len())?;
        head.eq_ignore_ascii_case(name).then(|| (at, &text[name.len()..]))
    })
}

/// `.000` or `,123`
fn is_fraction(text: &str) -> bool {
    text.starts_with(['.', ',']) && text[1..].starts_with(|c: char| c.is_ascii_digit())
}

const MONTHS: &[&str] = &[
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const DAYS: &[&str] = &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
