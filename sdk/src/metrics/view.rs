//! Views: what becomes of an instrument's measurements, as the file of `OTEL_CONFIG_FILE` says.

use std::error::Error;

use opentelemetry_sdk::metrics::{Aggregation, Instrument, InstrumentKind, Stream};

/// Which instruments, and the stream that they make. What is not said fits all, or stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// With `*` for anything and `?` for one character.
    pub(crate) instrument_name: Option<String>,
    pub(crate) instrument_kind: Option<InstrumentKind>,
    pub(crate) unit: Option<String>,
    pub(crate) meter_name: Option<String>,
    pub(crate) meter_version: Option<String>,
    pub(crate) meter_schema_url: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) aggregation: Option<Aggregation>,
    pub(crate) cardinality_limit: Option<u32>,
}

impl View {
    /// What becomes of an instrument that is meant; `usual` is how it is aggregated if the view does not say.
    pub(super) fn stream_of(&self, instrument: &Instrument, usual: Option<Aggregation>) -> Option<Stream> {
        if !self.selects(instrument) {
            return None;
        }
        let aggregation = self.aggregation.clone().or(usual);
        Self { aggregation, ..self.clone() }.stream().ok()
    }

    /// The stream; an error says what is wrong with it.
    pub(crate) fn stream(&self) -> Result<Stream, Box<dyn Error>> {
        let mut stream = Stream::builder();
        if let Some(name) = &self.name {
            stream = stream.with_name(name.clone());
        }
        if let Some(description) = &self.description {
            stream = stream.with_description(description.clone());
        }
        if let Some(aggregation) = &self.aggregation {
            stream = stream.with_aggregation(aggregation.clone());
        }
        if let Some(limit) = self.cardinality_limit {
            stream = stream.with_cardinality_limit(limit as usize);
        }
        stream.build()
    }

    pub(super) fn selects(&self, instrument: &Instrument) -> bool {
        let scope = instrument.scope();
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        self.instrument_name.as_deref().is_none_or(|pattern| fits(pattern, instrument.name()))
            && self.instrument_kind.is_none_or(|kind| kind == instrument.kind())
            && is(&self.unit, Some(instrument.unit()))
            && is(&self.meter_name, Some(scope.name()))
            && is(&self.meter_version, scope.version())
            && is(&self.meter_schema_url, scope.schema_url())
    }
}

/// Whether a pattern fits all of the name. Names of instruments are not case-sensitive.
fn fits(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return name.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    let mut chars = name.chars();
    match (first, chars.next()) {
        ('*', _) => (0..=name.len()).filter(|i| name.is_char_boundary(*i)).any(|i| fits(rest, &name[i..])),
        ('?', Some(_)) => fits(rest, chars.as_str()),
        (wanted, Some(found)) => wanted.eq_ignore_ascii_case(&found) && fits(rest, chars.as_str()),
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "orders", true),
            ("orders", "Orders", true),
            ("order", "orders", false),
            ("http.*.duration", "http.server.request.duration", true),
            ("http.*.duration", "http.server.duration.max", false),
            ("order?", "orders", true),
            ("order?", "order", false),
            ("", "orders", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
