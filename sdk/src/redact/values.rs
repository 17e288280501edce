//! What secrets look like.

use std::ops::Range;

#[cfg(doc)]
use super::Redaction;
use super::{assignments, found_by};

/// Kinds of secrets that can be told by their looks.
///
/// ```
/// use watchbell::redact::{Redaction, Values};
///
/// let redaction = Redaction::usual().values(Values::Emails);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Values {
    /// Numbers of payment cards: 13 to 19 digits, perhaps with blanks or dashes between, whose check digit (Luhn's) is right. Of fields that
    /// are numbers those of 15 and 16 digits.
    Cards,
    /// What follows `Bearer` or `Basic` in a header, and `Token` where it is no plain word; behind blanks, a line's end, a colon or `%20`.
    BearerTokens,
    /// Keys that begin as known providers' do (AWS, GitHub, GitLab, Slack, Stripe, Google, OpenAI, Vault, SendGrid, Shopify, Docker and others), JSON web tokens, private keys in PEM.
    ProviderKeys,
    /// What a text names itself by one of the [keys](crate::redact::Redaction::key) that are masked, hashed or dropped: `password=hunter2`, `"password":"hunter2"`, `password: "hunter2"`
    /// (as `Debug` writes it), `?access_token=hunter2`; and passwords in addresses, `https://ada:hunter2@example.com`. The value is `[redacted]` whatever
    /// becomes of a field of that name; behind `password: ` it is one word, what is in quotes, or what is in brackets.
    Assignments,
    /// Addresses of mail. Not among the usual, since many services name their users by it.
    Emails,
}

impl Values {
    /// Finds all that are in a text. Whoever sends it chooses it: no part of it is looked at more than a few times.
    pub(super) fn finder(self) -> fn(&str) -> Vec<Range<usize>> {
        match self {
            Self::Cards => |text| found_by(&card, text).collect(),
            Self::BearerTokens => |text| found_by(&bearer_token, text).collect(),
            Self::ProviderKeys => |text| [provider_keys(text), web_tokens(text), private_keys(text)].concat(),
            Self::Assignments => |text| found_by(&assignments::password_of_an_address, text).collect(), // names are looked for by the keys
            Self::Emails => |text| found_by(&email, text).collect(),
        }
    }

    /// The numbers that may be one. Those of today's cards have 15 or 16 digits: with fewer or more, one in ten of all that begin as a card's does is
    /// taken for one, and those are sizes in bytes, and ids.
    pub(super) fn numbers(self) -> Range<f64> {
        if self == Self::Cards { 1e14..1e16 } else { 0.0..0.0 }
    }
}

fn card(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let is_first = bytes[start].is_ascii_digit() && (start == 0 || !bytes[start - 1].is_ascii_digit());
        if is_first && let Some(end) = card_end(&bytes[start..]) {
            return Some(start..start + end);
        }
        start += 1;
    }
    None
}

/// The end of the card's number that begins here: the longest, in one of the ways in which these are written.
fn card_end(bytes: &[u8]) -> Option<usize> {
    let is_issuer = match bytes {
        [b'3'..=b'6', ..] => true,
        [b'2', b'2'..=b'7', ..] => true,
        _ => false, // what begins so is a date, a count, a time
    };
    if !is_issuer {
        return None;
    }
    let (mut groups, mut digits, mut found) = (Vec::new(), Vec::new(), None);
    let mut rest = bytes;
    loop {
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        groups.push(len);
        digits.extend(rest[..len].iter().map(|byte| byte - b'0'));
        rest = &rest[len..];
        if is_card_shape(&groups) && is_luhn(&digits) {
            found = Some(bytes.len() - rest.len());
        }
        let mark = bytes[groups[0]..].first();
        let goes_on = matches!(rest, [b' ' | b'-', b'0'..=b'9', ..]) && rest.first() == mark && digits.len() < 19;
        if !goes_on {
            return found;
        }
        rest = &rest[1..];
    }
}

/// Whether cards are written in groups of so many digits.
fn is_card_shape(groups: &[usize]) -> bool {
    matches!(groups, [13..=19] | [4, 4, 4, 1..=7] | [4, 4, 4, 4, 3] | [4, 6, 4 | 5])
}

fn is_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, digit)| {
            let value = u32::from(*digit) * if i % 2 == 1 { 2 } else { 1 };
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

fn bearer_token(text: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let starts = (0..bytes.len()).filter(|at| matches!(bytes[*at], b'b' | b'B' | b't' | b'T'));
    starts.into_iter().find_map(|at| {
        let scheme = ["bearer", "basic", "token"].into_iter().find(|scheme| {
            bytes[at..].get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme.as_bytes()))
        })?;
        let gap = gap_len(&text[at + scheme.len()..])?;
        let start = at + scheme.len() + gap;
        let len = token_len(&bytes[start..], |byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
        let is_word = || text[start + 1..start + len].bytes().all(|byte| byte.is_ascii_lowercase());
        (len >= BEARER_BYTES_MIN && (scheme != "token" || !is_word())).then_some(start..start + len)
    })
}

