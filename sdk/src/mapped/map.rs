//! A file in memory, and runs of it that each have one owner.
//!
//! # Why this is sound
//!
//! - The mapping lives as long as the [`Map`], which each [`Run`] keeps alive; no pointer into it leaves this file but as a slice that borrows a run.
//! - A run's bytes are its own: [`Units::take`] hands a unit out once until the run is dropped, and nothing else reads or writes there. What is written
//!   needs `&mut Run`, what is read `&Run`. The numbers in front of the units are only ever touched as atomics.
//! - A forked child shares the file, not the list of what is taken. Whether this is the process that made the mapping is told by a page that the kernel
//!   wipes in each child (`MADV_WIPEONFORK`), however it was forked; there a run takes nothing, shows nothing and leaves the file as it is when it is dropped.
//!   Who leaves the file to another process ([`Map::leave`]) does as such a child from there on. A write that is under way then goes on within its own run.
//! - Other processes are kept away by the file's lock and its permissions, not by the language: as with any mapped file, somebody who is allowed to and
//!   writes to it all the same, or cuts it off, breaks this process.
//! - A store never finds the disk full, which would be a SIGBUS: all blocks are reserved before the file is mapped, and only on file systems that keep
//!   such a reservation (`is_keeping_reservations`; a snapshot or copy by reflink that somebody takes of the file breaks it). A disk that breaks beneath the file may still end the process so.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::lock;

/// Bytes of a unit (4 KiB): a run has a whole number of them.
pub(super) const UNIT_BYTES: usize = 4096;

/// Two numbers of 64 bits for each unit: the order of the run that begins there, and how many of its bytes count.
pub(super) const UNIT_NUMBERS_BYTES: usize = 16;

/// Where what is in front of the units is, and where these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) units: usize,
    pub(super) numbers_at: usize,
    pub(super) units_at: usize,
}

/// A mapped file with room for runs.
pub(super) struct Map {
    memory: Memory,
    /// A byte that is 1 in the process that made the mapping, and 0 in each that it forks.
    ours: Memory,
    layout: Layout,
    taken: Mutex<Units>,
}

impl Map {
    /// Reserves the file's blocks and maps it. An error where one of the two cannot be had; the file may be longer by then.
    pub(super) fn new(file: &File, layout: Layout) -> io::Result<Self> {
        let bytes = layout.units_at + layout.units * UNIT_BYTES;
        let ours = Memory::wiped_on_fork()?;
        let memory = Memory::of_file(file, bytes)?;
        let this = Self { memory, ours, layout, taken: Mutex::new(Units::new(layout.units)) };
        this.ours().store(1, Ordering::Relaxed);
        Ok(this)
    }

    /// Whether this is not a forked child.
    #[inline]
    pub(super) fn is_ours(&self) -> bool {
        self.ours().load(Ordering::Relaxed) == 1
    }

    /// A run for so many bytes; `None` where there is no room. `order` is not zero.
    pub(super) fn begin(self: &Arc<Self>, order: u64, bytes: usize) -> Option<Run> {
        if !self.is_ours() {
            return None;
        }
        let units = bytes.div_ceil(UNIT_BYTES);
        let unit = lock(&self.taken).take(units)?;
        self.number(unit, 0).store(order.to_le(), Ordering::Release);
        Some(Run { map: Arc::clone(self), unit, units, len: 0 })
    }

    /// From here on the file is another's.
    pub(super) fn leave(&self) {
        self.ours().store(0, Ordering::Relaxed);
    }

    fn ours(&self) -> &AtomicU8 {
        // SAFETY: the page is at least a byte long, lives as long as `self`, and is only ever used as this atomic.
        unsafe { AtomicU8::from_ptr(self.ours.base.as_ptr()) }
    }

    /// Sets one of the numbers at the file's start.
    pub(super) fn set_header(&self, which: usize, value: u64) {
        self.number_at(which * 8).store(value, Ordering::Release);
    }

    /// One of the two numbers of a unit.
    fn number(&self, unit: usize, which: usize) -> &AtomicU64 {
        self.number_at(self.layout.numbers_at + unit * UNIT_NUMBERS_BYTES + which * 8)
    }

    fn number_at(&self, at: usize) -> &AtomicU64 {
        assert!(at + 8 <= self.layout.units_at && at.is_multiple_of(8));
        // SAFETY: it is within the mapping by the assertion and `new`, aligned since the mapping begins at a page, and all in front of the units is only
        // ever used as such atomics.
        unsafe { AtomicU64::from_ptr(self.memory.base.as_ptr().add(at).cast()) }
    }

