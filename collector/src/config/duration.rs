//! Durations in the config: `30s`, `1h30m`, `1d`, as Prometheus writes them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use watchbell_rules::time::parse_duration;

/// For `#[serde(deserialize_with = "crate::config::duration::deserialize")]`, or `with` on the module.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(|error| de::Error::custom(format!("`{text}` is no duration: {error}")))
}

/// The same for a duration that may be absent.
pub mod option {
    use super::{Deserializer, Duration};

    /// For `#[serde(default, deserialize_with = "crate::config::duration::option::deserialize")]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        super::deserialize(deserializer).map(Some)
    }
}
