//! What is wrong with a file that a person wrote: where, why, and what was probably meant.
//!
//! All mistakes of a file are found in one go and shown together. A message is lower case without a full stop, with
//! backticks around what the user wrote.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

pub use codes::Code;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Names the kind of mistake, `WB001`.
    pub code: Code,
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// The file's name as the user gave it; empty while only an expression is looked at.
    pub file: Arc<str>,
    /// Bytes of the file's (or expression's) text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What stands beside the caret; may be empty.
    pub label: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// Whether a mistake keeps a file from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file works, though hardly as it was meant.
    Warning,
}

impl Diagnostic {
    /// A mistake for which the file is refused.
    pub fn error(code: Code, span: impl Into<Range<usize>>, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, span.into(), message.into())
    }

    /// Something that is hardly meant as it stands.
    pub fn warning(code: Code, span: impl Into<Range<usize>>, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, span.into(), message.into())
    }

    fn new(code: Code, severity: Severity, span: Range<usize>, message: String) -> Self {
        Self { code, severity, file: "".into(), span, message, label: String::new(), help: None }
    }

    /// With words beside the caret.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With what to write instead.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With a help that names the candidate nearest to `word`, if one is near.
    pub fn suggest<'a>(self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match closest(word, candidates) {
            Some(candidate) => self.help(format!("did you mean `{candidate}`?")),
            None => self,
        }
    }

    /// Line and column of the first byte in `text`, both from 1; columns are characters.
    pub fn line_column(&self, text: &str) -> (usize, usize) {
        line_column(text, self.span.start)
    }

    /// The same of what stands behind the last byte.
    pub fn end_line_column(&self, text: &str) -> (usize, usize) {
        line_column(text, self.span.end.max(self.span.start))
    }

    /// The mistake as a person reads it: file, line, column, the source line with a caret, help. `text` is the file's.
    pub fn render(&self, text: &str) -> String {
        self.render_with(text, &Renderer::plain())
    }

    /// Like [`render`](Self::render), in a terminal's colours.
    pub fn render_styled(&self, text: &str) -> String {
        self.render_with(text, &Renderer::styled())
    }

    fn render_with(&self, text: &str, renderer: &Renderer) -> String {
        let start = floor_char_boundary(text, self.span.start);
        let end = floor_char_boundary(text, self.span.end).max(start);
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut annotation = AnnotationKind::Primary.span(start..end);
        if !self.label.is_empty() {
            annotation = annotation.label(&self.label);
        }
        let mut snippet = Snippet::source(text).annotation(annotation);
        if !self.file.is_empty() {
            snippet = snippet.path(&*self.file);
        }
        let mut group: Group<'_> = level.primary_title(&self.message).id(self.code.to_string()).element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }
}

/// `file:message`, for logs; people get [`render`](Diagnostic::render).
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}: ", self.file)?;
        }
        write!(f, "[{}] {}", self.code, self.message)
    }
}

impl std::error::Error for Diagnostic {}

/// All mistakes of one file as a person reads them, a blank line between two.
pub fn render_all(diagnostics: &[Diagnostic], text: &str) -> String {
    let rendered: Vec<String> = diagnostics.iter().map(|diagnostic| diagnostic.render(text)).collect();
    rendered.join("\n\n")
}

