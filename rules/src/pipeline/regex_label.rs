//! `| label =~ "regex"` as Loki takes it: not always as a match of the whole value.
//!
//! Loki replaces an expression by plain comparisons where its shape allows that, and loses the anchors on the way: `5.*` holds for
//! every value with a 5 in it, and `warn|warning`, which Go's parser reads as `warn(?:|ing)`, for every value with `warn` in it.
//! `a|b`, `5..` and whatever else cannot be replaced match the whole value.

use memchr::memmem;
use regex_syntax::ast::{self, Ast};

use crate::logql::regexp::{self, Regexp};

/// A compiled expression.
#[derive(Debug)]
pub(super) enum RegexLabel {
    /// Any value.
    Any,
    /// Any value but the empty one.
    NotEmpty,
    /// One of these.
    Texts(Vec<Text>),
    /// The whole value.
    Regex(Regexp),
}

/// A text that a value is compared with.
#[derive(Debug)]
pub(super) struct Text {
    /// In lower case where case does not matter.
    text: String,
    ignores_case: bool,
    /// Whether it is the whole value.
    is_whole: bool,
}

impl RegexLabel {
    pub(super) fn compile(expression: &str) -> Result<Self, regexp::Error> {
        let (parsed, _) = regexp::parse(&regexp::translate(expression)?)?;
        match simplified(&node(&parsed, &mut false)) {
            Some(simplified) => Ok(simplified),
            None => Ok(Self::Regex(regexp::compile_whole(expression)?)),
        }
    }

