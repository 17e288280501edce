//! Named readers' positions.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskFile, read_what_can_be};
use super::log::Shared;
use super::{Cursor, Position};

/// The cursors of a log, as they are saved.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Cursors {
    generation: u64,
    /// The log's durable position when they were saved.
    pub(super) durable: Position,
    pub(super) cursors: BTreeMap<String, State>,
    /// Whether there is something to save.
    #[serde(skip)]
    pub(super) dirty: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) position: Position,
    pub(super) lost: u64,
    #[serde(skip)]
    pub(super) open: bool,
    #[serde(skip)]
    pub(super) holds: bool,
}

impl Cursors {
    /// The newest good copy; none where there is none.
    pub(super) fn load<D: Disk>(disk: &D) -> io::Result<Self> {
        let names = disk.list()?;
        let mut newest = Self::default();
        for name in NAMES.into_iter().filter(|name| names.iter().any(|n| n == name)) {
            let cursors = read(&disk.open(name)?)?.filter(|cursors| cursors.generation > newest.generation);
            newest = cursors.unwrap_or(newest);
        }
        Ok(newest)
    }

    /// The position that all frames before may be dropped at, as far as those are concerned that hold the log.
    pub(super) fn held(&self) -> Option<Position> {
        self.cursors.values().filter(|state| state.open && state.holds).map(|state| state.position).min()
    }

    /// Makes a copy that is to be saved; a position not durable yet is saved as the durable one.
    pub(super) fn begin_save(&mut self, durable: Position) -> Self {
        self.dirty = false;
        self.generation += 1;
        self.durable = durable;
        let mut copy = self.clone();
        for state in copy.cursors.values_mut() {
            // One that ran ahead is to be saved again.
            self.dirty |= state.position > durable;
            state.position = state.position.min(durable);
        }
        copy
    }

    /// Says that a copy could not be saved: the next one goes over it, not over the last good one.
    pub(super) fn handle_not_saved(&mut self, copy: &Self) {
        self.dirty = true;
        self.generation = copy.generation - 1;
    }

    /// Writes it over the older of the two copies.
    pub(super) fn save<D: Disk>(&self, disk: &D) -> io::Result<()> {
        let json = serde_json::to_vec(self)?;
        let crc = format!("{:08x} ", crc32fast::hash(&json));
        let name = NAMES[(self.generation % 2) as usize];
        let file = disk.open(name).or_else(|_| disk.create(name, 0))?;
        file.write_at(&mut [IoSlice::new(crc.as_bytes()), IoSlice::new(&json), IoSlice::new(b"\n")], 0)?;
        file.sync()
    }
}

const NAMES: [&str; 2] = ["cursors.0", "cursors.1"];
const CRC_BYTES: usize = 9;

fn read<F: DiskFile>(file: &F) -> io::Result<Option<Cursors>> {
    let mut bytes = vec![0; file.bytes()? as usize];
    let count = read_what_can_be(file, &mut bytes, 0)?;
    // What follows the line is of an earlier, longer one.
    let line = bytes[..count].split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some((crc, json)) = line.split_at_checked(CRC_BYTES) else { return Ok(None) };
    let good = crc == format!("{:08x} ", crc32fast::hash(json)).as_bytes();
    Ok(good.then(|| serde_json::from_slice(json).ok()).flatten())
}

/// A named reader of a [`Wal`](super::Wal).
pub struct WalCursor<D: Disk> {
    shared: Arc<Shared<D>>,
    name: String,
}

impl<D: Disk> WalCursor<D> {
    pub(super) fn open(shared: Arc<Shared<D>>, name: &str) -> Self {
        let oldest = shared.oldest();
        let cursor = Self { shared, name: name.to_owned() };
        cursor.change(|state| {
            state.position = state.position.max(oldest);
            state.open = true;
        });
        cursor
    }

    fn state(&self) -> State {
        self.shared.cursors().cursors.get(&self.name).copied().unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut cursors = self.shared.cursors();
        cursors.dirty = true;
        change(cursors.cursors.entry(self.name.clone()).or_default());
        drop(cursors);
        self.shared.wake_writer();
    }
}

impl<D: Disk> Cursor for WalCursor<D> {
    fn position(&self) -> Position {
        self.state().position
    }

    fn commit(&mut self, position: Position) -> io::Result<()> {
        self.change(|state| state.position = state.position.max(position));
        Ok(())
    }

    fn lost(&self) -> u64 {
        self.state().lost
    }

    fn hold(&mut self) {
        self.change(|state| state.holds = true);
    }

    fn is_far_behind(&self) -> bool {
        let segments = self.shared.segments();
        let kept = segments.range(self.state().position.sequence()..).map(|(_, segment)| segment.bytes).sum::<u64>();
        kept > self.shared.config.bytes_max() / 2
    }
}

impl<D: Disk> Drop for WalCursor<D> {
    fn drop(&mut self) {
        self.change(|state| (state.open, state.holds) = (false, false));
    }
}
