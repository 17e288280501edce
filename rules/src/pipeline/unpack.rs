//! `| unpack`: a line that Promtail's `pack` stage made, an object with the line as `_entry` and texts that become labels.

use std::borrow::Cow;

use super::extracted::{Sink, push_label_name, push_valid};
use super::json::{Entries, Kind, Malformed, Value};
use crate::entry::LogEntry;

/// Runs the stage. An object without `_entry` gives no labels.
pub(super) fn run<E: LogEntry>(sink: &mut Sink<'_, '_, E>) -> bool {
    if sink.is_complete() {
        return true;
    }
    let Sink { record, pipeline, extracted } = sink;
    let (entry, kept) = extracted.with_line(record, |line, extracted| {
        let mut sink = Sink { record, pipeline, extracted };
        match fields(line) {
            Ok((fields, Some(entry))) => (Some(entry), sink.add_packed(&fields)),
            Ok((_, None)) => (None, true),
            Err(details) => (None, sink.fail_parsing("JSONParserErr", Some(Cow::Borrowed(details)))),
        }
    });
    if let Some(entry) = entry {
        extracted.set_line(entry);
    }
    kept
}

type Fields<'l> = Vec<(Cow<'l, str>, Value<'l>)>;

/// The texts of the object, and its `_entry`.
fn fields(line: &str) -> Result<(Fields<'_>, Option<String>), &'static str> {
    match line.as_bytes().first() {
        None => return Ok((Vec::new(), None)),
        Some(b'{') => {}
        Some(_) => return Err("expecting json object(6), but it is not"),
    }
    let (mut fields, mut line_inside) = (Vec::new(), None);
    for entry in Entries::new(line).map_err(|Malformed(details)| details)? {
        let (key, value) = entry.map_err(|Malformed(details)| details)?;
        match value.kind {
            Kind::String if key == ENTRY => line_inside = Some(value.unescaped()?.into_owned()),
            Kind::String => fields.push((key, value)),
            _ => {}
        }
    }
    Ok((fields, line_inside))
}

impl<E: LogEntry> Sink<'_, '_, E> {
    /// Whether the record stays.
    fn add_packed(&mut self, fields: &Fields<'_>) -> bool {
        let mut name = String::new();
        // What is set is decided by what was there before any of them.
        let asked: Vec<(Cow<'_, str>, &Value<'_>)> =
            fields.iter().filter_map(|(key, value)| Some((self.name_for(key)?, value))).collect();
        asked.into_iter().all(|(key, value)| {
            name.clear();
            push_label_name(&mut name, &key);
            // Loki sets a label without a name, and can no more answer.
            if name.is_empty() {
                return true;
            }
            self.extracted.set(self.pipeline, &name, |out| push_valid(out, &value.text()));
            !self.pipeline.drops_early(self.record, self.extracted, &name)
        })
    }
}

/// The key of the line.
const ENTRY: &str = "_entry";
