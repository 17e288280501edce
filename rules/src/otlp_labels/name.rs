//! Attribute keys to label names.

use watchbell_proto::otlp::common::{AnyValue, KeyValue};

use super::value::label_value;
use crate::entry::LabelValue;

/// The label's name that Loki makes of a key of structured metadata: letters and digits stay, any run of others is one `_`.
pub fn label_name(key: &str) -> String {
    normalized(key.as_bytes()).map(char::from).collect()
}

/// The value that `attribute` gives to the label `name`, if it gives one. Only maps, which give several, cost an allocation.
pub(super) fn value_of<'a>(attribute: KeyValue<'a>, name: &str) -> Option<LabelValue<'a>> {
    if !is_map(attribute) {
        return is_named(attribute.key_bytes, name).then(|| label_value(attribute.value()));
    }
    let mut found = None;
    for_each_label(attribute, &mut |label, value| {
        if label == name {
            found = Some(value);
        }
    });
    found
}

/// The labels that `attribute` gives: one, or those of a map's entries.
pub(super) fn for_each_label<'a>(attribute: KeyValue<'a>, visit: &mut dyn FnMut(&str, LabelValue<'a>)) {
    flatten("", attribute, NESTING_MAX, visit);
}

fn flatten<'a>(prefix: &str, entry: KeyValue<'a>, nesting: usize, visit: &mut dyn FnMut(&str, LabelValue<'a>)) {
    let path = if prefix.is_empty() { entry.key().to_owned() } else { format!("{prefix}_{}", entry.key()) };
    let name = label_name(&path);
    if name.bytes().all(|byte| byte == b'_') {
        return; // Loki refuses the whole request; here the label is left out
    }
    match entry.value() {
        AnyValue::KeyValueList(entries) if nesting > 0 => {
            entries.for_each(|entry| flatten(&name, entry, nesting - 1, visit));
        }
        value => visit(&name, label_value(value)),
    }
}

/// Whether `key` becomes the label `name`; most keys differ in their first letter.
#[inline]
fn is_named(key: &[u8], name: &str) -> bool {
    match (key.first(), name.as_bytes().first()) {
        (Some(a), Some(b)) if a.is_ascii_alphabetic() && a != b => false,
        _ => normalized(key).eq(name.bytes()),
    }
}

/// The bytes of the label name that `key` becomes.
fn normalized(key: &[u8]) -> impl Iterator<Item = u8> {
    let reserved = key.len() >= 4 && key.starts_with(b"__") && key.ends_with(b"__");
    let (edge, inner): (&[u8], _) = if reserved { (b"__", &key[2..key.len() - 2]) } else { (b"", key) };
    let before: &[u8] = if key.first().is_some_and(u8::is_ascii_digit) { b"key_" } else { edge };
    let mut after_underscore = false;
    let name = inner.iter().filter_map(move |byte| {
        let valid = byte.is_ascii_alphanumeric();
        let skip = !valid && after_underscore;
        after_underscore = !valid;
        (!skip).then_some(if valid { *byte } else { b'_' })
    });
    before.iter().copied().chain(name).chain(edge.iter().copied())
}

fn is_map(attribute: KeyValue<'_>) -> bool {
    const KVLIST_VALUE: u8 = 6 << 3 | 2;
    attribute.value_bytes.is_some_and(|value| value.first() == Some(&KVLIST_VALUE))
}

/// Maps in maps are flattened to this depth; a deeper map is printed as JSON.
const NESTING_MAX: usize = 16;

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_what_loki_makes_of_them() {
        let name = |key: &str| super::normalized(key.as_bytes()).map(char::from).collect::<String>();
        assert_eq!(name("http.request.method"), "http_request_method");
        assert_eq!(name("a..b--c"), "a_b_c");
        assert_eq!(name("größe"), "gr_e");
        assert_eq!(name("3d"), "key_3d");
        assert_eq!(name("__meta__"), "__meta__");
        assert_eq!(name("_private"), "_private");
    }
}
