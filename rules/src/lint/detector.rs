//! Labels that a detector asks of its records, and that nothing in the file makes.

use super::Found;
use crate::detect::Detect;
use crate::diagnostic::{Diagnostic, codes};
use crate::explain::log_ranges;
use crate::logql::ast::{LabelFilter, LogExpr, Stage, StageKind};
use crate::otlp_labels::is_of_every_record;
use crate::pipeline::Pipeline;
use crate::rule_file::Rule;

pub(super) fn lint(rule: &Rule, detect: &Detect, is_index_label: &impl Fn(&str) -> bool, found: &mut Found) {
    // Behind the file's stages stand those that ask for the labels.
    let own = |log: &LogExpr| log.stages.len().saturating_sub(detect.keys.len());
    let ranges = log_ranges(&rule.expr);
    // Attributes are labels without a parser: one somewhere in the rule shows that the lines are what is read.
    let reads_lines = ranges.iter().any(|range| Pipeline::has_parser(&range.log.stages));
    let is_asked = |key: &&String| !is_index_label(key) && !is_of_every_record(key);
    for range in &ranges {
        let log = &range.log;
        let own = &log.stages[..own(log)];
        for key in detect.keys.iter().filter(is_asked) {
            if let Some(warning) = unmade(own, key, detect.kind, reads_lines) {
                found.push(selector_and_stages(log, own), warning);
            }
        }
    }
}

fn selector_and_stages(log: &LogExpr, own: &[Stage]) -> crate::logql::ast::Span {
    let mut span = log.selector.span;
    span.end = own.last().map_or(span.end, |stage| stage.span.end);
    span
}

fn unmade(stages: &[Stage], key: &str, kind: &str, reads_lines: bool) -> Option<Diagnostic> {
    let warning = |message: String, label: String, help: String| {
        Some(Diagnostic::warning(codes::LABEL_NOT_MADE, 0..0, message).label(label).help(help))
    };
    match stages.iter().rev().find_map(|stage| speaks_of(&stage.kind, key)) {
        Some(true) => None,
        None if !reads_lines => None,
        Some(false) => warning(
            format!("no record has the label `{key}` here: a stage takes it away"),
            format!("`{kind}` passes by all"),
            format!("leave `{key}` to the records, or ask for another label"),
        ),
        None => warning(
            format!("no stage makes the label `{key}`: only records with an attribute of that name have it"),
            format!("`{kind}` passes by all others"),
            format!(
                "take it out of the line, `| logfmt` or `| json`; where it is an attribute say so, `| {key}!=\"\"`"
            ),
        ),
    }
}

/// Whether records have the label behind a stage that says something of it; `None` where it leaves that as it was.
fn speaks_of(stage: &StageKind, key: &str) -> Option<bool> {
    let has = match stage {
        StageKind::Json(labels) | StageKind::Logfmt { labels, .. } => {
            labels.is_empty() || labels.iter().any(|label| label.name == key)
        }
        StageKind::Unpack => true,
        StageKind::Regexp(text) => text.text.contains(&format!("<{key}>")),
        StageKind::Pattern(text) => text.text.contains(&format!("<{key}>")),
        StageKind::LabelFormat(formats) => formats.iter().any(|format| format.name == key),
        StageKind::Label(filter) => asks_for(filter, key),
        StageKind::Drop(dropped) => {
            return dropped.iter().any(|one| one.name == key && one.matcher.is_none()).then_some(false);
        }
        StageKind::Keep(kept) => return (!kept.iter().any(|one| one.name == key)).then_some(false),
        StageKind::Line(_) | StageKind::Decolorize | StageKind::LineFormat(_) | StageKind::Unwrap(_) => false,
    };
    has.then_some(true)
}

fn asks_for(filter: &LabelFilter, key: &str) -> bool {
    match filter {
        LabelFilter::String(matcher) => matcher.name == key,
        LabelFilter::Number(filter) => filter.name == key,
        LabelFilter::Duration(filter) => filter.name == key,
        LabelFilter::Bytes(filter) => filter.name == key,
        LabelFilter::Ip { name, .. } => name == key,
        LabelFilter::And(parts) | LabelFilter::Or(parts) => parts.iter().any(|part| asks_for(part, key)),
    }
}
