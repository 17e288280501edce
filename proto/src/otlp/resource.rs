//! The view of a resource: what the telemetry is about.

use super::common::{KeyValues, last_varint};

/// What the telemetry is about: a service's instance, most often.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resource<'a> {
    /// The encoded message: records of one source have the same bytes here, most often.
    pub raw: &'a [u8],
}

impl<'a> Resource<'a> {
    /// `attributes`
    #[inline]
    pub fn attributes(&self) -> KeyValues<'a> {
        KeyValues::new(self.raw, 1)
    }

    /// `dropped_attributes_count`
    pub fn dropped_attributes_count(&self) -> u32 {
        last_varint(self.raw, 2) as u32
    }
}
