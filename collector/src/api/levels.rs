//! Which records services make: `levels:` in the config, for services that ask for it (`WATCHBELL_LEVELS_URL` of the SDK).

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, de};
use xxhash_rust::xxh3::xxh3_64;

use super::Api;

/// Directives (`info,checkout::db=debug`) by the service's name; those of `*` are for all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
pub struct Levels(BTreeMap<String, Directives>);

impl Levels {
    /// What a service is told; `None` where nothing is said of it.
    pub fn of(&self, service: &str) -> Option<&str> {
        self.0.get(service).or_else(|| self.0.get("*")).map(|directives| directives.0.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema)]
struct Directives(String);

impl<'de> Deserialize<'de> for Directives {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        match parts.into_iter().find(|part| !is_directive(part)) {
            Some(wrong) => Err(de::Error::custom(format!(
                "`{wrong}` says no level; write `info` or `checkout::db=debug`, of `trace`, `debug`, `info`, `warn`, `error` and `off`"
            ))),
            None => Ok(Self(text)),
        }
    }
}

fn is_directive(part: &str) -> bool {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
    let level = part.split_once('=').map_or(part, |(_, level)| level.trim());
    LEVELS.into_iter().any(|known| level.eq_ignore_ascii_case(known))
}

/// The directives as text; `204` where there are none, and `304` where the service has them already.
pub(super) async fn levels(State(api): State<Api>, Path(service): Path<String>, headers: HeaderMap) -> Response {
    let Some(directives) = api.collector.levels_of(&service) else { return StatusCode::NO_CONTENT.into_response() };
    let tag = format!("\"{:016x}\"", xxh3_64(directives.as_bytes()));
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    let content_type = "text/plain; charset=utf-8".to_owned();
    ([(header::ETAG, tag), (header::CONTENT_TYPE, content_type)], directives).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_its_own_or_those_of_all() {
        let read = |text: &str| serde_json::from_str::<Levels>(text);
        let levels = read(r#"{"checkout": "info, checkout::db = DEBUG", "*": "warn"}"#).unwrap();
        assert_eq!((levels.of("checkout"), levels.of("cart")), (Some("info, checkout::db = DEBUG"), Some("warn")));
        assert_eq!(Levels::default().of("cart"), None);
        let error = read(r#"{"checkout": "info,checkout::db=loud"}"#).unwrap_err().to_string();
        assert!(error.starts_with("`checkout::db=loud` says no level; write `info`"), "{error}");
    }
}
