//! Secrets that a text names itself: `password=hunter2`, `"password": "hunter2"`, `https://ada:hunter2@example.com`.

use std::ops::Range;

use super::{Fate, REDACTED, is_folder, is_hash};

/// Most bytes of a name (64); of a longer one the end alone counts.
const NAME_BYTES_MAX: usize = 64;

/// The first value in the text whose name has a fate. The time it takes grows with the text's length alone: each byte is looked at a limited number of times.
pub(super) fn find(text: &str, fate: impl Fn(&str) -> Option<Fate>) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut passed = 0;
    while let Some(at) = bytes[passed..].iter().position(|byte| matches!(byte, b'=' | b':')).map(|at| passed + at) {
        passed = at + 1;
        let name = name_before(text, at);
        if !name.is_empty()
            && bytes.get(at + 1) != Some(&b':')
            && let Some(fate) = fate(name)
            && let Some(value) = value_behind(text, at)
            && !(fate == Fate::MaskedButPath && is_folder(&text[value.clone()]))
        {
            return Some(value);
        }
    }
    None
}

/// What stands before the mark, perhaps in quotes: `password` of `\"password\" :`, `user[password]=` and `password=`; empty if that is no name.
fn name_before(text: &str, mark: usize) -> &str {
    let blanks = |byte: &u8| matches!(byte, b' ' | b'\t');
    let before = &text.as_bytes()[mark.saturating_sub(2 * NAME_BYTES_MAX)..mark];
    let back = |from: usize, is_part: &dyn Fn(&u8) -> bool, max: usize| {
        from - before[..from].iter().rev().take(max).take_while(|byte| is_part(byte)).count()
    };
    let end = back(before.len(), &blanks, 8);
    let end = back(end, &|byte| matches!(byte, b'"' | b'\'' | b'\\' | b']'), 8);
    let start = back(end, &|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte), NAME_BYTES_MAX);
    let name = str::from_utf8(&before[start..end]).unwrap_or_default(); // ASCII alone
    if name.bytes().any(|byte| byte.is_ascii_alphabetic()) { name } else { "" }
}

/// Where the value is that begins behind the mark; `None` if there is none, or it says no more than whether there is a secret.
fn value_behind(text: &str, mark: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let is_blank = |at: usize| bytes.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    let mut start = if bytes[mark..].starts_with(b"=>") { mark + 2 } else { mark + 1 };
    let may_have_blanks = bytes[mark] == b':' || start == mark + 2 || (mark > 0 && is_blank(mark - 1));
    while may_have_blanks && is_blank(start) {
        start += 1;
    }
    let slashes = bytes[start..].iter().take_while(|byte| **byte == b'\\').count();
    let value = match bytes.get(start + slashes)? {
        quote @ (b'"' | b'\'') => quoted(bytes, start + slashes + 1, slashes, *quote),
        _ => start..bare_end(bytes, start),
    };
    let shown = &text[value.clone()];
    let says_nothing = matches!(shown, "" | "None" | "null" | "nil" | "true" | "false") || is_hidden(shown);
    (!says_nothing).then_some(value)
}

/// What stands between quotes, of which each has so many backslashes before it; to the end of the text if they are not closed.
fn quoted(bytes: &[u8], start: usize, slashes: usize, quote: u8) -> Range<usize> {
    let mut before = 0;
    for (i, byte) in bytes[start..].iter().enumerate() {
        if *byte == quote && before <= slashes {
            return start..start + i - before;
        }
        before = if *byte == b'\\' { before + 1 } else { 0 };
    }
    start..bytes.len()
}

/// The end of a value without quotes: a word, what is in brackets with what stands before these, or `Basic` and the like with the word behind it.
fn bare_end(bytes: &[u8], start: usize) -> usize {
    let word_end = |from: usize| {
        let is_part = |byte: &&u8| !byte.is_ascii_whitespace() && !b"\"'&,;()[]{}\\".contains(byte);
        from + bytes[from..].iter().take_while(is_part).count()
    };
    let hidden_end = |from: usize| bytes[from..].starts_with(REDACTED.as_bytes()).then_some(from + REDACTED.len());
    if let Some(end) = hidden_end(start) {
        return end;
    }
    let end = word_end(start);
    match bytes.get(end) {
        Some(b'(' | b'[' | b'{') => bracket_end(bytes, end),
        Some(b' ') if SCHEMES.iter().any(|scheme| bytes[start..end].eq_ignore_ascii_case(scheme)) => {
            hidden_end(end + 1).unwrap_or_else(|| word_end(end + 1))
        }
        _ => end,
    }
}