/// Bytes of the blanks, line ends, `%20` and the one colon between a scheme and its token.
fn gap_len(text: &str) -> Option<usize> {
    let mut rest = text.strip_prefix(':').unwrap_or(text);
    loop {
        let next = rest.trim_start();
        let next = next.strip_prefix("%20").unwrap_or(next);
        if next.len() == rest.len() {
            break;
        }
        rest = next;
    }
    Some(text.len() - rest.len()).filter(|len| *len > 0)
}

/// Least bytes of a token behind `Bearer` (8): words of a sentence are shorter, mostly.
const BEARER_BYTES_MIN: usize = 8;

/// How such a key begins, and of how many bytes what follows is at least.
const PREFIXES: [(&str, usize); 30] = [
    ("AKIA", 16),
    ("ASIA", 16),
    ("ghp_", 30),
    ("gho_", 30),
    ("ghs_", 30),
    ("ghu_", 30),
    ("ghr_", 30),
    ("github_pat_", 30),
    ("glpat-", 20),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("xoxa-", 20),
    ("xoxe.", 20),
    ("xapp-", 20),
    ("sk_live_", 16),
    ("rk_live_", 16),
    ("sk_test_", 16),
    ("rk_test_", 16),
    ("whsec_", 20),
    ("sk-", 20),
    ("AIza", 35),
    ("ya29.", 30),
    ("SG.", 50),
    ("hvs.", 20),
    ("shpat_", 30),
    ("dckr_pat_", 20),
    ("npm_", 30),
    ("pypi-", 30),
    ("hf_", 30),
    ("dop_v1_", 30),
];

fn provider_keys(text: &str) -> Vec<Range<usize>> {
    let (bytes, mut found, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let is_within_a_word = at > 0 && bytes[at - 1].is_ascii_alphanumeric();
        let len = if is_within_a_word { None } else { key_len(&bytes[at..]) };
        found.extend(len.map(|len| at..at + len));
        at += len.unwrap_or(1);
    }
    found
}

/// Bytes of the key that begins here, if one does.
fn key_len(bytes: &[u8]) -> Option<usize> {
    let begins = |(prefix, _): &&(&str, usize)| bytes.starts_with(prefix.as_bytes());
    let (prefix, len_min) = PREFIXES.iter().find(begins)?;
    let marks: &[u8] = match *prefix {
        "whsec_" => b"_-+/=",
        prefix if prefix.ends_with('.') => b"_-.", // of parts with points between
        _ => b"_-",
    };
    let len = token_len(&bytes[prefix.len()..], |byte| byte.is_ascii_alphanumeric() || marks.contains(&byte));
    (len >= *len_min).then_some(prefix.len() + len)
}

/// Three parts of base64 with points between, of which the first begins with `{"`.
fn web_tokens(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some(start) = text[from..].find("eyJ").map(|at| from + at) {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let end = start + token_len(&text.as_bytes()[start..], is_part);
        // Whatever the run has before its last three parts, the token is of these.
        let first = text[start..end].rsplit('.').filter(|part| !part.is_empty()).nth(2);
        let token = first.and_then(|first| Some(first.as_ptr() as usize - text.as_ptr() as usize + first.find("eyJ")?));
        found.extend(token.filter(|token| end - token >= WEB_TOKEN_BYTES_MIN).map(|token| token..end));
        from = end;
    }
    found
}

/// Least bytes of a JSON web token (30).
const WEB_TOKEN_BYTES_MIN: usize = 30;

fn private_keys(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some(start) = text[from..].find("-----BEGIN ").map(|at| from + at) {
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        if !text[start..line_end].contains("PRIVATE KEY-----") {
            from = line_end; // its certificate may come first
            continue;
        }
        let end = text[start..].find("-----END ").map_or(text.len(), |at| start + at);
        let rest = text[end..].strip_prefix("-----END ").unwrap_or_default();
        from = rest.find("-----").map_or(text.len(), |at| end + "-----END ".len() + at + "-----".len());
        found.push(start..from);
    }
    found
}

fn email(text: &str) -> Option<Range<usize>> {
    let is_local = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
    let is_domain = |c: char| c.is_alphanumeric() || ".-".contains(c);
    text.match_indices('@').find_map(|(at, _)| {
        let start = text[..at].trim_end_matches(is_local).len();
        let end = text.len() - text[at + 1..].trim_start_matches(is_domain).len();
        let domain = text[at + 1..end].trim_end_matches(['.', '-']);
        let is_address =
            start < at && domain.rsplit_once('.').is_some_and(|(name, top)| !name.is_empty() && top.len() > 1);
        is_address.then_some(start..at + 1 + domain.len())
    })
}

