//! What of OpenTelemetry's baggage becomes attributes: the entries whose keys are on a list.

use opentelemetry::baggage::BaggageExt;
use opentelemetry::{Context, KeyValue};

use crate::lane::map_current_context;

/// The keys that are wanted.
pub(crate) struct Baggage(Box<[String]>);

impl Baggage {
    pub(crate) fn new(keys: &[String]) -> Self {
        Self(keys.into())
    }

    /// Whether any is wanted: asked for each record, so that no context is looked at for nothing.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        !self.0.is_empty()
    }

    /// Calls `put` with each entry of the current context that is wanted.
    #[cold]
    pub(crate) fn each_of_current(&self, mut put: impl FnMut(&str, &str)) {
        map_current_context(|context| {
            let baggage = context.baggage();
            for key in &self.0 {
                baggage.get(key).into_iter().for_each(|value| put(key, value.as_str()));
            }
        });
    }

    /// The entries of a context that are wanted.
    pub(crate) fn of(&self, context: &Context) -> Vec<KeyValue> {
        let baggage = context.baggage();
        let entry = |key: &String| Some(KeyValue::new(key.clone(), baggage.get(key)?.clone()));
        self.0.iter().filter_map(entry).collect()
    }
}
