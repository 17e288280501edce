//! What the tests share.

pub(crate) mod peer;
pub(crate) mod random;
