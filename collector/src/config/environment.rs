//! `${env:NAME}` in the config file.
//!
//! A value is put into the scalar that names it after the YAML was read: whatever it holds, it changes nothing of the file's structure.

use std::collections::BTreeSet;
use std::ops::Range;

use watchbell_rules::diagnostic::{Diagnostic, codes};
use watchbell_rules::yaml::{Node, NodeKind};

/// The references of a file.
#[derive(Debug)]
pub struct Environment {
    references: Vec<Reference>,
}

/// A `${env:NAME}` or `${env:NAME:-default}`.
#[derive(Debug)]
struct Reference {
    /// Its bytes in the file.
    span: Range<usize>,
    /// As it is written.
    written: String,
    /// What stands for it while the YAML is read.
    placeholder: String,
    /// Its value, or why it has none.
    value: Result<String, String>,
}

impl Environment {
    /// Finds the references and looks up their values.
    ///
    /// Other uses of `$`, such as a template's `$labels`, are none.
    pub fn of(text: &str, variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut references = Vec::new();
        let mut rest = 0;
        while let Some(at) = text[rest..].find('$').map(|at| rest + at) {
            rest = at + 1;
            if text[rest..].starts_with('$') {
                rest += 1;
            } else if text[at..].starts_with(OPENING) {
                let end = text[at..].find(['}', '\n']).map_or(text.len(), |len| at + len);
                rest = (end + usize::from(text[end..].starts_with('}'))).max(rest);
                references.push(Reference::new(references.len(), text, at..rest, &variable));
            }
        }
        Self { references }
    }

    /// The text with each reference replaced by as many bytes that mean nothing in YAML, so that all places stay as they are.
    pub fn mask(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for Reference { span, placeholder, .. } in &self.references {
            masked.replace_range(span.clone(), placeholder);
        }
        masked
    }

    /// Puts the values into the tree of the masked text, and `$` for `$$`.
    ///
    /// # Errors
    /// A reference that is used has no value, or stands in a key.
    pub fn fill(&self, tree: &mut Node) -> Result<(), Vec<Diagnostic>> {
        let mut wrong = BTreeSet::new();
        self.fill_node(tree, &mut wrong);
        if wrong.is_empty() {
            return Ok(());
        }
        let mistake = |(at, message)| {
            let reference: &Reference = &self.references[at];
            Diagnostic::error(codes::CONFIG_ENVIRONMENT, reference.span.clone(), message)
        };
        Err(wrong.into_iter().map(mistake).collect())
    }

    fn fill_node(&self, node: &mut Node, wrong: &mut BTreeSet<(usize, String)>) {
        match &mut node.kind {
            NodeKind::Null => {}
            NodeKind::Scalar(text) => {
                let filled = self.filled(&text.replace("$$", "$"), wrong);
                let is_nothing = filled.is_empty() && self.references.iter().any(|one| one.span == node.span);
                node.kind = if is_nothing { NodeKind::Null } else { NodeKind::Scalar(filled) };
            }
            NodeKind::Sequence(items) => items.iter_mut().for_each(|item| self.fill_node(item, wrong)),
            NodeKind::Mapping(fields) => {
                for (key, value) in fields {
                    let in_key =
                        self.references.iter().enumerate().filter(|(_, one)| key.name.contains(&one.placeholder));
                    wrong.extend(in_key.map(|(at, _)| (at, "a key cannot come from the environment".to_owned())));
                    self.fill_node(value, wrong);
                }
            }
        }
    }

    fn filled(&self, text: &str, wrong: &mut BTreeSet<(usize, String)>) -> String {
        let mut filled = text.to_owned();
        for (at, reference) in self.references.iter().enumerate().filter(|(_, one)| text.contains(&one.placeholder)) {
            match &reference.value {
                Ok(value) => filled = filled.replace(&reference.placeholder, value),
                Err(why) => drop(wrong.insert((at, why.clone()))),
            }
        }
        filled
    }

    /// A message in which each value, which may be a secret, is the `${...}` of the file again.
    pub fn hide(&self, mut message: String) -> String {
        for Reference { written, placeholder, value, .. } in &self.references {
            message = message.replace(placeholder, written);
            let Ok(value) = value else { continue };
            for quote in ['`', '"', '\''] {
                message = message.replace(&format!("{quote}{value}{quote}"), &format!("{quote}{written}{quote}"));
            }
            if value.len() >= SHOWN_BYTES_MIN {
                message = message.replace(value, written).replace(&value.escape_debug().to_string(), written);
            }
        }
        message
    }
}