/// Of the candidates the one that `word` was probably meant to be, if any is near enough: a third of its letters may differ.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near_enough = word.chars().count().div_ceil(3);
    let distances = candidates.into_iter().map(|candidate| (edit_distance(word, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= near_enough).min_by_key(|(distance, _)| *distance).map(|(_, c)| c)
}

/// How many letters must be put in, left out, replaced or swapped with their neighbour; letter case costs nothing.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            row[j + 1] = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

pub(crate) fn line_column(text: &str, at: usize) -> (usize, usize) {
    let at = floor_char_boundary(text, at);
    let line_start = text[..at].rfind('\n').map_or(0, |at| at + 1);
    (text[..at].matches('\n').count() + 1, text[line_start..at].chars().count() + 1)
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The kinds of mistakes. A code is never used again for something else.
pub mod codes {
    use std::fmt;

    /// Written as `WB` and three digits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Code(pub u16);

    impl fmt::Display for Code {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "WB{:03}", self.0)
        }
    }

    macro_rules! codes {
        ($($name:ident = $code:literal, $doc:literal;)*) => {
            $(#[doc = $doc] pub const $name: Code = Code($code);)*

            /// Every code with what it says.
            pub const ALL: &[(Code, &str)] = &[$(($name, $doc)),*];
        };
    }

    codes! {
        YAML = 1, "the file is no YAML that can be read";
        UNKNOWN_FIELD = 2, "a field that does not exist";
        MISSING_FIELD = 3, "a field that must be there is not";
        WRONG_TYPE = 4, "a value of another type is wanted";
        DURATION = 5, "a duration that cannot be read";
        DUPLICATE = 6, "a name that is already taken";
        RULE_KIND = 7, "a rule is either an alert or a recording rule";
        LABEL_NAME = 8, "a name that no label can have";
        FIELD_NOT_ALLOWED = 9, "a field that this kind of rule does not have";
        TEMPLATE = 10, "a template that cannot be read";
        NOT_A_METRIC = 11, "a rule's expression must yield numbers, not log lines";
        VALUE = 12, "a value out of those that are allowed";
        METRIC_NAME = 13, "a name that no series can have";
        UNKNOWN_NAME = 14, "a name that nothing has";
        RECORDS = 15, "records that cannot be read";

        EXPECTATION = 40, "what a test of rules expects did not come";

        CONFIG = 50, "a config file with a value that cannot be used";
        CONFIG_ENVIRONMENT = 51, "a reference to the environment in a config file that cannot be resolved";

        NOT_CONVERTED = 60, "a rule of another system that cannot be carried over";
        LOST = 61, "what is lost of a rule of another system";

        SYNTAX = 101, "something else was expected in a LogQL expression";
        TOKEN = 102, "a word, number or string of a LogQL expression that cannot be read";
        TOO_LONG = 103, "a LogQL expression longer than `expression_bytes_max`";
        TOO_DEEP = 104, "a LogQL expression nested deeper than `nesting_depth_max`";
        UNKNOWN_FUNCTION = 105, "a function that LogQL does not have";
        UNKNOWN_STAGE = 106, "a pipeline stage that LogQL does not have";
        RANGE = 107, "a range aggregation needs a range like `[5m]`";

        MATCHER = 110, "a selector needs a matcher that does not match the empty value";
        REGEX = 111, "a regular expression that cannot be compiled";
        PATTERN = 112, "a pattern that cannot be used";
        UNWRAP_MISSING = 113, "the function works on numbers and needs `| unwrap`";
        UNWRAP = 114, "`| unwrap` where it cannot be used";
        GROUPING = 115, "`by` or `without` where it cannot be used";
        PARAMETER = 116, "a function's parameter is missing, too much or out of range";
        SCALAR_SET = 117, "`and`, `or` and `unless` work on vectors only";
        OPERAND = 118, "an operator works on numbers, not on log lines";
        BOOL = 119, "`bool` belongs to comparisons";
        IP = 120, "no address, range of addresses or CIDR block";
        MATCHING = 121, "`on`, `ignoring`, `group_left` and `group_right` work between vectors only";
        NOT_EVALUATED = 130, "LogQL that is understood but not evaluated yet";

        NOT_INDEX_LABEL = 201, "a selector on what is no index label";
        NO_GROUPING = 202, "a range aggregation that makes a series of every record";
        DUPLICATE_RULE = 203, "two rules that make the same alerts or series";
        NEVER_FIRES = 204, "a condition that never holds";
        ALWAYS_FIRES = 205, "a condition that always holds";
        MATCHES_ALL = 206, "a selector or filter that lets everything pass";
        FOR_TOO_LONG = 207, "a `for` that is longer than what is looked for holds";
        UNANCHORED = 208, "alternatives of a regular expression that find more than was meant";
        LABEL_DROPPED = 209, "a template that asks for a label that the result has not";
        DEAD_GROUP = 210, "a group without rules";
        NO_SEVERITY = 211, "an alert without a severity";
        TEMPLATE_FAILS = 212, "a template that fails";
        LABEL_NOT_MADE = 213, "a label that records must have and no stage makes";
        FOUND_ANYWHERE = 214, "a label filter that holds for more values than its expression says";
        IGNORES_NOTHING = 215, "a comment that is to let a warning pass and does not";
        LOKI = 220, "what Loki refuses";
    }

    /// Whether it warns; the others tell mistakes.
    pub fn is_warning(code: Code) -> bool {
        matches!(code, BOOL | MATCHING) || (201..220).contains(&code.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_shows_its_place_and_help() {
        let text = "groups:\n  - nam: x\n";
        let diagnostic = Diagnostic::error(codes::UNKNOWN_FIELD, 12..15, "unknown field `nam`")
            .label("not a field of a group")
            .suggest("nam", ["name", "interval"]);
        let diagnostic = Diagnostic { file: "rules.yaml".into(), ..diagnostic };
        assert_eq!(diagnostic.line_column(text), (2, 5));
        assert_eq!(
            diagnostic.render(text),
            "error[WB002]: unknown field `nam`\n --> rules.yaml:2:5\n  |\n2 |   - nam: x\n  |     ^^^ not a field of a group\n  |\n  = help: did you mean `name`?"
        );
    }

    #[test]
    fn closest_takes_what_is_near() {
        assert_eq!(closest("count_over_tme", ["rate", "count_over_time"]), Some("count_over_time"));
        assert_eq!(closest("fro", ["for", "expr"]), Some("for"));
        assert_eq!(closest("zzz", ["for", "expr"]), None);
        assert_eq!(closest("", ["for"]), None);
    }

    #[test]
    fn spans_outside_the_text_do_not_panic() {
        let rendered = Diagnostic::error(codes::YAML, 100..200, "x").render("ä");
        assert!(rendered.contains("error[WB001]: x"), "{rendered}");
        Diagnostic::error(codes::YAML, 1..1, "x").render("ä");
    }

    #[test]
    fn codes_are_sorted_and_unique() {
        assert!(codes::ALL.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
