//! `${env:NAME}` in the config file.

use std::ops::Range;

/// What stands wrong in a `${...}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentError {
    /// Bytes of the whole `${...}` in the file's text.
    pub span: Range<usize>,
    /// What is wrong with it.
    pub message: String,
}

/// A file's text with the environment's values in it, which may be secrets: what is shown of it is shown as it was written.
#[derive(Debug)]
pub struct Expanded {
    /// The text to parse.
    pub text: String,
    /// What was replaced, in order: where the value stands in `text`, and the `${...}` in the file.
    replaced: Vec<(Range<usize>, Range<usize>)>,
}

impl Expanded {
    /// Where in the file that place of `text` was written.
    pub fn written(&self, span: Range<usize>) -> Range<usize> {
        let inside = |at: usize| self.replaced.iter().find(|(value, _)| value.contains(&at));
        let shifted = |at: usize| {
            let before = self.replaced.iter().rfind(|(value, _)| value.end <= at);
            before.map_or(at, |(value, reference)| at - value.end + reference.end)
        };
        let start = inside(span.start).map_or_else(|| shifted(span.start), |(_, reference)| reference.start);
        let last = span.end.saturating_sub(1).max(span.start);
        let end = inside(last).map_or_else(|| shifted(last) + span.len().min(1), |(_, reference)| reference.end);
        start..end
    }

    /// A message about `text` in which each value is the `${...}` of the file again.
    pub fn hide(&self, file: &str, mut message: String) -> String {
        for (value, reference) in &self.replaced {
            let (value, reference) = (&self.text[value.clone()], &file[reference.clone()]);
            for quote in ['`', '"', '\''] {
                message = message.replace(&format!("{quote}{value}{quote}"), &format!("{quote}{reference}{quote}"));
            }
            if value.len() >= SHOWN_BYTES_MIN {
                message = message.replace(value, reference).replace(&value.escape_debug().to_string(), reference);
            }
        }
        message
    }
}

/// A shorter value may be part of any word: it is hidden where it stands in quotes.
const SHOWN_BYTES_MIN: usize = 4;

/// Replaces each `${env:NAME}` (or `${env:NAME:-default}`) by the variable's value, and `$$` by `$`.
///
/// Other uses of `$`, such as a template's `$labels`, stay as they are. A value that holds a line break is refused: it would change
/// the structure of the file. For such a secret there is a `*_file` key beside each secret one.
pub fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Expanded, Vec<EnvironmentError>> {
    let mut replaced = Vec::new();
    let mut expanded = String::with_capacity(text.len());
    let mut errors = Vec::new();
    let mut rest = 0;
    while let Some(at) = text[rest..].find('$').map(|at| rest + at) {
        expanded.push_str(&text[rest..at]);
        let (replacement, end) = reference(text, at, &variable);
        match replacement {
            Ok(value) => {
                let start = expanded.len();
                expanded.push_str(&value);
                replaced.push((start..expanded.len(), at..end));
            }
            Err(message) => errors.push(EnvironmentError { span: at..end, message }),
        }
        rest = end;
    }
    expanded.push_str(&text[rest..]);
    if errors.is_empty() { Ok(Expanded { text: expanded, replaced }) } else { Err(errors) }
}

/// The replacement for what stands at the `$` at `at`, and where it ends.
fn reference(text: &str, at: usize, variable: impl Fn(&str) -> Option<String>) -> (Result<String, String>, usize) {
    if text[at..].starts_with("$$") {
        return (Ok("$".to_owned()), at + 2);
    }
    if !text[at..].starts_with("${env:") {
        return (Ok("$".to_owned()), at + 1);
    }
    let Some(end) = text[at..].find('}').map(|length| at + length + 1) else {
        return (Err("`${env:` without its `}`".to_owned()), text.len());
    };
    let inside = &text[at + "${env:".len()..end - 1];
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    (value_of(name, default, variable), end)
}

fn value_of(name: &str, default: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!("`{name}` is no name of an environment variable"));
    }
    let Some(value) = variable(name).or(default.map(str::to_owned)) else {
        return Err(format!("the environment has no `{name}`; a default is written `${{env:{name}:-value}}`"));
    };
    if value.contains(['\n', '\r']) {
        return Err(format!("the value of `{name}` has a line break; put it in a file and use the `*_file` key"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand_with_home(text: &str) -> Result<String, Vec<EnvironmentError>> {
        expand(text, |name| match name {
            "HOME" => Some("here".to_owned()),
            "LINES" => Some("a\nb: c".to_owned()),
            _ => None,
        })
        .map(|expanded| expanded.text)
    }

    #[test]
    fn replaces_what_is_ours_and_nothing_else() {
        assert_eq!(expand_with_home("a: ${env:HOME}/x").unwrap(), "a: here/x");
        assert_eq!(expand_with_home("a: ${env:NONE:-fallback}").unwrap(), "a: fallback");
        assert_eq!(expand_with_home("a: $$5 {{ $labels.x }} ${other}").unwrap(), "a: $5 {{ $labels.x }} ${other}");
    }

    #[test]
    fn a_place_is_shown_as_it_was_written() {
        let file = "a: ${env:LONG} b: $$ ${env:SHORT}c";
        let value = |name: &str| Some(if name == "LONG" { "a much longer value" } else { "s" }.to_owned());
        let expanded = expand(file, value).unwrap();
        assert_eq!(expanded.text, "a: a much longer value b: $ sc");
        let written = |part: &str| {
            let start = expanded.text.find(part).unwrap();
            &file[expanded.written(start..start + part.len())]
        };
        assert_eq!(written("a: "), "a: ");
        assert_eq!(written("much"), "${env:LONG}");
        assert_eq!(written("value b"), "${env:LONG} b");
        assert_eq!((written("$"), written("sc")), ("$$", "${env:SHORT}c"));
        assert_eq!(
            &expanded.text[expanded.text.len()..],
            &file[expanded.written(expanded.text.len()..expanded.text.len())]
        );
        let said = expanded.hide(file, "`s` is no \"a much longer value\", as is a much longer value".to_owned());
        assert_eq!(said, "`${env:SHORT}` is no \"${env:LONG}\", as is ${env:LONG}");
    }

    #[test]
    fn names_every_mistake_with_its_place() {
        let errors = expand_with_home("a: ${env:NONE}\nb: ${env:LINES}\nc: ${env:}\nd: ${env:HOME").unwrap_err();
        let said: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        assert_eq!(errors[0].span, 3..14);
        assert_eq!(
            said,
            [
                "the environment has no `NONE`; a default is written `${env:NONE:-value}`",
                "the value of `LINES` has a line break; put it in a file and use the `*_file` key",
                "`` is no name of an environment variable",
                "`${env:` without its `}`",
            ]
        );
    }
}