    /// The comparisons that Loki replaces an expression by that is looked for in lines; `None` where it does not.
    pub(super) fn compile_for_lines(expression: &str) -> Result<Option<Self>, regexp::Error> {
        let (parsed, _) = regexp::parse(&regexp::translate(expression)?)?;
        let mut simplified = simplified(&node(&parsed, &mut false));
        if let Some(Self::Texts(texts)) = &mut simplified {
            texts.iter_mut().for_each(|text| text.is_whole = false);
        }
        Ok(simplified)
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::NotEmpty => !value.is_empty(),
            Self::Texts(texts) => texts.iter().any(|text| text.matches(value)),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// A text that makes the expression hold wherever a value has it, though it would not if it were for the whole value.
pub(crate) fn found_anywhere(expression: &str) -> Option<String> {
    let RegexLabel::Texts(texts) = RegexLabel::compile(expression).ok()? else { return None };
    let whole = regexp::compile_whole(expression).ok()?;
    let is_stray = |text: &Text| !text.is_whole && !whole.is_match(&format!("\u{1}{}\u{1}", text.text));
    texts.into_iter().find(is_stray).map(|text| text.text)
}

impl Text {
    fn matches(&self, value: &str) -> bool {
        match (self.is_whole, self.ignores_case) {
            (true, false) => self.text == value,
            (true, true) => self.text == value.to_lowercase(),
            (false, false) => memmem::find(value.as_bytes(), self.text.as_bytes()).is_some(),
            (false, true) => value.to_lowercase().contains(&self.text),
        }
    }
}

/// An expression as Go's parser sees it, as far as it can be replaced.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Empty,
    Literal {
        text: String,
        ignores_case: bool,
    },
    /// `.*`
    AnyStar,
    /// `.+`
    AnyPlus,
    Capture(Box<Node>),
    Concat(Vec<Node>),
    Alternate(Vec<Node>),
    Other,
}

fn node(parsed: &Ast, ignores_case: &mut bool) -> Node {
    match parsed {
        Ast::Empty(_) => Node::Empty,
        Ast::Flags(flags) => {
            *ignores_case = flags.flags.flag_state(ast::Flag::CaseInsensitive).unwrap_or(*ignores_case);
            let is_case = |item: &ast::FlagsItem| {
                matches!(item.kind, ast::FlagsItemKind::Negation | ast::FlagsItemKind::Flag(ast::Flag::CaseInsensitive))
            };
            if flags.flags.items.iter().all(is_case) { Node::Empty } else { Node::Other }
        }
        Ast::Literal(literal) if *ignores_case => {
            Node::Literal { text: literal.c.to_lowercase().to_string(), ignores_case: true }
        }
        Ast::Literal(literal) => Node::Literal { text: literal.c.to_string(), ignores_case: false },
        Ast::Repetition(repetition) if matches!(*repetition.ast, Ast::Dot(_)) => match repetition.op.kind {
            ast::RepetitionKind::ZeroOrMore => Node::AnyStar,
            ast::RepetitionKind::OneOrMore => Node::AnyPlus,
            _ => Node::Other,
        },
        Ast::Group(group) => {
            let mut inside = *ignores_case;
            match &group.kind {
                ast::GroupKind::NonCapturing(flags) if flags.items.is_empty() => node(&group.ast, &mut inside),
                ast::GroupKind::NonCapturing(_) => Node::Other,
                _ => Node::Capture(Box::new(node(&group.ast, &mut inside))),
            }
        }
        Ast::Concat(concat) => concatenated(concat.asts.iter().map(|part| node(part, ignores_case)).collect()),
        Ast::Alternation(alternation) => {
            factored(alternation.asts.iter().map(|branch| node(branch, ignores_case)).collect())
        }
        _ => Node::Other,
    }
}

/// Literals side by side are one; what is empty is left out.
fn concatenated(parts: Vec<Node>) -> Node {
    let mut joined: Vec<Node> = Vec::new();
    for part in parts {
        match (joined.last_mut(), part) {
            (_, Node::Empty) => {}
            (
                Some(Node::Literal { text, ignores_case }),
                Node::Literal { text: more, ignores_case: more_ignores_case },
            ) if *ignores_case == more_ignores_case => text.push_str(&more),
            (_, Node::Concat(parts)) => joined.extend(parts),
            (_, part) => joined.push(part),
        }
    }
    match joined.len() {
        0 => Node::Empty,
        1 => joined.remove(0),
        _ => Node::Concat(joined),
    }
}

/// Branches side by side that begin with the same text are one, as Go's parser makes them; so are single characters.
fn factored(branches: Vec<Node>) -> Node {
    let mut factored: Vec<Node> = Vec::new();
    let mut rest = branches.as_slice();
    while let Some(first) = rest.first() {
        let mut prefix = leading(first);
        let mut count = 1;
        for branch in &rest[1..] {
            let common = common_prefix(&prefix, &leading(branch));
            if common.0.is_empty() {
                break;
            }
            prefix = common;
            count += 1;
        }
        if count == 1 {
            factored.push(first.clone());
        } else {
            let text = Node::Literal { text: prefix.0.clone(), ignores_case: prefix.1 };
            let tails = rest[..count].iter().map(|branch| without_prefix(branch, prefix.0.len())).collect();
            factored.push(concatenated(vec![text, self::factored(tails)]));
        }
        rest = &rest[count..];
    }
    merge_characters(&mut factored);
    if factored.len() == 1 { factored.remove(0) } else { Node::Alternate(factored) }
}

/// Single characters side by side become a class, empty branches side by side one.
fn merge_characters(branches: &mut Vec<Node>) {
    let is_character = |node: &Node| matches!(node, Node::Literal { text, .. } if text.chars().count() == 1);
    let mut merged: Vec<Node> = Vec::new();
    for (at, branch) in branches.iter().enumerate() {
        let is_run = is_character(branch)
            && (at.checked_sub(1).is_some_and(|before| is_character(&branches[before]))
                || branches.get(at + 1).is_some_and(is_character));
        let branch = if is_run { Node::Other } else { branch.clone() };
        let repeats = (branch == Node::Empty || is_run) && merged.last() == Some(&branch);
        if !repeats {
            merged.push(branch);
        }
    }
    *branches = merged;
}

fn leading(node: &Node) -> (String, bool) {
    match node {
        Node::Literal { text, ignores_case } => (text.clone(), *ignores_case),
        Node::Concat(parts) => leading(&parts[0]),
        _ => (String::new(), false),
    }
}

fn common_prefix(a: &(String, bool), b: &(String, bool)) -> (String, bool) {
    let same = a.0.chars().zip(b.0.chars()).take_while(|(x, y)| a.1 == b.1 && x == y);
    (same.map(|(c, _)| c).collect(), a.1)
}

fn without_prefix(node: &Node, len: usize) -> Node {
    match node {
        Node::Literal { text, .. } if text.len() == len => Node::Empty,
        Node::Literal { text, ignores_case } => {
            Node::Literal { text: text[len..].to_owned(), ignores_case: *ignores_case }
        }
        Node::Concat(parts) => {
            let first = without_prefix(&parts[0], len);
            concatenated(std::iter::once(first).chain(parts[1..].iter().cloned()).collect())
        }
        other => other.clone(),
    }
}

/// The comparisons that replace an expression; `None` where there are none.
fn simplified(node: &Node) -> Option<RegexLabel> {
    match node {
        Node::Empty | Node::AnyStar => Some(RegexLabel::Any),
        Node::AnyPlus => Some(RegexLabel::NotEmpty),
        Node::Literal { text, ignores_case } => {
            Some(RegexLabel::Texts(vec![Text { text: text.clone(), ignores_case: *ignores_case, is_whole: true }]))
        }
        Node::Capture(inside) => simplified(inside),
        Node::Concat(parts) => concat_texts(parts, None).map(RegexLabel::Texts),
        Node::Alternate(branches) => {
            let branches: Option<Vec<RegexLabel>> =
                branches.iter().map(|branch| simplified(without_capture(branch))).collect();
            branches.and_then(either)
        }
        Node::Other => None,
    }
}

/// A branch that lets every value pass is left out, as in Loki.
fn either(branches: Vec<RegexLabel>) -> Option<RegexLabel> {
    let mut texts = Vec::new();
    for branch in branches {
        match branch {
            RegexLabel::Texts(more) => texts.extend(more),
            RegexLabel::Any => {}
            RegexLabel::NotEmpty | RegexLabel::Regex(_) => return None,
        }
    }
    Some(if texts.is_empty() { RegexLabel::Any } else { RegexLabel::Texts(texts) })
}

fn without_capture(node: &Node) -> &Node {
    if let Node::Capture(inside) = node { inside } else { node }
}

type Prefix<'p> = Option<(&'p str, bool)>;

