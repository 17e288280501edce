//! A secret's stand-in that is the same for the same secret: HMAC-SHA-256 under a key of the service's.

use std::fmt::Write;

use ring::hmac;

#[derive(Clone)]
pub(super) struct Key(hmac::Key);

/// Bytes of the hash that are shown: more than enough to tell values apart.
const SHOWN_BYTES: usize = 16;

impl Key {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// `hmac:` and 32 hexadecimal digits.
    pub(super) fn hash(&self, value: &str) -> String {
        let tag = hmac::sign(&self.0, value.as_bytes());
        let mut out = "hmac:".to_owned();
        for byte in tag.as_ref().iter().take(SHOWN_BYTES) {
            let _ = write!(out, "{byte:02x}"); // a string takes all
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_example() {
        let hash = Key::new(b"key").hash("The quick brown fox jumps over the lazy dog");
        assert_eq!(hash, "hmac:f7bc83f430538424b13298e6aa6fb143");
    }
}
