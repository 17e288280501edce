//! In the place of `hash.rs` without the feature `hashed`: there are no keys then.

#[derive(Clone)]
pub(super) enum Key {}

impl Key {
    pub(super) fn hash(&self, _: &str) -> String {
        match *self {}
    }
}
