//! `# watchbell-ignore: WB208 why`: warnings that the file itself lets pass.

use std::ops::Range;

use crate::diagnostic::{Diagnostic, Severity, codes};
use crate::rule_file::RuleFile;

/// What was found in a file without the warnings that comments in it let pass, and with what is wrong with those comments.
///
/// A comment is for the line that it stands on, or for the next one where it stands alone; if a rule or a group begins there, for all of it.
pub fn ignored(file: &str, text: &str, rule_file: &RuleFile, mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut told = Vec::new();
    for Comment { span, codes, places } in comments(text, rule_file) {
        if codes.is_empty() {
            let warning = Diagnostic::warning(codes::IGNORES_NOTHING, span, "the comment names no code");
            told.push(warning.help("write `# watchbell-ignore: WB208 why`"));
        }
        for code in codes {
            let name = text[code.clone()].to_ascii_uppercase();
            let is_meant = |found: &Diagnostic| {
                found.severity == Severity::Warning
                    && found.code.to_string() == name
                    && places.iter().any(|place| place.contains(&found.span.start))
            };
            let before = found.len();
            found.retain(|found| !is_meant(found));
            if found.len() == before {
                told.push(useless(code, &name));
            }
        }
    }
    found.extend(told.into_iter().map(|warning| Diagnostic { file: file.into(), ..warning }));
    found
}

struct Comment {
    span: Range<usize>,
    /// Where each of its codes stands.
    codes: Vec<Range<usize>>,
    /// What it is for.
    places: Vec<Range<usize>>,
}

fn comments(text: &str, rule_file: &RuleFile) -> Vec<Comment> {
    let mut lines = text.split_inclusive('\n').scan(0, |end, line| {
        *end += line.len();
        Some(*end - line.len()..*end)
    });
    let mut comments = Vec::new();
    while let Some(line) = lines.next() {
        // A `#` within a word begins no comment, and what stands in a text is seldom written so.
        let Some((sign, mark)) = text[line.clone()].match_indices('#').find_map(|(at, _)| {
            let mark = text[line.clone()][at + 1..].trim_start();
            Some((line.start + at, mark.strip_prefix(MARK)?))
        }) else {
            continue;
        };
        let is_alone = text[line.start..sign].trim().is_empty();
        let is_content = |line: &Range<usize>| {
            let line = text[line.clone()].trim_start();
            !line.is_empty() && !line.starts_with('#')
        };
        let meant = if is_alone { lines.clone().find(is_content) } else { Some(line) };
        comments.push(Comment {
            span: sign..place_in(text, mark.trim_end()).end,
            codes: codes_of(mark).map(|code| place_in(text, code)).collect(),
            places: meant.map_or(Vec::new(), |line| places(line, text, rule_file)),
        });
    }
    comments
}

/// The codes at the beginning, `WB208, WB209 why`.
fn codes_of(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split([' ', ',']).map(str::trim).filter(|word| !word.is_empty());
    words.take_while(|word| word.to_ascii_uppercase().starts_with("WB"))
}

/// The bytes of a part of the text.
fn place_in(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

/// The line, and the rules and groups that begin on it, each up to what follows it.
fn places(line: Range<usize>, text: &str, rule_file: &RuleFile) -> Vec<Range<usize>> {
    let groups = rule_file.groups.iter().map(|group| group.span.start);
    let tests = rule_file.tests.iter().map(|tests| tests.start).chain([text.len()]);
    let groups: Vec<usize> = groups.chain(tests).collect();
    let rules = rule_file.groups.iter().flat_map(|group| &group.rules).map(|rule| rule.span.start);
    let rules: Vec<usize> = rules.chain(groups.iter().copied()).collect();
    let begun = |starts: &[usize]| -> Vec<Range<usize>> {
        let end = |start| starts.iter().copied().filter(|other| *other > start).min().unwrap_or(text.len());
        starts.iter().filter(|start| line.contains(start)).map(|start| *start..end(*start)).collect()
    };
    [vec![line.clone()], begun(&groups), begun(&rules)].concat()
}

/// A code for which nothing is let pass.
fn useless(place: Range<usize>, name: &str) -> Diagnostic {
    let known = codes::ALL.iter().find(|(code, _)| code.to_string() == name);
    let (message, help) = match known {
        None => (format!("there is no code `{name}`"), "docs/checks.md lists them"),
        Some((code, _)) if !codes::is_warning(*code) => {
            (format!("`{name}` tells a mistake, which cannot be ignored"), "mend it")
        }
        Some(_) => {
            let help = "take the comment out, or write it on the line that is meant, or above it; above a rule it is for all of that";
            (format!("`{name}` is told of nothing here"), help)
        }
    };
    Diagnostic::warning(codes::IGNORES_NOTHING, place, message).help(help)
}

/// What such a comment begins with.
const MARK: &str = "watchbell-ignore:";