    fn unit(&self, unit: usize) -> NonNull<u8> {
        assert!(unit < self.layout.units);
        // SAFETY: it is within the mapping by the assertion and `new`.
        unsafe { self.memory.base.add(self.layout.units_at + unit * UNIT_BYTES) }
    }
}

/// Bytes of the file that nobody else has.
pub(super) struct Run {
    map: Arc<Map>,
    unit: usize,
    units: usize,
    len: usize,
}

impl Run {
    /// How many bytes it has room for.
    pub(super) fn capacity(&self) -> usize {
        self.units * UNIT_BYTES
    }

    /// How many of them are written.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends both, and then has them count: a process that is killed leaves them both or neither. False, and nothing is written, where there is no
    /// room, and in a forked child.
    #[inline]
    pub(super) fn push(&mut self, head: &[u8], body: &[u8]) -> bool {
        let end = self.len + head.len() + body.len();
        if end > self.capacity() || !self.map.is_ours() {
            return false;
        }
        let start = self.map.unit(self.unit);
        // SAFETY: all of it is within the run, which `&mut self` alone may write; the sources are borrowed, so that they are elsewhere.
        unsafe {
            start.add(self.len).copy_from_nonoverlapping(NonNull::from(head).cast(), head.len());
            start.add(self.len + head.len()).copy_from_nonoverlapping(NonNull::from(body).cast(), body.len());
        }
        self.len = end;
        self.map.number(self.unit, 1).store((end as u64).to_le(), Ordering::Release);
        true
    }

    /// Whether it counts for who reads the file when this process is gone.
    pub(super) fn set_counting(&self, is_counting: bool) {
        if self.map.is_ours() {
            let len = if is_counting { self.len as u64 } else { 0 };
            self.map.number(self.unit, 1).store(len.to_le(), Ordering::Release);
        }
    }

    /// What is written; nothing in a forked child.
    pub(super) fn bytes(&self) -> &[u8] {
        let len = if self.map.is_ours() { self.len } else { 0 };
        // SAFETY: so many bytes were written by `push`, and whoever could write more needs `&mut self`.
        unsafe { NonNull::slice_from_raw_parts(self.map.unit(self.unit), len).as_ref() }
    }
}

/// Nothing of it counts any more, and another may have its room.
impl Drop for Run {
    fn drop(&mut self) {
        if self.map.is_ours() {
            self.set_counting(false);
            lock(&self.map.taken).give_back(self.unit, self.units);
        }
    }
}

/// Which units are taken.
struct Units {
    is_taken: Vec<bool>,
    free: usize,
    /// Where the last one that was found ends.
    next: usize,
}

impl Units {
    fn new(units: usize) -> Self {
        Self { is_taken: vec![false; units], free: units, next: 0 }
    }

    /// So many units side by side.
    fn take(&mut self, units: usize) -> Option<usize> {
        if units > self.free {
            return None;
        }
        let all = self.is_taken.len();
        let found = self.find(self.next..all, units).or_else(|| self.find(0..all, units))?;
        self.is_taken[found..found + units].fill(true);
        self.free -= units;
        self.next = found + units;
        Some(found)
    }

    fn find(&self, among: std::ops::Range<usize>, units: usize) -> Option<usize> {
        let mut start = among.start;
        for unit in among {
            if self.is_taken[unit] {
                start = unit + 1;
            } else if unit + 1 - start == units {
                return Some(start);
            }
        }
        None
    }

    fn give_back(&mut self, unit: usize, units: usize) {
        self.is_taken[unit..unit + units].fill(false);
        self.free += units;
    }
}

