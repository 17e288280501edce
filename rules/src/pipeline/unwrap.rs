//! `| unwrap duration(took)`: a label's value as the sample of a record.

use std::borrow::Cow;
use std::sync::Arc;

use super::extracted::{Extracted, Record};
use super::label_filter::LabelFilter;
use super::{Unsupported, convert};
use crate::entry::{LabelValue, LogEntry};
use crate::logql::ast::{self, UnwrapConversion};

/// The compiled stage, with the filters behind it.
#[derive(Debug)]
pub struct Unwrap {
    label: String,
    conversion: Option<UnwrapConversion>,
    filters: Vec<Arc<LabelFilter>>,
}

impl Unwrap {
    /// Compiles the stage.
    pub fn compile(unwrap: &ast::Unwrap) -> Result<Self, Unsupported> {
        let filters = unwrap.filters.iter().map(|filter| LabelFilter::compile(filter).map(Arc::new));
        let filters = filters.collect::<Result<_, _>>()?;
        Ok(Self { label: unwrap.label.clone(), conversion: unwrap.conversion, filters })
    }

    /// A record without the label is dropped; where the value is no number the sample is 0, with an error.
    pub(super) fn run<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> bool {
        let sample = match extracted.value(record, &self.label) {
            None => return false,
            Some(LabelValue::Int(number)) if self.conversion.is_none() => Ok(number as f64),
            Some(value) => match &*value.into_text() {
                "" => return false,
                text => self.convert(text),
            },
        };
        if let Err(details) = &sample {
            extracted.fail("SampleExtractionErr", Some(Cow::Owned(details.clone())));
        }
        extracted.set_sample(sample.unwrap_or(0.0));
        // All of them, as conditions that are joined by `and` are.
        self.filters.iter().filter(|filter| !filter.matches(record, extracted)).count() == 0
    }

    fn convert(&self, text: &str) -> Result<f64, String> {
        match self.conversion {
            None => convert::float(text),
            Some(UnwrapConversion::Bytes) => convert::bytes(text).map(|bytes| bytes as f64),
            Some(UnwrapConversion::Duration | UnwrapConversion::DurationSeconds) => {
                convert::duration(text).map(convert::seconds)
            }
        }
    }

    /// Visits the labels that it reads.
    pub(super) fn for_each_name(&self, visit: &mut dyn FnMut(&str)) {
        visit(&self.label);
        self.filters.iter().for_each(|filter| filter.for_each_name(visit));
    }

    /// The filter behind it, where there is one.
    pub(super) fn only_filter(&self) -> Option<&Arc<LabelFilter>> {
        if let [filter] = self.filters.as_slice() { Some(filter) } else { None }
    }
}
