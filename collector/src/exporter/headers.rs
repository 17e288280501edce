//! Headers that the config adds to each request.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// `headers:` of an exporter. Values are secrets: tokens stand here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Headers(pub BTreeMap<String, SecretString>);

impl Headers {
    /// As they are sent. Says which one cannot be.
    pub fn read(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::with_capacity(self.0.len());
        for (name, value) in &self.0 {
            let header_name = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no name of a header"))?;
            let mut header_value = HeaderValue::try_from(value.expose_secret())
                .map_err(|_| format!("the value of the header `{name}` has characters that a header cannot have"))?;
            header_value.set_sensitive(true);
            headers.insert(header_name, header_value);
        }
        Ok(headers)
    }
}
