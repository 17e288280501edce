//! `| level="error" and duration > 10s`: conditions on labels.

use std::net::IpAddr;
use std::time::Duration;

use super::text_matcher::TextMatcher;
use super::{Extracted, Record, Unsupported};
use crate::entry::{LabelValue, LogEntry};
use crate::logql::ast::{self, CompareOp, MatchOp, NumberFilter};

/// A compiled condition. Where a value cannot be read as the condition needs it, `__error__` is set and the record stays.
#[derive(Debug)]
pub enum LabelFilter {
    /// The label's text is as asked; a missing label is the empty text.
    Text(String, TextMatcher),
    /// The label is a number that compares so; a missing label does not.
    Number(NumberFilter<f64>),
    /// The same of a duration.
    Duration(NumberFilter<Duration>),
    /// The same of a size.
    Bytes(NumberFilter<u64>),
    /// The label is an address in a range, or (`negative`) is not.
    Ip {
        /// The label.
        name: String,
        /// First and last address.
        range: (IpAddr, IpAddr),
        /// Whether it must not be in it.
        negative: bool,
    },
    /// Both hold.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// One of them holds.
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

impl LabelFilter {
    /// Compiles a condition.
    pub fn compile(filter: &ast::LabelFilter) -> Result<Self, Unsupported> {
        Ok(match filter {
            ast::LabelFilter::String(matcher) => Self::Text(matcher.name.clone(), TextMatcher::compile(matcher)?),
            ast::LabelFilter::Number(number) => Self::Number(number.clone()),
            ast::LabelFilter::Duration(duration) => Self::Duration(duration.clone()),
            ast::LabelFilter::Bytes(bytes) => Self::Bytes(bytes.clone()),
            ast::LabelFilter::Ip { name, op, pattern, span } => {
                let range = ip_range(pattern).ok_or_else(|| {
                    Unsupported::new(
                        *span,
                        format!("`{pattern}` is no address, range (`10.0.0.1-10.0.0.9`) or block (`10.0.0.0/8`)"),
                    )
                })?;
                Self::Ip { name: name.clone(), range, negative: *op == MatchOp::NotEqual }
            }
            ast::LabelFilter::And(a, b) => Self::And(Box::new(Self::compile(a)?), Box::new(Self::compile(b)?)),
            ast::LabelFilter::Or(a, b) => Self::Or(Box::new(Self::compile(a)?), Box::new(Self::compile(b)?)),
        })
    }

    /// Whether the record stays.
    pub fn matches<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> bool {
        let holds = match self {
            Self::And(a, b) => return a.matches(record, extracted) && b.matches(record, extracted),
            Self::Or(a, b) => return a.matches(record, extracted) || b.matches(record, extracted),
            Self::Text(name, matcher) => {
                let value = extracted.label(record, name).map(LabelValue::into_text).unwrap_or_default();
                return matcher.matches(&value);
            }
            Self::Number(filter) => filter.holds(record, extracted, |value| value.number()),
            Self::Duration(filter) => filter.holds(record, extracted, |value| go_duration(&value.into_text())),
            Self::Bytes(filter) => filter.holds(record, extracted, |value| human_bytes(&value.into_text())),
            Self::Ip { name, range, negative } => match extracted.label(record, name) {
                None => return false,
                Some(value) => {
                    let address = value.into_text().parse::<IpAddr>().ok();
                    address.map(|address| (range.0 <= address && address <= range.1) != *negative).or(Some(*negative))
                }
            },
        };
        holds.unwrap_or_else(|| {
            extracted.fail("LabelFilterErr");
            true
        })
    }
}

impl<T: PartialOrd + Copy> NumberFilter<T> {
    /// `None` where the label's value cannot be read.
    fn holds<E: LogEntry>(
        &self,
        record: &Record<'_, E>,
        extracted: &Extracted,
        read: impl Fn(LabelValue<'_>) -> Option<T>,
    ) -> Option<bool> {
        match extracted.label(record, &self.name) {
            None => Some(false),
            Some(value) => read(value).map(|value| compare(self.op, value, self.value)),
        }
    }
}

/// `a op b`
pub fn compare<T: PartialOrd>(op: CompareOp, a: T, b: T) -> bool {
    match op {
        CompareOp::Equal => a == b,
        CompareOp::NotEqual => a != b,
        CompareOp::Greater => a > b,
        CompareOp::GreaterEqual => a >= b,
        CompareOp::Less => a < b,
        CompareOp::LessEqual => a <= b,
    }
}

/// Visits the labels that a condition reads.
pub fn for_each_name(filter: &ast::LabelFilter, visit: &mut dyn FnMut(&str)) {
    match filter {
        ast::LabelFilter::String(matcher) => visit(&matcher.name),
        ast::LabelFilter::Number(filter) => visit(&filter.name),
        ast::LabelFilter::Duration(filter) => visit(&filter.name),
        ast::LabelFilter::Bytes(filter) => visit(&filter.name),
        ast::LabelFilter::Ip { name, .. } => visit(name),
        ast::LabelFilter::And(a, b) | ast::LabelFilter::Or(a, b) => {
            for_each_name(a, visit);
            for_each_name(b, visit);
        }
    }
}

/// For a condition on nothing but `severity_number`: bit `n` tells whether it holds for `n`. Only the record's own field is looked
/// at, not an attribute that goes by the same name.
pub fn severity_mask(filter: &ast::LabelFilter) -> Option<u32> {
    match filter {
        ast::LabelFilter::Number(number) if number.name == "severity_number" => {
            let holds = |severity: &u32| compare(number.op, f64::from(*severity), number.value);
            Some((1..u32::BITS).filter(holds).fold(0, |mask, severity| mask | 1 << severity))
        }
        ast::LabelFilter::And(a, b) => Some(severity_mask(a)? & severity_mask(b)?),
        ast::LabelFilter::Or(a, b) => Some(severity_mask(a)? | severity_mask(b)?),
        _ => None,
    }
}

/// A duration as Go's `time.ParseDuration` reads it; a negative one is less than any literal, like zero.
fn go_duration(text: &str) -> Option<Duration> {
    match text.strip_prefix('-') {
        Some(positive) => crate::time::parse_duration(positive).ok().map(|_| Duration::ZERO),
        None => crate::time::parse_duration(text.strip_prefix('+').unwrap_or(text)).ok(),
    }
}

/// A size as `humanize.ParseBytes` reads it: `1.5 MB`, `10KiB`, `42`.
fn human_bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | ',')).unwrap_or(text.len());
    let number: f64 = text[..end].replace(',', "").parse().ok()?;
    let unit = text[end..].trim().to_ascii_lowercase();
    let (base, prefix) = match unit.strip_suffix("ib").or(unit.strip_suffix('i')) {
        Some(prefix) => (1024.0, prefix),
        None => (1000.0, unit.strip_suffix('b').unwrap_or(&unit)),
    };
    let power = ["", "k", "m", "g", "t", "p", "e"].iter().position(|known| *known == prefix)?;
    let bytes = number * f64::powi(base, power as i32);
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

