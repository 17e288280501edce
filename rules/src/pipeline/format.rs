//! `| line_format "{{ .path }}"` and `| label_format a=b, c="{{ .d }}"`.

use std::borrow::Cow;
use std::sync::Arc;

use super::Unsupported;
use super::extracted::{Extracted, Record, Sink};
use crate::entry::{LabelValue, LogEntry};
use crate::logql::ast::{self, LabelFormatValue, StringArg};
use crate::template::log::{LogData, LogLabels, LogTemplate};
use crate::template::value::Value;

/// The compiled `line_format`.
#[derive(Debug)]
pub struct LineFormat {
    template: LogTemplate,
}

impl LineFormat {
    /// Compiles the stage.
    pub fn compile(template: &StringArg) -> Result<Self, Unsupported> {
        Ok(Self { template: parse(template)? })
    }

    /// The labels that it names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.template.names().iter().map(String::as_str)
    }

    pub(super) fn run<E: LogEntry>(&self, record: &Record<'_, E>, extracted: &mut Extracted) -> bool {
        if let Some(name) = self.template.as_label() {
            let value = extracted.value(record, name).map(|value| value.into_text().into_owned());
            extracted.set_line(value.unwrap_or_default());
            return true;
        }
        let labels = labels(&[&self.template], record, extracted);
        let data = LogData { line: extracted.line(record), at: record.at(), now: record.now() };
        match self.template.expand("line", labels, &data) {
            Ok(line) => extracted.set_line(line),
            Err(details) => extracted.fail("TemplateFormatErr", Some(Cow::Owned(details))),
        }
        true
    }
}

/// The compiled `label_format`.
#[derive(Debug)]
pub struct LabelFormat {
    formats: Vec<(String, Format)>,
}

#[derive(Debug)]
enum Format {
    Rename(String),
    Template(Box<LogTemplate>),
}

impl LabelFormat {
    /// Compiles the stage.
    pub fn compile(formats: &[ast::LabelFormat]) -> Result<Self, Unsupported> {
        let format = |format: &ast::LabelFormat| {
            let value = match &format.value {
                LabelFormatValue::Rename(name) => Format::Rename(name.clone()),
                LabelFormatValue::Template(template) => Format::Template(Box::new(parse(template)?)),
            };
            Ok((format.name.clone(), value))
        };
        Ok(Self { formats: formats.iter().map(format).collect::<Result<_, _>>()? })
    }

    /// The labels that it names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.formats.iter().flat_map(|(_, format)| match format {
            Format::Rename(name) => std::slice::from_ref(name).iter().map(String::as_str),
            Format::Template(template) => template.names().iter().map(String::as_str),
        })
    }

    /// Templates see the labels as they were when the first of them ran.
    pub(super) fn run<E: LogEntry>(&self, sink: &mut Sink<'_, '_, E>) -> bool {
        let Sink { record, pipeline, extracted } = sink;
        let mut seen: Option<LogLabels> = None;
        for (name, format) in &self.formats {
            match format {
                Format::Rename(from) => {
                    let value = extracted.value(record, from).map(|value| value.into_text().into_owned());
                    if let Some(value) = value {
                        extracted.set(pipeline, name, |out| out.push_str(&value));
                        extracted.delete(from);
                    }
                }
                Format::Template(template) => {
                    let seen = seen.get_or_insert_with(|| labels(&self.templates(), record, extracted));
                    let data = LogData { line: extracted.line(record), at: record.at(), now: record.now() };
                    match template.expand("label", seen.clone(), &data) {
                        Ok(value) => extracted.set(pipeline, name, |out| out.push_str(&value)),
                        Err(details) => extracted.fail("TemplateFormatErr", Some(Cow::Owned(details))),
                    }
                }
            }
        }
        true
    }

    fn templates(&self) -> Vec<&LogTemplate> {
        let mut templates = Vec::new();
        for (_, format) in &self.formats {
            if let Format::Template(template) = format {
                templates.push(&**template);
            }
        }
        templates
    }
}

fn parse(template: &StringArg) -> Result<LogTemplate, Unsupported> {
    LogTemplate::parse(&template.text).map_err(|error| Unsupported::new(template.span, error.message))
}

/// The labels that the templates read.
fn labels<E: LogEntry>(templates: &[&LogTemplate], record: &Record<'_, E>, extracted: &Extracted) -> LogLabels {
    if templates.iter().any(|template| template.reads_all()) {
        let mut labels = LogLabels::new();
        extracted.for_each_label(record, &mut |name, value| {
            labels.insert(Arc::from(name), Value::string(value));
        });
        return labels;
    }
    let names = templates.iter().flat_map(|template| template.names());
    let label = |name: &String| {
        let value = extracted.label(record, name).map(LabelValue::into_text)?;
        Some((Arc::from(name.as_str()), Value::string(&*value)))
    };
    names.filter_map(label).collect()
}
