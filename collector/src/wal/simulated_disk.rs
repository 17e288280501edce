//! A disk in memory that fails as disks do: what was not synced may be lost at a crash, sector by sector, and a sync may fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile};

/// Bytes that are written together or not at all.
const SECTOR_BYTES: usize = 512;

/// The disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

/// A file of a [`SimulatedDisk`].
#[derive(Debug)]
pub struct SimulatedFile {
    disk: SimulatedDisk,
    id: u64,
}

#[derive(Clone, Debug)]
struct State {
    random: fastrand::Rng,
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Content>,
    next_id: u64,
    failing_syncs: u32,
    syncs: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// What a read sees.
    seen: Vec<u8>,
    /// What a crash leaves.
    stored: Vec<u8>,
    /// Sectors that the next sync stores.
    dirty: BTreeSet<usize>,
}

impl SimulatedDisk {
    /// An empty disk. What crashes leave follows from the seed.
    pub fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (names, files) = (BTreeMap::new(), BTreeMap::new());
        Self { state: Arc::new(Mutex::new(State { random, names, files, next_id: 0, failing_syncs: 0, syncs: 0 })) }
    }

    /// Power cut: of each sector that was not synced, the old or the new content is left. Files still open are of the life before: let go of them.
    pub fn crash(&self) {
        let mut state = self.state();
        let State { random, files, .. } = &mut *state;
        for content in files.values_mut() {
            content.store_dirty(|| random.bool());
            content.seen.clone_from(&content.stored);
        }
    }

    /// Another disk with the same content and the same future.
    pub fn copy(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state().clone())) }
    }

    /// Makes the next `count` syncs fail. As on Linux, what they were to store is then not stored by a later one either.
    pub fn fail_syncs(&self, count: u32) {
        self.state().failing_syncs = count;
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// A copy of a file's content, as a read sees it.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.files.get(state.names.get(name)?).map(|content| content.seen.clone())
    }

    /// Flips bits of one byte, as a disk that rots.
    pub fn damage(&self, name: &str, offset: usize, mask: u8) {
        let mut state = self.state();
        let Some(id) = state.names.get(name).copied() else { return };
        let Some(content) = state.files.get_mut(&id) else { return };
        content.seen[offset] ^= mask;
        content.stored[offset] ^= mask;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, id: u64) -> SimulatedFile {
        SimulatedFile { disk: self.clone(), id }
    }
}

impl Disk for SimulatedDisk {
    type File = SimulatedFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let id = self.state().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(id))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<SimulatedFile> {
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        let zeros = vec![0; bytes as usize];
        state.files.insert(id, Content { seen: zeros.clone(), stored: zeros, dirty: BTreeSet::new() });
        if let Some(old) = state.names.insert(name.to_owned(), id) {
            state.files.remove(&old);
        }
        drop(state);
        Ok(self.file(id))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state().names.remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }
}

impl DiskFile for SimulatedFile {
    fn bytes(&self) -> io::Result<u64> {
        self.with(|_, content| Ok(content.seen.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|_, content| {
            let rest = content.seen.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.with(|_, content| {
            let mut at = offset as usize;
            for part in parts.iter() {
                content.write(part, at);
                at += part.len();
            }
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.syncs += 1;
        let failing = state.failing_syncs > 0;
        state.failing_syncs = state.failing_syncs.saturating_sub(1);
        let State { random, files, .. } = &mut *state;
        let content = files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        content.store_dirty(|| !failing || random.bool());
        if failing { Err(io::Error::other("the disk failed")) } else { Ok(()) }
    }
}

impl SimulatedFile {
    fn with<T>(&self, act: impl FnOnce(&mut fastrand::Rng, &mut Content) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        let State { random, files, .. } = &mut *state;
        act(random, files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?)
    }
}

impl Content {
    fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if self.seen.len() < end {
            self.seen.resize(end, 0);
        }
        self.seen[at..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty.extend(at / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
        }
    }

    /// Stores the dirty sectors that `chosen` picks; no sector is dirty afterwards.
    fn store_dirty(&mut self, mut chosen: impl FnMut() -> bool) {
        for sector in std::mem::take(&mut self.dirty) {
            if chosen() {
                self.store(sector);
            }
        }
    }

    fn store(&mut self, sector: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.seen.len());
        if self.stored.len() < end {
            self.stored.resize(end, 0);
        }
        self.stored[start..end].copy_from_slice(&self.seen[start..end]);
    }
}
