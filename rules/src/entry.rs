//! What a pipeline reads of a record, whatever protocol it came by.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

/// A record with its labels. OTLP records are read where they lie (see [`crate::otlp_labels`]); a label that no rule asks for costs
/// nothing.
pub trait LogEntry {
    /// The line.
    fn line(&self) -> Cow<'_, str>;

    /// The value of an index label.
    fn index_label(&self, name: &str) -> Option<&str>;

    /// The value of a label of the structured metadata.
    fn metadata(&self, name: &str) -> Option<LabelValue<'_>>;

    /// Every label, index labels first, each name once.
    fn for_each_label(&self, visit: &mut dyn FnMut(&str, &str));

    /// Whether it counts as often as it is there, though its stream has another with the same time and line.
    fn repeats(&self) -> bool {
        false
    }

    /// Whether there is a label of that name, where that is told sooner than its value.
    fn has_label(&self, name: &str) -> bool {
        self.label(name).is_some()
    }

    /// The value of a label of either kind.
    fn label(&self, name: &str) -> Option<LabelValue<'_>> {
        match self.index_label(name) {
            Some(value) => Some(LabelValue::Text(Cow::Borrowed(value))),
            None => self.metadata(name),
        }
    }
}

/// A label's value before it is text: a number that is only compared is never printed.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelValue<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// A whole number, printed in decimal.
    Int(i64),
    /// Bytes, printed in lower-case hexadecimal.
    Hex(&'a [u8]),
}

impl<'a> LabelValue<'a> {
    /// The value as text.
    pub fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text,
            other => Cow::Owned(other.to_string()),
        }
    }

    /// Appends the value as text.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            other => write!(out, "{other}").expect("writing to a vector cannot fail"),
        }
    }

    /// The value as a number, read as Go's `strconv.ParseFloat` would.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Text(text) => text.parse().ok(),
            Self::Int(number) => Some(*number as f64),
            Self::Hex(_) => self.to_string().parse().ok(),
        }
    }
}

impl fmt::Display for LabelValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Int(number) => write!(f, "{number}"),
            Self::Hex(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}
