//! `${env:NAME}` in the config file.

/// What stands wrong in a `${...}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentError {
    /// Bytes of the whole `${...}` in the file's text.
    pub span: std::ops::Range<usize>,
    /// What is wrong with it.
    pub message: String,
}

/// Replaces each `${env:NAME}` (or `${env:NAME:-default}`) by the variable's value, and `$$` by `$`.
///
/// Other uses of `$`, such as a template's `$labels`, stay as they are. A value that holds a line break is refused: it would change
/// the structure of the file. For such a secret there is a `*_file` key beside each secret one.
pub fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, Vec<EnvironmentError>> {
    let mut expanded = String::with_capacity(text.len());
    let mut errors = Vec::new();
    let mut rest = 0;
    while let Some(at) = text[rest..].find('$').map(|at| rest + at) {
        expanded.push_str(&text[rest..at]);
        let (replacement, end) = reference(text, at, &variable);
        match replacement {
            Ok(value) => expanded.push_str(&value),
            Err(message) => errors.push(EnvironmentError { span: at..end, message }),
        }
        rest = end;
    }
    expanded.push_str(&text[rest..]);
    if errors.is_empty() { Ok(expanded) } else { Err(errors) }
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
    }

    #[test]
    fn replaces_what_is_ours_and_nothing_else() {
        assert_eq!(expand_with_home("a: ${env:HOME}/x").unwrap(), "a: here/x");
        assert_eq!(expand_with_home("a: ${env:NONE:-fallback}").unwrap(), "a: fallback");
        assert_eq!(expand_with_home("a: $$5 {{ $labels.x }} ${other}").unwrap(), "a: $5 {{ $labels.x }} ${other}");
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
