//! What is secret, as a list of words: `usual,iban,drop:*.body,hash:user.email,values:emails`.

use super::{Redaction, Values};
use crate::levels::parts;

/// What the list says, and what of it was not understood. `hash_key` is what values are hashed under.
pub(crate) fn listed(list: &str, hash_key: Option<&[u8]>) -> (Redaction, Vec<String>) {
    let (mut redaction, mut wrong) = (Redaction::new(), Vec::new());
    for word in parts(list) {
        let (kind, rest) = word.split_once(':').unwrap_or(("", word));
        redaction = match (kind.to_ascii_lowercase().as_str(), rest.trim()) {
            ("", word) if word.eq_ignore_ascii_case(USUAL) => redaction.with_usual(),
            ("", word) if is_slip_of(&word.to_ascii_lowercase(), USUAL) => {
                wrong.push(format!("`{word}` is taken for `{USUAL}`, and for a key of that name"));
                redaction.with_usual().key(word)
            }
            ("", word) => {
                if SWITCHES.iter().any(|switch| word.eq_ignore_ascii_case(switch)) {
                    wrong.push(format!(
                        "`{word}` is taken for a key of that name; write `{USUAL}` for what usually is secret"
                    ));
                }
                redaction.key(word)
            }
            ("drop", key) => redaction.drop_key(key),
            ("hash", key) => hashed(redaction, key, hash_key, &mut wrong),
            ("values", kind) => match values(kind) {
                Some(values) => redaction.values(values),
                None => {
                    let known = "`values:cards`, `values:bearer_tokens`, `values:provider_keys`, `values:assignments` or `values:emails`";
                    wrong.push(format!("`{word}` is not known; write {known}"));
                    redaction
                }
            },
            _ => {
                wrong.push(format!("`{word}` is taken for a key of that name; write `values:`, `drop:` or `hash:`"));
                redaction.key(word)
            }
        };
    }
    (redaction, wrong)
}

/// The word for what usually is secret.
const USUAL: &str = "usual";

/// Words that are no keys, as a rule.
const SWITCHES: [&str; 8] = ["true", "on", "yes", "1", "all", "default", "defaults", "standard"];

fn values(kind: &str) -> Option<Values> {
    match kind.to_ascii_lowercase().as_str() {
        "cards" => Some(Values::Cards),
        "bearer_tokens" => Some(Values::BearerTokens),
        "provider_keys" => Some(Values::ProviderKeys),
        "assignments" => Some(Values::Assignments),
        "emails" => Some(Values::Emails),
        _ => None,
    }
}

/// Without what a hash needs the field is masked.
fn hashed(redaction: Redaction, key: &str, hash_key: Option<&[u8]>, wrong: &mut Vec<String>) -> Redaction {
    #[cfg(feature = "hashed")]
    if let Some(hash_key) = hash_key.filter(|hash_key| !hash_key.is_empty()) {
        return redaction.hash_key(key, hash_key);
    }
    let why = match hash_key {
        Some(_) if cfg!(not(feature = "hashed")) => "this program is built without the feature `hashed` of `watchbell`",
        _ => "set `WATCHBELL_REDACT_HASH_KEY` or `WATCHBELL_REDACT_HASH_KEY_FILE` to what values are hashed under",
    };
    wrong.push(format!("`hash:{key}` masks the field: {why}"));
    redaction.key(key)
}

/// Whether it is the other word but for one letter, or two that are swapped.
fn is_slip_of(word: &str, meant: &str) -> bool {
    let same = word.bytes().zip(meant.bytes()).take_while(|(a, b)| a == b).count();
    let (word, meant) = (&word.as_bytes()[same..], &meant.as_bytes()[same..]);
    let same = word.iter().rev().zip(meant.iter().rev()).take_while(|(a, b)| a == b).count();
    match (&word[..word.len() - same], &meant[..meant.len() - same]) {
        ([] | [_], [] | [_]) => true,
        ([a, b], [c, d]) => a == d && b == c,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Fate;

    #[test]
    fn words() {
        let fate = |list: &str, key: &str| listed(list, Some(b"secret")).0.fate(key);
        for usual in ["usual", "Usual", "USUAL"] {
            assert_eq!((fate(usual, "password"), listed(usual, None).1.len()), (Some(Fate::Masked), 0), "{usual}");
        }
        for slip in ["usuall", "usul", "Uusal", "usval"] {
            assert_eq!(fate(slip, "password"), Some(Fate::Masked), "{slip}");
            assert_eq!(listed(slip, None).1, [format!("`{slip}` is taken for `usual`, and for a key of that name")]);
        }
        assert_eq!((fate("mutual", "password"), listed("mutual,casual,iban", None).1.len()), (None, 0));
        assert_eq!(fate("Iban, drop:*.body", "user.iban"), Some(Fate::Masked));
        assert_eq!(fate("iban,drop:*.body", "request.body"), Some(Fate::Dropped));
        for (list, told) in [
            ("true", "`true` is taken for a key of that name; write `usual` for what usually is secret"),
            ("value:cards", "`value:cards` is taken for a key of that name; write `values:`, `drop:` or `hash:`"),
            ("values:card", "`values:card` is not known; write `values:cards`, `values:bearer_tokens`"),
        ] {
            let wrong = listed(list, None).1;
            assert!(wrong.len() == 1 && wrong[0].starts_with(told), "{wrong:?}");
        }
    }

    #[test]
    fn a_hash_needs_a_key() {
        let (redaction, wrong) = listed("hash:user.email", None);
        assert_eq!((redaction.fate("user.email"), wrong.len()), (Some(Fate::Masked), 1));
        let (redaction, _) = listed("hash:user.email", Some(b""));
        assert_eq!(redaction.fate("user.email"), Some(Fate::Masked));
        let (redaction, wrong) = listed("Hash:user.email", Some(b"secret"));
        let expected = if cfg!(feature = "hashed") { (Some(Fate::Hashed(0)), 0) } else { (Some(Fate::Masked), 1) };
        assert_eq!((redaction.fate("user.email"), wrong.len()), expected);
    }
}
