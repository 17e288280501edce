//! `| regexp "(?P<name>...)"`: what the named groups of an expression find in the line.

use super::Unsupported;
use super::extracted::{Sink, push_label_name};
use crate::entry::LogEntry;
use crate::logql::ast::StringArg;
use crate::logql::regexp::{self, Regexp};

/// The compiled stage.
#[derive(Debug)]
pub struct RegexpStage {
    regex: Regexp,
    /// Group and label.
    names: Vec<(usize, String)>,
}

impl RegexpStage {
    /// Compiles the stage.
    pub fn compile(expression: &StringArg) -> Result<Self, Unsupported> {
        let regex = regexp::compile(&expression.text);
        let regex = regex.map_err(|error| Unsupported::new(expression.span, error.to_string()))?;
        let label = |(group, name): (usize, Option<&str>)| {
            let mut label = String::new();
            push_label_name(&mut label, name?);
            Some((group, label))
        };
        let names = regex.capture_names().enumerate().filter_map(label).collect();
        Ok(Self { regex, names })
    }

    /// A group that takes no part in the match is the empty text.
    pub(super) fn run<E: LogEntry>(&self, sink: &mut Sink<'_, '_, E>) -> bool {
        let Sink { record, pipeline, extracted } = sink;
        if pipeline.reads_no_labels() {
            return true;
        }
        extracted.with_line(record, |line, extracted| {
            let mut sink = Sink { record, pipeline, extracted };
            let Some(captures) = self.regex.captures(line) else { return true };
            self.names.iter().all(|(group, name)| {
                let value = captures.get(*group).map_or("", |found| found.as_str());
                sink.add(name, |out| out.push_str(value)).is_ok()
            })
        })
    }
}
