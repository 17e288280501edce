//! Writes rule files.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Conversion, Group, Rule, Sequence};
use crate::time::format_duration;

impl Conversion {
    /// The rules as a rule file; what was lost of each stands above it.
    pub fn rule_file(&self) -> String {
        file(&self.groups)
    }
}

/// The groups as a rule file.
pub(super) fn file(groups: &[Group]) -> String {
    let groups: Vec<&Group> = groups.iter().filter(|group| !group.rules.is_empty()).collect();
    if groups.is_empty() {
        return "groups: []\n".to_owned();
    }
    let mut out = "groups:\n".to_owned();
    for group in groups {
        let _ = writeln!(out, "  - name: {}", scalar(&group.name));
        if let Some(interval) = group.interval {
            let _ = writeln!(out, "    interval: {}", format_duration(interval));
        }
        out.push_str("    rules:\n");
        group.rules.iter().for_each(|rule| put_rule(rule, &mut out));
    }
    out
}

fn put_rule(rule: &Rule, out: &mut String) {
    for lost in &rule.lost {
        let _ = writeln!(out, "      # lost: {}", lost.replace(char::is_control, " "));
    }
    let kind = if rule.is_record { "record" } else { "alert" };
    let _ = writeln!(out, "      - {kind}: {}", scalar(&rule.name));
    match &rule.sequence {
        None => _ = writeln!(out, "        expr: {}", scalar(&rule.expr)),
        Some(sequence) => put_sequence(sequence, out),
    }
    for (name, duration) in [("for", rule.hold), ("keep_firing_for", rule.keep_firing_for)] {
        if duration > Duration::ZERO {
            let _ = writeln!(out, "        {name}: {}", format_duration(duration));
        }
    }
    put_texts("labels", &rule.labels, out);
    put_texts("annotations", &rule.annotations, out);
}

fn put_sequence(sequence: &Sequence, out: &mut String) {
    let by: Vec<String> = sequence.by.iter().map(|name| scalar(name)).collect();
    out.push_str("        detect:\n          sequence:\n");
    for (name, records) in [("first", &sequence.first), ("then", &sequence.then)] {
        let _ = writeln!(out, "            {name}: {}", scalar(records));
    }
    let _ = writeln!(out, "            by: [{}]", by.join(", "));
    let _ = writeln!(out, "            within: {}", format_duration(sequence.within));
}

fn put_texts(name: &str, texts: &[(String, String)], out: &mut String) {
    if !texts.is_empty() {
        let _ = writeln!(out, "        {name}:");
    }
    for (name, text) in texts {
        let _ = writeln!(out, "          {}: {}", scalar(name), scalar(text));
    }
}

/// A text as YAML reads it back: plain where that is plainly a text, else in quotes.
fn scalar(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-./ ()".contains(c);
    let is_text = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_word);
    let is_taken =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    if is_text && !is_taken && !text.ends_with(' ') {
        return text.to_owned();
    }
    if text.chars().any(|c| c.is_control() || c > '\u{d7ff}') {
        return serde_json::to_string(text).expect("a text is JSON");
    }
    format!("'{}'", text.replace('\'', "''"))
}