fn ip_range(pattern: &str) -> Option<(IpAddr, IpAddr)> {
    if let Some((first, last)) = pattern.split_once('-') {
        let range: (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        return (range.0.is_ipv4() == range.1.is_ipv4() && range.0 <= range.1).then_some(range);
    }
    let Some((address, bits)) = pattern.split_once('/') else {
        return pattern.parse().ok().map(|address| (address, address));
    };
    let bits: u32 = bits.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(bits).filter(|_| bits <= 32).or((bits == 32).then_some(0))?;
            let first = address.to_bits() & !host;
            Some((IpAddr::V4(first.into()), IpAddr::V4((first | host).into())))
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(bits).filter(|_| bits <= 128).or((bits == 128).then_some(0))?;
            let first = address.to_bits() & !host;
            Some((IpAddr::V6(first.into()), IpAddr::V6((first | host).into())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_humanize_reads_them() {
        for (text, bytes) in [
            ("42", Some(42)),
            ("1KB", Some(1000)),
            ("1.5 MB", Some(1_500_000)),
            ("10KiB", Some(10_240)),
            ("2k", Some(2000)),
            ("1,000 B", Some(1000)),
            ("1Ki", Some(1024)),
            ("", None),
            ("x", None),
            ("1zb", None),
        ] {
            assert_eq!(human_bytes(text), bytes, "{text}");
        }
    }

    #[test]
    fn addresses_are_in_their_blocks() {
        let inside = |pattern: &str, address: &str| {
            let address: IpAddr = address.parse().unwrap();
            ip_range(pattern).map(|(first, last)| first <= address && address <= last)
        };
        assert_eq!(inside("10.0.0.0/8", "10.255.0.1"), Some(true));
        assert_eq!(inside("10.0.0.0/8", "11.0.0.0"), Some(false));
        assert_eq!(inside("10.0.0.7/32", "10.0.0.7"), Some(true));
        assert_eq!(inside("0.0.0.0/0", "255.1.1.1"), Some(true));
        assert_eq!(inside("10.0.0.1-10.0.0.9", "10.0.0.10"), Some(false));
        assert_eq!(inside("2001:db8::/32", "2001:db8::1"), Some(true));
        assert_eq!(inside("2001:db8::/32", "10.0.0.1"), Some(false));
        for wrong in ["10.0.0.0/33", "x", "10.0.0.9-10.0.0.1", "1.1.1.1-::1"] {
            assert_eq!(ip_range(wrong), None, "{wrong}");
        }
    }
}
