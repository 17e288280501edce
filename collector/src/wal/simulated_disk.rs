//! A disk in memory that fails as disks do: what was not synced may be lost at a crash, sector by sector, a sync, a write or the making of a
//! file may fail, and a sector may become unreadable.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    failing: Failing,
    syncs: u64,
    sync_time: Duration,
}

/// How many of the next ones fail.
#[derive(Clone, Copy, Debug, Default)]
struct Failing {
    syncs: u32,
    writes: u32,
    creates: u32,
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// What a read sees.
    seen: Vec<u8>,
    /// What a crash leaves.
    stored: Vec<u8>,
    /// Sectors that the next sync stores.
    dirty: BTreeSet<usize>,
    /// Sectors that no read gets, until they are written.
    unreadable: BTreeSet<usize>,
}

impl SimulatedDisk {
    /// An empty disk. What crashes leave follows from the seed.
    pub fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (names, files) = (BTreeMap::new(), BTreeMap::new());
        let (next_id, failing, syncs, sync_time) = (0, Failing::default(), 0, Duration::ZERO);
        Self { state: Arc::new(Mutex::new(State { random, names, files, next_id, failing, syncs, sync_time })) }
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
        self.state().failing.syncs = count;
    }

    /// Makes the next `count` writes fail, each after some of its bytes.
    pub fn fail_writes(&self, count: u32) {
        self.state().failing.writes = count;
    }

    /// Makes the next `count` files not be made, as on a full disk.
    pub fn fail_creates(&self, count: u32) {
        self.state().failing.creates = count;
    }

    /// Everything succeeds from now on.
    pub fn fail_nothing(&self) {
        self.state().failing = Failing::default();
    }

    /// Makes the sector with that byte unreadable until it is written.
    pub fn make_unreadable(&self, name: &str, offset: usize) {
        let mut state = self.state();
        let id = state.names.get(name).copied();
        if let Some(content) = id.and_then(|id| state.files.get_mut(&id)) {
            content.unreadable.insert(offset / SECTOR_BYTES);
        }
    }

    /// Makes each sync take so long.
    pub fn slow_syncs(&self, time: Duration) {
        self.state().sync_time = time;
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
        if take(&mut state.failing.creates) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let id = state.next_id;
        state.next_id += 1;
        let zeros = vec![0; bytes as usize];
        state.files.insert(id, Content { seen: zeros.clone(), stored: zeros, ..Content::default() });
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
            let end = offset as usize + count;
            if content.unreadable.range(offset as usize / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)).next().is_some() {
                return Err(rustix::io::Errno::IO.into());
            }
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let failing = take(&mut self.disk.state().failing.writes);
        self.with(|random, content| {
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            if failing {
                content.write(&bytes[..random.usize(..=bytes.len())], offset as usize);
                return Err(io::Error::other("the disk failed"));
            }
            content.write(&bytes, offset as usize);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let sync_time = self.disk.state().sync_time;
        if !sync_time.is_zero() {
            std::thread::sleep(sync_time);
        }
        let mut state = self.disk.state();
        state.syncs += 1;
        let failing = take(&mut state.failing.syncs);
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
            let sectors = at / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES;
            self.unreadable.retain(|sector| !sectors.contains(sector));
            self.dirty.extend(sectors);
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

/// Whether this one fails: one fewer does from then on.
fn take(failing: &mut u32) -> bool {
    let fails = *failing > 0;
    *failing -= u32::from(fails);
    fails
}
