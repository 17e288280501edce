//! Numbers in the config that have to be within bounds.

use serde::{Deserialize, Deserializer, de};

/// For `#[serde(deserialize_with = "crate::config::range::positive")]`: a limit of 0 would let nothing through.
pub fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        0 => Err(de::Error::custom("it is at least 1: with 0 nothing would get through")),
        number => Ok(number),
    }
}

/// For sizes of segments, in which a position has 32 bits.
pub fn segment_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let bytes = u64::deserialize(deserializer)?;
    if bytes > SEGMENT_BYTES_MAX {
        return Err(de::Error::custom(format!("a segment has at most {SEGMENT_BYTES_MAX} bytes, not {bytes}")));
    }
    Ok(bytes)
}

const SEGMENT_BYTES_MAX: u64 = 1 << 31;