/// What stands before a secret in a header.
const SCHEMES: [&[u8]; 4] = [b"Bearer", b"Basic", b"Token", b"Digest"];

/// Behind the bracket that closes this one; brackets in quotes are none.
fn bracket_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut is_quoted, mut is_escaped) = (0_usize, false, false);
    for (i, byte) in bytes[start..].iter().enumerate() {
        match byte {
            b'"' if !is_escaped => is_quoted = !is_quoted,
            b'(' | b'[' | b'{' if !is_quoted => depth += 1,
            b')' | b']' | b'}' if !is_quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return start + i + 1;
        }
        is_escaped = *byte == b'\\' && !is_escaped;
    }
    bytes.len()
}

fn is_hidden(value: &str) -> bool {
    let value = SCHEMES
        .iter()
        .find_map(|scheme| {
            let (first, rest) = value.split_once(' ')?;
            first.as_bytes().eq_ignore_ascii_case(scheme).then_some(rest)
        })
        .unwrap_or(value);
    value == REDACTED || is_hash(value)
}

/// The password of the first address that has one: `hunter2` of `postgres://ada:hunter2@db/shop`.
pub(super) fn password_of_an_address(text: &str) -> Option<Range<usize>> {
    text.match_indices("://").find_map(|(at, mark)| {
        let start = at + mark.len();
        let is_end = |c: char| c.is_whitespace() || "/?#\"'<>\\".contains(c);
        let authority = text[start..].split(is_end).next().unwrap_or_default();
        let (user, _) = authority.rsplit_once('@')?;
        let (name, password) = user.split_once(':')?;
        let start = start + name.len() + 1;
        (!password.is_empty() && password != REDACTED).then_some(start..start + password.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_names() {
        let is_secret = |name: &str| matches!(name.rsplit('.').next(), Some("password" | "token" | "Authorization"));
        let fate = |name: &str| match name {
            "pwd" => Some(Fate::MaskedButPath),
            _ => is_secret(name).then_some(Fate::Masked),
        };
        for (text, expected) in [
            ("password=hunter2", "password=_"),
            ("a=1 password=hunter2, b", "a=1 password=_, b"),
            ("password = hunter2", "password = _"),
            ("password= next=3", "password= next=3"),
            ("GET /x?token=abc&n=1", "GET /x?token=_&n=1"),
            ("user[password]=hunter2&n=1", "user[password]=_&n=1"),
            ("Server=x;password=hunter2;n=1", "Server=x;password=_;n=1"),
            (r#"{"password":"hunter2","n":1}"#, r#"{"password":"_","n":1}"#),
            (r#"{"password" : "a\"b"}"#, r#"{"password" : "_"}"#),
            (r#"{"password":1234}"#, r#"{"password":_}"#),
            (r#"body: "{\"password\":\"hunter2\",\"n\":1}""#, r#"body: "{\"password\":\"_\",\"n\":1}""#),
            (r#"Login { name: "ada", db.password: "hunter2" }"#, r#"Login { name: "ada", db.password: "_" }"#),
            (r#"password: Some("hun)ter2"), n: 1"#, "password: _, n: 1"),
            (r#"token: ["a", "b"], n: 1"#, "token: _, n: 1"),
            (r#"{"token" => "abc"}"#, r#"{"token" => "_"}"#),
            ("Authorization: Basic abc\nHost: x", "Authorization: _\nHost: x"),
            ("password: it is", "password: _ is"),
            (r#"password="cut of"#, r#"password="_"#),
            ("password: é token=ü", "password: _ token=_"),
            ("token::new password::x", "token::new password::x"),
            ("password: None, token: true, password=", "password: None, token: true, password="),
            (
                "password=[redacted], Authorization: Bearer [redacted]",
                "password=[redacted], Authorization: Bearer [redacted]",
            ),
            ("pwd=/srv/ada pwd=hunter2", "pwd=/srv/ada pwd=_"),
            ("12:30:45 spassword=x", "12:30:45 spassword=x"),
        ] {
            let (mut out, mut rest) = (String::new(), text);
            while let Some(Range { start, end }) = find(rest, fate) {
                out = out + &rest[..start] + "_";
                rest = &rest[end..];
            }
            assert_eq!(out + rest, expected, "{text}");
        }
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("at postgres://ada:hunter2@db/shop", Some("hunter2")),
            ("redis://:p@ss@cache:6379", Some("p@ss")),
            ("https://ada@example.com:8080/a:b@c", None),
            ("https://example.com:8080/", None),
            ("http://x/ https://a:b@c", Some("b")),
            ("https://a:[redacted]@c", None),
        ] {
            assert_eq!(password_of_an_address(text).map(|range| &text[range]), expected, "{text}");
        }
    }
}