impl Reference {
    fn new(at: usize, text: &str, span: Range<usize>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let written = text[span.clone()].to_owned();
        let value = match written.strip_prefix(OPENING).and_then(|rest| rest.strip_suffix('}')) {
            None => Err("`${env:` without its `}`".to_owned()),
            Some(inside) => value_of(inside, variable),
        };
        Self { placeholder: placeholder(at, written.len()), span, written, value }
    }
}

/// As many bytes: a private character of its own, which no file has, and a filling. The shortest reference, `${env:`, has room for both.
fn placeholder(at: usize, bytes: usize) -> String {
    let number = u32::try_from(at).unwrap_or(u32::MAX) % PRIVATE_CHARACTERS;
    let mark = char::from_u32(FIRST_PRIVATE_CHARACTER + number).unwrap_or('\u{100000}');
    format!("{mark}{}", "x".repeat(bytes - mark.len_utf8()))
}

fn value_of(inside: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!("`{name}` is no name of an environment variable"));
    }
    variable(name)
        .or(default.map(str::to_owned))
        .ok_or_else(|| format!("the environment has no `{name}`; a default is written `${{env:{name}:-value}}`"))
}

const OPENING: &str = "${env:";
/// Plane 16, which is for private use.
const FIRST_PRIVATE_CHARACTER: u32 = 0x10_0000;
const PRIVATE_CHARACTERS: u32 = 0xFFFE;
/// A shorter value may be part of any word: it is hidden where it stands in quotes.
const SHOWN_BYTES_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use watchbell_rules::yaml;

    fn value(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("here".to_owned()),
            "LINES" => Some("a\nb: c".to_owned()),
            "HOSTILE" => Some("x}, y: [\"#".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn read(text: &str) -> Result<Vec<NodeKind>, Vec<Diagnostic>> {
        let environment = Environment::of(text, value);
        let masked = environment.mask(text);
        assert_eq!(masked.len(), text.len());
        let mut tree = yaml::parse(&masked).map_err(|mistake| vec![mistake])?;
        environment.fill(&mut tree)?;
        let NodeKind::Mapping(fields) = tree.kind else { panic!("{tree:?}") };
        Ok(fields.into_iter().map(|(_, value)| value.kind).collect())
    }

    #[test]
    fn replaces_what_is_ours_and_nothing_else() {
        for (text, expected) in [
            ("a: ${env:HOME}/x", "here/x"),
            ("a: ${env:NONE:-fallback}", "fallback"),
            ("a: $$5 {{ $labels.x }} ${other}", "$5 {{ $labels.x }} ${other}"),
            ("a: '$${env:HOME}'", "${env:HOME}"),
            ("{a: ${env:HOSTILE}}", "x}, y: [\"#"),
            ("a: \"${env:LINES}\"", "a\nb: c"),
            ("a: ${env:HOME}${env:HOME}", "herehere"),
        ] {
            assert_eq!(read(text).unwrap(), [NodeKind::Scalar(expected.to_owned())], "{text}");
        }
        assert_eq!(read("a: ${env:EMPTY}").unwrap(), [NodeKind::Null]);
        assert_eq!(read("a: '${env:EMPTY}'").unwrap(), [NodeKind::Scalar(String::new())]);
    }

    /// What stands for `${env:}` was seven letters `x`, which other values may hold.
    #[test]
    fn a_mistake_is_told_of_no_other_value() {
        let told = read("a: xxxxxxx\n# ${env:}\n# ${env:\nb: xxxxxx\n").unwrap();
        assert_eq!(told, ["xxxxxxx", "xxxxxx"].map(|text| NodeKind::Scalar(text.to_owned())));
    }

    #[test]
    fn a_comment_asks_for_nothing() {
        assert_eq!(read("# ${env:NONE}\na: b # ${env:NONE\n").unwrap(), [NodeKind::Scalar("b".to_owned())]);
    }

    #[test]
    fn a_value_is_shown_as_it_was_written() {
        let environment = Environment::of("a: ${env:HOME}", value);
        assert_eq!(
            environment.hide("`here` is \"here\", as is here".to_owned()),
            "`${env:HOME}` is \"${env:HOME}\", as is ${env:HOME}"
        );
    }

    #[test]
    fn names_every_mistake_with_its_place() {
        let errors = read("a: ${env:NONE}\nb: x\nc: ${env:}\nd: ${env:HOME\n${env:HOME}: 1\n").unwrap_err();
        let said: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        assert_eq!(errors[0].span, 3..14);
        assert_eq!(
            said,
            [
                "the environment has no `NONE`; a default is written `${env:NONE:-value}`",
                "`` is no name of an environment variable",
                "`${env:` without its `}`",
                "a key cannot come from the environment",
            ]
        );
    }
}
