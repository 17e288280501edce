//! Headers that the config adds to each request.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// `headers:` of an exporter. Values are secrets: tokens stand here. `NAME_file` names a file that holds the value of the header `NAME`; white
/// space around it is not part of it.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Headers(#[schemars(with = "BTreeMap<String, String>")] pub BTreeMap<String, SecretString>);

impl Headers {
    /// As they are sent, with what the files hold now. Says which one cannot be.
    pub fn read(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::with_capacity(self.0.len());
        for (key, value) in &self.0 {
            let (name, value) = match key.strip_suffix("_file") {
                Some(name) => (name, read_file(key, value.expose_secret())?),
                None => (key.as_str(), value.clone()),
            };
            let header_name = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no name of a header"))?;
            if headers.contains_key(&header_name) {
                return Err(format!("the header `{name}` is there twice"));
            }
            let mut header_value = HeaderValue::try_from(value.expose_secret())
                .map_err(|_| format!("the value of the header `{name}` has characters that a header cannot have"))?;
            header_value.set_sensitive(true);
            headers.insert(header_name, header_value);
        }
        Ok(headers)
    }

    /// The files that hold values.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.0.iter().filter(|(key, _)| key.ends_with("_file")).map(|(_, path)| PathBuf::from(path.expose_secret()))
    }
}

fn read_file(key: &str, path: &str) -> Result<SecretString, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read `{key}` `{path}`: {error}"))?;
    match text.trim() {
        // As while it is written anew: without its token a request would be refused, and its records lost.
        "" => Err(format!("`{key}` `{path}` is empty")),
        value => Ok(SecretString::from(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)]) -> Result<HeaderMap, String> {
        let secret = |(name, value): &(&str, &str)| ((*name).to_owned(), SecretString::from((*value).to_owned()));
        Headers(headers.iter().map(secret).collect()).read()
    }

    #[test]
    fn a_value_may_stand_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "Bearer s3cret\n").unwrap();
        let path = path.to_str().unwrap();
        let headers = read(&[("Authorization_file", path), ("x-scope-orgid", "a")]).unwrap();
        assert_eq!(headers["authorization"], "Bearer s3cret");
        assert_eq!(headers.len(), 2);
        assert!(read(&[("authorization", "x"), ("Authorization_file", path)]).unwrap_err().contains("twice"));
        assert!(
            read(&[("Authorization_file", "/nowhere/token")]).unwrap_err().contains("cannot read `Authorization_file`")
        );
        fs::write(path, "\n").unwrap();
        assert!(read(&[("Authorization_file", path)]).unwrap_err().contains("is empty"));
    }
}