/// One text with `.*` around it, or with branches behind it: the value holds it.
fn concat_texts(parts: &[Node], before: Prefix<'_>) -> Option<Vec<Text>> {
    if parts.len() > 3 {
        return None;
    }
    let mut literal = before.map(|(text, ignores_case)| (text.to_owned(), ignores_case));
    let (mut has_own, mut texts) = (false, Vec::new());
    for part in parts.iter().map(without_capture) {
        match (part, &mut literal) {
            (Node::Literal { text, ignores_case }, literal) if !has_own => {
                has_own = true;
                let joined = literal.take().map_or(String::new(), |(text, _)| text) + text;
                *literal = Some((joined, *ignores_case));
            }
            (Node::Alternate(branches), Some((text, ignores_case))) => {
                for branch in branches {
                    texts.extend(branch_texts(branch, text, *ignores_case)?);
                }
            }
            (Node::AnyStar, _) => {}
            _ => return None,
        }
    }
    match literal {
        Some((text, ignores_case)) if texts.is_empty() => Some(vec![held(text, ignores_case)]),
        Some(_) => Some(texts),
        None => None,
    }
}

fn branch_texts(branch: &Node, before: &str, ignores_case: bool) -> Option<Vec<Text>> {
    match branch {
        Node::Empty | Node::AnyStar => Some(vec![held(before.to_owned(), ignores_case)]),
        Node::Literal { ignores_case: true, .. } if !ignores_case => None,
        Node::Literal { text, .. } => Some(vec![held(format!("{before}{text}"), ignores_case)]),
        Node::Concat(parts) => concat_texts(parts, Some((before, ignores_case))),
        _ => None,
    }
}

fn held(text: String, ignores_case: bool) -> Text {
    Text { text: if ignores_case { text.to_lowercase() } else { text }, ignores_case, is_whole: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as Loki was seen to answer.
    #[test]
    fn expressions_hold_where_they_do_in_loki() {
        for (expression, matching, other) in [
            ("5.*", "150", "40"),
            (".*5", "500", "40"),
            ("5..", "500", "1500"),
            ("GET|GETX", "xGETx", "get"),
            ("GET|POST", "GET", "GETX"),
            ("(?i)get", "GET", "GETX"),
            ("warn|warning", "warned", "war"),
            ("info(1|2)", "info1", "xinfo1"),
            ("foo(?:bar|qux)", "xfoobar", "foo"),
            ("(a|b)c", "ac", "xac"),
            (".+", "x", ""),
            ("", "x", "\u{0}never"),
            ("a.c", "abc", "a\nc"),
            ("[0-9]+", "12", "x12"),
        ] {
            let regex = RegexLabel::compile(expression).unwrap();
            assert!(regex.matches(matching), "{expression} {matching}");
            assert!(!regex.matches(other) || other.ends_with("never"), "{expression} {other}");
        }
    }
}
