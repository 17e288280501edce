//! The place of mapped files where there is no `MADV_WIPEONFORK`, and so none can be told from a forked parent's.

use std::fs::File;
use std::io;
use std::sync::Arc;

pub(super) const UNIT_BYTES: usize = 4096;
pub(super) const UNIT_NUMBERS_BYTES: usize = 16;

#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) units: usize,
    pub(super) numbers_at: usize,
    pub(super) units_at: usize,
}

/// There is none.
pub(super) enum Map {}

/// There is none.
pub(super) enum Run {}

impl Map {
    pub(super) fn new(_: &File, _: Layout) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "chunks can be mapped on Linux alone"))
    }

    pub(super) fn is_ours(&self) -> bool {
        match *self {}
    }

    pub(super) fn leave(&self) {
        match *self {}
    }

    pub(super) fn begin(self: &Arc<Self>, _: u64, _: usize) -> Option<Run> {
        match **self {}
    }

    pub(super) fn set_header(&self, _: usize, _: u64) {
        match *self {}
    }
}

impl Run {
    pub(super) fn capacity(&self) -> usize {
        match *self {}
    }

    pub(super) fn len(&self) -> usize {
        match *self {}
    }

    pub(super) fn push(&mut self, _: &[u8], _: &[u8]) -> bool {
        match *self {}
    }

    pub(super) fn set_counting(&self, _: bool) {
        match *self {}
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match *self {}
    }
}
