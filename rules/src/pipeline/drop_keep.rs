//! `| drop a, b="c"` and `| keep a, b="c"`.

use super::extracted::{Extracted, Record};
use super::text_matcher::TextMatcher;
use super::{ERROR_DETAILS_LABEL, ERROR_LABEL, PRESERVE_ERROR_LABEL, Unsupported};
use crate::entry::{LabelValue, LogEntry};
use crate::logql::ast;

/// The labels of either stage, each with what its value must be.
#[derive(Debug)]
pub struct DropKeep {
    items: Vec<(String, Option<TextMatcher>)>,
}

impl DropKeep {
    /// Compiles the stage.
    pub fn compile(items: &[ast::DropKeep]) -> Result<Self, Unsupported> {
        let item = |item: &ast::DropKeep| {
            let matcher = item.matcher.as_ref().map(TextMatcher::compile).transpose()?;
            Ok((item.name.clone(), matcher))
        };
        Ok(Self { items: items.iter().map(item).collect::<Result<_, _>>()? })
    }

    /// A missing label has the empty value.
    pub(super) fn drop_labels<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> bool {
        for (name, matcher) in &self.items {
            let is_asked = |value: &str| matcher.as_ref().is_none_or(|matcher| matcher.matches(value));
            match name.as_str() {
                ERROR_LABEL if is_asked(extracted.error().unwrap_or_default()) => extracted.drop_error(),
                ERROR_DETAILS_LABEL if is_asked(extracted.error_details().unwrap_or_default()) => {
                    extracted.drop_details();
                }
                ERROR_LABEL | ERROR_DETAILS_LABEL => {}
                _ => {
                    let value = extracted.value(record, name).map(LabelValue::into_text);
                    if (value.is_some() || matcher.is_some()) && is_asked(&value.unwrap_or_default()) {
                        extracted.delete(name);
                    }
                }
            }
        }
        true
    }

    /// Errors are kept.
    pub(super) fn keep_labels<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> bool {
        let mut unkept = Vec::new();
        extracted.for_each_label(record, &mut |name, value| {
            let is_kept = |(other, matcher): &(String, Option<TextMatcher>)| {
                other == name && matcher.as_ref().is_none_or(|matcher| matcher.matches(value))
            };
            if !matches!(name, ERROR_LABEL | ERROR_DETAILS_LABEL | PRESERVE_ERROR_LABEL)
                && !self.items.iter().any(is_kept)
            {
                unkept.push(name.to_owned());
            }
        });
        unkept.iter().for_each(|name| extracted.delete(name));
        true
    }
}
