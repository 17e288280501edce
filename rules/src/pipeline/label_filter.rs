//! `| level="error" and duration > 10s`: conditions on labels.

use std::borrow::Cow;

use super::extracted::{Extracted, Record};
use super::ip::IpRange;
use super::regex_label::RegexLabel;
use super::{ERROR_LABEL, Unsupported, convert};
use crate::entry::{LabelValue, LogEntry};
use crate::logql::ast::{self, CompareOp, LabelMatcher, MatchOp, NumberFilter};

/// A compiled condition. Where a value cannot be read as the condition needs it, `__error__` is set and the record stays.
#[derive(Debug)]
pub enum LabelFilter {
    /// The label's text is as asked; a missing label is the empty text.
    Text(String, TextFilter),
    /// The label is a number that compares so; a missing label does not.
    Number(NumberFilter<f64>),
    /// The same of a duration, in nanoseconds.
    Duration(NumberFilter<i64>),
    /// The same of a size.
    Bytes(NumberFilter<u64>),
    /// The label holds an address in a range, or does not.
    Ip(IpFilter),
    /// All hold.
    And(Vec<LabelFilter>),
    /// One of them holds.
    Or(Vec<LabelFilter>),
}

/// `name = ip("...")`
#[derive(Debug)]
pub struct IpFilter {
    name: String,
    range: IpRange,
    is_negative: bool,
}

/// `="text"`, `!="text"`, `=~"regex"`, `!~"regex"`
#[derive(Debug)]
pub struct TextFilter {
    kind: TextKind,
    is_negative: bool,
}

#[derive(Debug)]
enum TextKind {
    Text(String),
    Regex(RegexLabel),
}

impl LabelFilter {
    /// Compiles a condition.
    pub fn compile(filter: &ast::LabelFilter) -> Result<Self, Unsupported> {
        Ok(match filter {
            ast::LabelFilter::String(matcher) => Self::Text(matcher.name.clone(), TextFilter::compile(matcher)?),
            ast::LabelFilter::Number(number) => Self::Number(number.clone()),
            ast::LabelFilter::Duration(duration) => Self::Duration(duration.clone()),
            ast::LabelFilter::Bytes(bytes) => Self::Bytes(bytes.clone()),
            ast::LabelFilter::Ip { name, op, pattern, span } => {
                let range = IpRange::parse(pattern).ok_or_else(|| {
                    let message =
                        format!("`{pattern}` is no address, range (`10.0.0.1-10.0.0.9`) or block (`10.0.0.0/8`)");
                    Unsupported::new(*span, message)
                })?;
                Self::Ip(IpFilter { name: name.clone(), range, is_negative: *op == MatchOp::NotEqual })
            }
            ast::LabelFilter::And(parts) => Self::And(parts.iter().map(Self::compile).collect::<Result<_, _>>()?),
            ast::LabelFilter::Or(parts) => Self::Or(parts.iter().map(Self::compile).collect::<Result<_, _>>()?),
        })
    }

    /// Whether the record stays.
    pub fn matches<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> bool {
        let holds = match self {
            // All of them, because each may set an error that stays where an `or` around them holds.
            Self::And(parts) => {
                return parts.iter().filter(|part| part.matches(record, extracted)).count() == parts.len();
            }
            Self::Or(parts) => return parts.iter().any(|part| part.matches(record, extracted)),
            Self::Text(name, filter) if name == ERROR_LABEL => {
                return filter.matches(extracted.error().unwrap_or_default());
            }
            Self::Text(name, filter) => {
                return filter.matches(&extracted.value(record, name).map(LabelValue::into_text).unwrap_or_default());
            }
            Self::Ip(filter) => return filter.matches(record, extracted),
            Self::Number(filter) => filter.holds(record, extracted, |value| match value {
                LabelValue::Int(number) => Ok(number as f64),
                other => convert::float(&other.into_text()),
            }),
            Self::Duration(filter) => filter.holds(record, extracted, |value| convert::duration(&value.into_text())),
            Self::Bytes(filter) => filter.holds(record, extracted, |value| convert::bytes(&value.into_text())),
        };
        holds.unwrap_or_else(|details| {
            if extracted.error().is_none() {
                extracted.fail("LabelFilterErr", Some(Cow::Owned(details)));
            }
            true
        })
    }

    /// Visits the labels that the condition reads, as Loki lists them: one that lets all pass reads none.
    pub(super) fn for_each_name(&self, visit: &mut dyn FnMut(&str)) {
        match self {
            _ if self.passes_all() => {}
            Self::Text(name, _) => visit(name),
            Self::Number(filter) => visit(&filter.name),
            Self::Duration(filter) => visit(&filter.name),
            Self::Bytes(filter) => visit(&filter.name),
            Self::Ip(filter) => visit(&filter.name),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.for_each_name(visit)),
        }
    }

    pub(super) const fn is_compound(&self) -> bool {
        matches!(self, Self::And(..) | Self::Or(..))
    }

    /// Whether it is `=~ ".*"`.
    pub(super) const fn passes_all(&self) -> bool {
        matches!(self, Self::Text(_, TextFilter { kind: TextKind::Regex(RegexLabel::Any), is_negative: false }))
    }
}

impl TextFilter {
    fn compile(matcher: &LabelMatcher) -> Result<Self, Unsupported> {
        let kind = match matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => TextKind::Text(matcher.value.clone()),
            MatchOp::Regex | MatchOp::NotRegex => {
                let regex = RegexLabel::compile(&matcher.value);
                TextKind::Regex(regex.map_err(|error| Unsupported::new(matcher.value_span, error.to_string()))?)
            }
        };
        Ok(Self { kind, is_negative: matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex) })
    }

    fn matches(&self, value: &str) -> bool {
        let holds = match &self.kind {
            TextKind::Text(text) => text == value,
            TextKind::Regex(regex) => regex.matches(value),
        };
        holds != self.is_negative
    }
}

impl IpFilter {
    /// After an error every record stays, as in Loki.
    fn matches<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &Extracted) -> bool {
        let holds = |value: LabelValue<'_>| self.range.is_in(&value.into_text()) != self.is_negative;
        extracted.error().is_some() || extracted.value(record, &self.name).is_some_and(holds)
    }
}

impl<T: PartialOrd + Copy> NumberFilter<T> {
    /// `Err` says why the label's value cannot be read.
    fn holds<E: LogEntry>(
        &self,
        record: &Record<'_, E>,
        extracted: &Extracted,
        read: impl Fn(LabelValue<'_>) -> Result<T, String>,
    ) -> Result<bool, String> {
        match extracted.value(record, &self.name) {
            None => Ok(false),
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

/// For a condition on nothing but `severity_number`: bit `n` tells whether it holds for `n`. Only the record's own field is looked
/// at, not an attribute that goes by the same name.
pub fn severity_mask(filter: &ast::LabelFilter) -> Option<u32> {
    match filter {
        ast::LabelFilter::Number(number) if number.name == "severity_number" => {
            let holds = |severity: &u32| compare(number.op, f64::from(*severity), number.value);
            Some((1..u32::BITS).filter(holds).fold(0, |mask, severity| mask | 1 << severity))
        }
        ast::LabelFilter::And(parts) => parts.iter().try_fold(u32::MAX, |mask, part| Some(mask & severity_mask(part)?)),
        ast::LabelFilter::Or(parts) => parts.iter().try_fold(0, |mask, part| Some(mask | severity_mask(part)?)),
        _ => None,
    }
}