/// Pages that were mapped; unmapped when it is dropped.
struct Memory {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is a piece of memory like any other, and `Map` and `Run` say who may touch which part of it.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

#[cfg(not(miri))]
impl Memory {
    fn of_file(file: &File, bytes: usize) -> io::Result<Self> {
        use std::os::fd::AsRawFd;

        let file = file.as_raw_fd();
        if !is_keeping_reservations(file)? {
            let why =
                "mapped chunks need a folder on ext4, XFS or tmpfs, which keep the room that was reserved for a file";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let len = bytes.try_into().map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        // SAFETY: takes numbers alone.
        if unsafe { libc::fallocate(file, 0, 0, len) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Self::map(bytes, libc::MAP_SHARED, file)
    }

    fn wiped_on_fork() -> io::Result<Self> {
        let page = Self::map(UNIT_BYTES, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
        // SAFETY: the page is ours.
        match unsafe { libc::madvise(page.base.as_ptr().cast(), page.bytes, libc::MADV_WIPEONFORK) } {
            0 => Ok(page),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn map(bytes: usize, flags: libc::c_int, file: libc::c_int) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel finds a free place for it.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, file, 0) };
        match NonNull::new(base.cast::<u8>()) {
            Some(page) if base != libc::MAP_FAILED => Ok(Self { base: page, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(not(miri))]
impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and whoever could use it has borrowed it or kept it.
        let _ = unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) }; // cannot fail for what was mapped
    }
}

/// Whether a block that is reserved for a file stays its own when it is written again. File systems that write each time elsewhere (Btrfs, ZFS, F2FS), or
/// over a network, cannot say that.
#[cfg(not(miri))]
fn is_keeping_reservations(file: libc::c_int) -> io::Result<bool> {
    // SAFETY: the structure is plain, and all zeros are a valid value of it.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: it writes to the structure, which is borrowed for that.
    if unsafe { libc::fstatfs(file, &raw mut found) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok([EXT4, XFS, TMPFS].contains(&(found.f_type as u32)))
}

#[cfg(not(miri))]
const EXT4: u32 = 0xEF53; // ext2 and ext3, too
#[cfg(not(miri))]
const XFS: u32 = 0x5846_5342;
#[cfg(not(miri))]
const TMPFS: u32 = 0x0102_1994;

/// Miri maps no files: the heap is in their place, so that it judges all but the calls to the kernel.
#[cfg(miri)]
impl Memory {
    fn of_file(_: &File, bytes: usize) -> io::Result<Self> {
        // SAFETY: the size is not zero.
        let base = unsafe { std::alloc::alloc_zeroed(Self::page(bytes)) };
        Ok(Self { base: NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?, bytes })
    }

    fn wiped_on_fork() -> io::Result<Self> {
        Self::of_file(&File::open("/dev/null")?, UNIT_BYTES)
    }

    fn page(bytes: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(bytes, UNIT_BYTES).expect("a size of some pages")
    }
}

#[cfg(miri)]
impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated so.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), Self::page(self.bytes)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(units: usize) -> Arc<Map> {
        let layout = Layout { units, numbers_at: 0, units_at: UNIT_BYTES };
        #[cfg(miri)]
        let file = File::open("/dev/null").unwrap();
        #[cfg(not(miri))]
        let file = tempfile::tempfile().unwrap();
        Arc::new(Map::new(&file, layout).unwrap())
    }

    #[test]
    fn a_run_is_whole_units_and_its_own() {
        let map = map(5);
        let mut first = map.begin(1, UNIT_BYTES).unwrap();
        let mut second = map.begin(2, UNIT_BYTES + 1).unwrap();
        assert_eq!((first.capacity(), second.capacity()), (UNIT_BYTES, 2 * UNIT_BYTES));
        assert!(first.push(b"head", b"body") && second.push(b"other", &[7; UNIT_BYTES]));
        assert!(!first.push(b"", &[0; UNIT_BYTES]), "there is no room for that");
        assert_eq!((first.bytes(), &second.bytes()[..6]), (&b"headbody"[..], &b"other\x07"[..]));
        assert!(map.begin(3, 3 * UNIT_BYTES).is_none(), "two are left");
        drop(second);
        assert!(map.begin(3, 3 * UNIT_BYTES).is_some());
        assert_eq!(first.bytes(), b"headbody");
    }

    #[test]
    fn threads_fill_runs_of_one_file_at_the_same_time() {
        let map = map(8);
        std::thread::scope(|threads| {
            for thread in 0..4u8 {
                let map = &map;
                threads.spawn(move || {
                    for i in 0..20u8 {
                        let mut run = map.begin(u64::from(thread) + 1, 2 * UNIT_BYTES).expect("two for each thread");
                        while run.push(&[thread; 300], &[i; 700]) {}
                        let ok = run.bytes().chunks(1000).all(|c| c[..300] == [thread; 300] && c[300..] == [i; 700]);
                        assert!(ok);
                    }
                });
            }
        });
    }
}
