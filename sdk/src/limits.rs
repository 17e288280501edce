//! How much of a record or span is kept: the attribute limits of the OpenTelemetry specification.

use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_sdk::trace::SpanLimits;

/// What is beyond is dropped and counted in the record or span; a string's end is cut off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most attributes of a log record (`OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT`, 128).
    pub(crate) attributes_per_record_max: u32,
    /// Longest string of a log record's attribute in characters (`OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT`, none).
    pub(crate) record_value_chars_max: usize,
    /// The same of a span's, its events' and its links' (`OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`, none).
    pub(crate) span_value_chars_max: usize,
    /// Most attributes, events and links of a span, and most attributes of these (128 each).
    pub(crate) spans: SpanLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attributes_per_record_max: 128,
            record_value_chars_max: usize::MAX,
            span_value_chars_max: usize::MAX,
            spans: SpanLimits::default(),
        }
    }
}

/// Longest string in bytes (64 KiB), whatever the environment says; what is beyond is cut off at a character's boundary.
pub(crate) const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The text, cut at [`VALUE_BYTES_MAX`].
#[inline]
pub(crate) fn cut(text: &str) -> &str {
    cut_to(text, VALUE_BYTES_MAX, usize::MAX)
}

/// The text's beginning of at most so many bytes and so many characters.
#[inline]
pub(crate) fn cut_to(text: &str, bytes_max: usize, chars_max: usize) -> &str {
    // a character has at least one byte
    if text.len() <= bytes_max && text.len() <= chars_max { text } else { cut_long(text, bytes_max, chars_max) }
}

/// The text's beginning of at most so many bytes, which nobody has counted as cut yet.
pub(crate) fn beginning(text: &str, bytes_max: usize) -> &str {
    &text[..char_boundary_before(text, bytes_max.min(text.len()))]
}

/// The beginning of at most so many bytes, and 64 KiB.
#[inline]
pub(crate) fn cut_bytes(bytes: &[u8], bytes_max: usize) -> &[u8] {
    let kept = bytes.len().min(VALUE_BYTES_MAX).min(bytes_max);
    if kept < bytes.len() {
        count_cut();
    }
    &bytes[..kept]
}

#[cold]
fn cut_long(text: &str, bytes_max: usize, chars_max: usize) -> &str {
    if bytes_max > 0 && chars_max > 0 {
        count_cut(); // else it is the rest of one that was
    }
    let text = beginning(text, bytes_max);
    text.char_indices().nth(chars_max).map_or(text, |(end, _)| &text[..end])
}

static CUT: AtomicU64 = AtomicU64::new(0);

/// A text was cut: the first is told, all are counted.
#[cold]
pub(crate) fn count_cut() {
    if CUT.fetch_add(1, Ordering::Relaxed) == 0 {
        crate::tell::warn(format_args!(
            "a text was cut at 64 KiB, at the length that an attribute may have, or for a socket that takes no more; `watchbell.sdk.texts.cut` counts them"
        ));
    }
}

/// How many texts were cut.
#[cfg(feature = "metrics")]
pub(crate) fn cut_texts() -> u64 {
    CUT.load(Ordering::Relaxed)
}

/// `str::floor_char_boundary`, which came with Rust 1.91.
fn char_boundary_before(text: &str, index: usize) -> usize {
    (0..=index).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_longest_beginning_that_is_allowed(text in "[aé𝄞]{0,12}", bytes_max in 0..20usize, chars_max in 0..14usize) {
            let is_allowed = |kept: &str| kept.len() <= bytes_max && kept.chars().count() <= chars_max;
            let ends = (0..=text.len()).rev().filter(|end| text.is_char_boundary(*end));
            let longest = ends.map(|end| &text[..end]).find(|kept| is_allowed(kept)).unwrap();
            prop_assert_eq!(cut_to(&text, bytes_max, chars_max), longest);
        }
    }
}