fn token_len(bytes: &[u8], is_part: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| is_part(**byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is put together here, so that nobody takes this file for one that leaks them.
    #[test]
    fn keys_of_providers() {
        for (prefix, rest) in [
            ("ghr_", "a1".repeat(18)),
            ("xapp-", "1-A0B1-23-".to_owned() + &"c".repeat(20)),
            ("xoxe.", "xoxp-1-".to_owned() + &"Mi0y".repeat(9)),
            ("hvs.", "CAES".repeat(6)),
            ("SG.", "a".repeat(22) + "." + &"b_-".repeat(14)),
            ("shpat_", "0f".repeat(16)),
            ("dckr_pat_", "aB-_".repeat(7)),
            ("ya29.", "a0Af_".repeat(20)),
            ("sk_test_", "4e".repeat(12)),
            ("rk_test_", "4e".repeat(12)),
            ("whsec_", "aB+/".repeat(8) + "="),
        ] {
            let text = format!("it is {prefix}{rest}, not another");
            let whole = 6..6 + prefix.len() + rest.len();
            assert_eq!(Values::ProviderKeys.finder()(&text), vec![whole], "{prefix}");
        }
    }

    #[test]
    fn looks() {
        let found =
            |values: Values, text: &'static str| values.finder()(text).into_iter().next().map(|range| &text[range]);
        for (values, text, expected) in [
            (Values::Cards, "paid with 4111111111111111.", Some("4111111111111111")),
            (Values::Cards, "5500-0000-0000-0004", Some("5500-0000-0000-0004")),
            (Values::Cards, "a 3782 822463 10005 b", Some("3782 822463 10005")),
            (Values::Cards, "paid with 4111 1111 1111 1111 12/27", Some("4111 1111 1111 1111")),
            (Values::Cards, "4111111111111111 2027 123", Some("4111111111111111")),
            (Values::Cards, "12 4111 1111 1111 1111", Some("4111 1111 1111 1111")),
            (Values::Cards, "6304 0000 0000 0000 000", Some("6304 0000 0000 0000 000")),
            (Values::Cards, "open 2026-03-06 2026-03-07", None),
            (Values::Cards, "cpu  84282 747 20805 1615949 44349 0 308 0 0 0", None),
            (Values::Cards, "took 41 11 111 111 111 111 111 ms", None),
            (Values::Cards, "4111-1111 1111 1111", None),
            (Values::Cards, "4111111111111112", None),
            (Values::Cards, "order 1795523696789012345678", None),
            (Values::Cards, "0000000000000000", None),
            (Values::Cards, "4111--1111", None),
            (Values::BearerTokens, "Authorization: bearer abc.def-123_x=", Some("abc.def-123_x=")),
            (Values::BearerTokens, "BEARER   abcdefgh1", Some("abcdefgh1")),
            (Values::BearerTokens, "Bearer\tabcdefgh1", Some("abcdefgh1")),
            (Values::BearerTokens, "Bearer\r\n abcdefgh1", Some("abcdefgh1")),
            (Values::BearerTokens, "Bearer: abcdefgh1", Some("abcdefgh1")),
            (Values::BearerTokens, "authorization=Bearer%20abcdefgh1", Some("abcdefgh1")),
            (Values::BearerTokens, "Token abcdefgh1 é", Some("abcdefgh1")),
            (Values::BearerTokens, "basic dXNlcjpwYXNz", Some("dXNlcjpwYXNz")),
            (Values::BearerTokens, "the token signature", None),
            (Values::BearerTokens, "Bearer", None),
            (Values::BearerTokens, "the bearer of news", None),
            (Values::ProviderKeys, "key AKIAIOSFODNN7EXAMPLE!", Some("AKIAIOSFODNN7EXAMPLE")),
            (Values::ProviderKeys, "task-sk-1", None),
            (Values::ProviderKeys, "ISG.shop hvs.short ya29.x", None),
            (
                Values::ProviderKeys,
                "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdef",
                Some("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdef"),
            ),
            (Values::ProviderKeys, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0", None),
            (
                Values::ProviderKeys,
                "eyJa.heyJude.eyJzdWIiOiIxIn0.abcdefghij",
                Some("eyJude.eyJzdWIiOiIxIn0.abcdefghij"),
            ),
            (
                Values::ProviderKeys,
                "a -----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- b",
                Some("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----"),
            ),
            (
                Values::ProviderKeys,
                "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nMIJ",
                Some("-----BEGIN PRIVATE KEY-----\nMIJ"),
            ),
            (Values::ProviderKeys, "-----BEGIN PRIVATE KEY-----\nMII", Some("-----BEGIN PRIVATE KEY-----\nMII")),
            (Values::Emails, "mail ada.l+x@mail.example.com.", Some("ada.l+x@mail.example.com")),
            (Values::Emails, "user@host, @x.y, a@b.c", None),
        ] {
            assert_eq!(found(values, text), expected, "{values:?} {text}");
        }
    }
}
