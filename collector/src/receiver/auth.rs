//! Who may send: a bearer token, on every request of either protocol.

use std::path::PathBuf;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use subtle::ConstantTimeEq;

/// `auth:` of a receiver's protocol. One of the two is to be set.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What a client must send as `Authorization: Bearer <token>`.
    #[schemars(with = "Option<String>")]
    pub bearer_token: Option<SecretString>,
    /// A file that holds the token; white space around it is not part of it.
    pub bearer_token_file: Option<PathBuf>,
}

impl Config {
    /// Reads the token. Says what to write where there is none.
    pub fn read(&self) -> Result<BearerToken, String> {
        let token = match (&self.bearer_token, &self.bearer_token_file) {
            (Some(token), None) => token.clone(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("cannot read `bearer_token_file` `{}`: {error}", path.display()))?;
                SecretString::from(text.trim().to_owned())
            }
            _ => return Err("`auth` needs either `bearer_token` or `bearer_token_file`".to_owned()),
        };
        if token.expose_secret().is_empty() {
            return Err("the bearer token in `auth` is empty".to_owned());
        }
        Ok(BearerToken(token))
    }
}

/// The token that requests are held against.
#[derive(Clone, Debug)]
pub struct BearerToken(SecretString);

impl BearerToken {
    /// Whether a request with these headers may pass. Takes as long for a nearly right token as for a wrong one.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let Some((scheme, token)) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '))
        else {
            return false;
        };
        let same = token.trim().as_bytes().ct_eq(self.0.expose_secret().as_bytes());
        scheme.eq_ignore_ascii_case("bearer") && bool::from(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_admitted() {
        let token = BearerToken(SecretString::from("s3cret"));
        let admits = |value: &str| token.admits(&HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]));
        assert!(admits("Bearer s3cret"));
        assert!(admits("bearer s3cret"));
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Basic s3cret", "s3cret", "Bearer"] {
            assert!(!admits(wrong), "{wrong}");
        }
        assert!(!token.admits(&HeaderMap::new()));
        assert!(!format!("{token:?}").contains("s3cret"));
    }

    #[test]
    fn a_token_file_is_trimmed_and_must_hold_something() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "s3cret\n").unwrap();
        let config = Config { bearer_token_file: Some(file.clone()), ..Config::default() };
        assert_eq!(config.read().unwrap().0.expose_secret(), "s3cret");
        std::fs::write(&file, "\n").unwrap();
        assert!(config.read().unwrap_err().contains("empty"));
        assert!(Config::default().read().unwrap_err().contains("needs either"));
    }
}
