//! Fields that are computed only where their record goes somewhere.

use std::fmt;

use tracing::field::{DisplayValue, display};

/// A field that is computed when its record is written, and shown by its `Display`. The expression of any other field is computed as soon as
/// its level is on, also where the record is then [held back](crate::restraint), or is of a level that no way takes.
///
/// ```
/// # use watchbell::tracing;
/// # fn size_of_everything() -> usize { 7 }
/// # let logs = watchbell::test::capture();
/// tracing::debug!(watchbell.limit = "1/m", size = watchbell::lazy(|| size_of_everything()), "cache"); // once a minute, however often it is logged
/// # assert_eq!(logs.expect("cache").field("size"), Some(&"7".into()));
/// ```
pub fn lazy<T: fmt::Display, F: Fn() -> T>(compute: F) -> DisplayValue<Lazy<F>> {
    display(Lazy(compute))
}

/// What [`lazy`] makes.
///
/// ```
/// # fn size_of_everything() -> usize { 7 }
/// tracing::debug!(size = watchbell::lazy(|| size_of_everything()), "cache");
/// ```
#[derive(Clone, Copy)]
pub struct Lazy<F>(F);

impl<T: fmt::Display, F: Fn() -> T> fmt::Display for Lazy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0().fmt(f)
    }
}

impl<F> fmt::Debug for Lazy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lazy")
    }
}
