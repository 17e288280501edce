//! The library. In a crate of its own its manifest has `tracing` alone.

use std::fmt;

use tracing::{debug, instrument, warn};

/// How many pieces are there.
pub(crate) struct Inventory {
    pieces: u32,
}

impl Inventory {
    pub(crate) fn with(pieces: u32) -> Self {
        Self { pieces }
    }

    /// An error is told by who deals with it: the library hands it on, and says nothing of it itself.
    #[instrument(level = "debug", skip(self))]
    pub(crate) fn take(&mut self, pieces: u32) -> Result<(), SoldOut> {
        let left = self.pieces.checked_sub(pieces).ok_or(SoldOut { wanted: pieces, left: self.pieces })?;
        self.pieces = left;
        debug!(left, "taken");
        if left < 2 {
            warn!(left, "nearly sold out");
        }
        Ok(())
    }
}

/// There are fewer pieces than were asked for.
#[derive(Debug)]
pub(crate) struct SoldOut {
    wanted: u32,
    left: u32,
}

impl fmt::Display for SoldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wanted, {} left", self.wanted, self.left)
    }
}

impl std::error::Error for SoldOut {}
