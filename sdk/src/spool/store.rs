//! The files of a service's spool: which there are, in which order, and how much they may hold together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, DirBuilder};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::segment::{DAMAGED, Entry, Head, Segment, Tail, entry_bytes};
use super::{AtCap, Spool, recovery};
use crate::config::Signal;
use crate::encode::unix_nano;
use crate::tell;

/// Most bytes of a file (4 MiB, and an eighth of the spool): further requests go to the next one, and this is dropped as a whole where the oldest gives way.
const SPOOL_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Most requests in the spool (100,000), each of which takes some bytes of memory, too; beyond, it counts as full.
const SPOOL_REQUESTS_MAX: usize = 100_000;

/// Most damaged files that are kept (8); the oldest is removed for another.
const DAMAGED_FILES_MAX: usize = 8;

/// Longest name of a service's folder in bytes (200); what is beyond is cut off.
const FOLDER_NAME_BYTES_MAX: usize = 200;

/// After how long a disk that failed is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// A service's spool, as one process has it.
pub(crate) struct Store {
    folder: PathBuf,
    spool: Spool,
    /// Names the process in its files' names.
    random: u32,
    segments: BTreeMap<SegmentId, Segment>,
    /// Entries in them of signals that this process does not export.
    others: Vec<Found>,
    /// The one that is written.
    current: Option<SegmentId>,
    segments_begun: u64,
    last_begun_millis: u64,
    /// Files of earlier processes that have not been opened, oldest first.
    unopened: VecDeque<PathBuf>,
    /// Those in which all that waits is of signals that this process does not export: for a process that does, or to give way as the oldest.
    foreign: BTreeSet<PathBuf>,
    /// Until when nothing is written, because the disk failed.
    pause: Option<Instant>,
    is_failing: bool,
}

/// In the order in which they are sent: those of other processes come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SegmentId {
    is_own: bool,
    number: u64,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    segment: SegmentId,
    offset: u64,
}

impl Place {
    /// Whether another process wrote it.
    pub(crate) fn is_taken_over(self) -> bool {
        !self.segment.is_own
    }

    /// Whether both are in one file.
    pub(crate) fn is_beside(self, other: Self) -> bool {
        self.segment == other.segment
    }
}

/// An entry that another process left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) signal: Signal,
    pub(crate) records: u64,
    pub(crate) place: Place,
}

/// Why an entry was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The cap is reached, and the newest is to give way.
    Full,
    /// The cap is reached: drop the oldest file, and try again.
    DropOldest,
    /// The disk fails; that was told.
    Disk,
}

/// What gives way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oldest {
    /// The file with the entry at this place.
    Beside(Place),
    /// One that has not been opened.
    Unopened,
    Nothing,
}

impl Store {
    /// The spool of the service of this name, with what earlier processes left.
    pub(crate) fn open(spool: &Spool, service_name: &str) -> Self {
        let mut store = Self {
            folder: service_folder(&spool.folder, service_name),
            spool: spool.clone(),
            random: fastrand::u32(..),
            segments: BTreeMap::new(),
            others: Vec::new(),
            current: None,
            segments_begun: 0,
            last_begun_millis: 0,
            unopened: VecDeque::new(),
            foreign: BTreeSet::new(),
            pause: None,
            is_failing: false,
        };
        store.look_for_others();
        store
    }

    /// Takes note of what other processes have left by now.
    pub(crate) fn look_for_others(&mut self) {
        if let Err(error) = make_folder(&self.folder).and_then(|()| recovery::recover(&self.folder)) {
            self.tell_failure("read", &error);
        }
        match files(&self.folder, SPOOL) {
            Ok(files) => {
                let is_open = |path: &PathBuf| self.segments.values().any(|segment| segment.path() == path);
                self.unopened = files.into_iter().map(|(path, _)| path).filter(|path| !is_open(path)).collect();
                self.foreign.clear();
            }
            Err(error) => self.tell_failure("read", &error),
        }
    }

    /// Opens the oldest file that another process has left, if anything in it is of our signals: what waits of that, in the order of the requests. `None` when
    /// there is none any more.
    pub(crate) fn adopt_next(&mut self, is_ours: impl Fn(Signal) -> bool) -> Option<Vec<Found>> {
        loop {
            let path = self.unopened.pop_front()?;
            let is_wanted = |heads: &[Head]| {
                heads.iter().all(|head| head.is_done) || heads.iter().any(|head| !head.is_done && is_ours(head.signal))
            };
            match Segment::adopt(&path) {
                Ok(Some((segment, heads))) if is_wanted(&heads) => {
                    return Some(self.take_over(segment, heads, is_ours));
                }
                Ok(Some(_)) => drop(self.foreign.insert(path)),
                Ok(None) => {} // whose it is lives, or another was quicker
                Err(error) => self.tell_failure("read", &error),
            }
        }
    }

    fn take_over(&mut self, segment: Segment, mut heads: Vec<Head>, is_ours: impl Fn(Signal) -> bool) -> Vec<Found> {
        tell_tail(&segment);
        let segment_id = self.next_id(false);
        self.segments.insert(segment_id, segment);
        self.end_if_done(segment_id);
        heads.retain(|head| !head.is_done);
        heads.sort_by_key(|head| head.number);
        let place = |head: &Head| Place { segment: segment_id, offset: head.offset };
        let found = heads.iter().map(|head| Found { signal: head.signal, records: head.records, place: place(head) });
        let (ours, others): (Vec<_>, Vec<_>) = found.partition(|found| is_ours(found.signal));
        self.others.extend(others);
        ours
    }

    /// Writes a request.
    pub(crate) fn append(&mut self, entry: &Entry, now: Instant) -> Result<Place, NoRoom> {
        if self.pause.is_some_and(|pause| now < pause) {
            return Err(NoRoom::Disk);
        }
        if self.segments.values().map(Segment::waiting).sum::<usize>() >= SPOOL_REQUESTS_MAX {
            return Err(self.full());
        }
        let bytes = entry_bytes(entry.body.len());
        let has_room = |id: &SegmentId| self.segments[id].bytes() + bytes <= self.segment_bytes();
        let segment_id = match self.current.filter(has_room) {
            Some(segment_id) => segment_id,
            None => self.begin(bytes, now)?,
        };
        match self.segments.get_mut(&segment_id).map(|segment| segment.append(entry)) {
            Some(Ok(offset)) => {
                (self.pause, self.is_failing) = (None, false);
                Ok(Place { segment: segment_id, offset })
            }
            Some(Err(error)) => Err(self.fail(&error, now)),
            None => Err(NoRoom::Disk), // the current one is among them
        }
    }

    /// The request of an entry.
    pub(crate) fn read(&mut self, place: Place) -> Option<Bytes> {
        let read = self.segments.get(&place.segment)?.read(place.offset);
        read.map_err(|error| self.tell_failure("read", &error)).ok()
    }

    /// Forgets an entry, since it need not be sent any more; a file without others is removed.
    pub(crate) fn mark_done(&mut self, place: Place) {
        let Some(segment) = self.segments.get_mut(&place.segment) else { return };
        if let Err(error) = segment.mark_done(place.offset) {
            self.tell_failure("write", &error); // a later process may send it again
        }
        self.end_if_done(place.segment);
    }

    /// Which file is the oldest.
    pub(crate) fn oldest(&mut self) -> Oldest {
        if let Some(place) = self.open_foreign() {
            return Oldest::Beside(place);
        }
        let first = self.segments.keys().next().map(|id| Place { segment: *id, offset: 0 });
        match first {
            Some(place) if place.is_taken_over() || self.unopened.is_empty() => Oldest::Beside(place),
            _ if !self.unopened.is_empty() => Oldest::Unopened,
            _ => Oldest::Nothing,
        }
    }

    /// Opens the oldest file of other signals, if no other of an earlier process is older.
    fn open_foreign(&mut self) -> Option<Place> {
        let is_older = |other: &Path, path: &Path| other.file_name() < path.file_name();
        while let Some(path) = self.foreign.pop_first() {
            let mut taken_over = self.segments.iter().filter(|(id, _)| !id.is_own);
            if taken_over.next().is_some_and(|(_, segment)| is_older(segment.path(), &path)) {
                self.foreign.insert(path);
                return None;
            }
            match Segment::adopt(&path) {
                Ok(Some((segment, heads))) => drop(self.take_over(segment, heads, |_| false)),
                Ok(None) => continue, // another was quicker
                Err(error) => self.tell_failure("read", &error),
            }
            let opened = self.segments.iter().rfind(|(id, segment)| !id.is_own && segment.path() == path);
            if let Some((id, _)) = opened {
                return Some(Place { segment: *id, offset: 0 });
            }
        }
        None
    }

    /// Removes the file with the entry at this place, whatever is in it: what of that is of signals that we do not export; `None` where it cannot be removed.
    pub(crate) fn drop_file(&mut self, place: Place, now: Instant) -> Option<Vec<Found>> {
        let removed = fs::remove_file(self.segments.get(&place.segment)?.path());
        if let Err(error) = removed.or_else(ignore_not_found) {
            self.fail(&error, now);
            return None;
        }
        if self.current == Some(place.segment) {
            self.current = None;
        }
        self.segments.remove(&place.segment);
        let (dropped, kept) =
            std::mem::take(&mut self.others).into_iter().partition(|other| other.place.is_beside(place));
        self.others = kept;
        Some(dropped)
    }

    /// Does not spare a disk that failed: it is the last time to write.
    pub(crate) fn try_again(&mut self) {
        self.pause = None;
    }

    /// Begins a file, if there is room for it to be filled and for an entry of so many bytes.
    fn begin(&mut self, bytes: u64, now: Instant) -> Result<SegmentId, NoRoom> {
        if bytes > self.spool.bytes_max {
            return Err(NoRoom::Full);
        }
        let used = make_folder(&self.folder).and_then(|()| self.bytes_without_damaged(bytes));
        let used = used.map_err(|error| self.fail(&error, now))?;
        if used + self.segment_bytes().max(bytes) > self.spool.bytes_max {
            return Err(self.full());
        }
        loop {
            let segment_id = self.next_id(true);
            let name = self.file_name(segment_id);
            let path = self.folder.join(name);
            if let Some(segment) = Segment::create(path).map_err(|error| self.fail(&error, now))? {
                self.segments.insert(segment_id, segment);
                self.current = Some(segment_id);
                return Ok(segment_id);
            }
        }
    }

    /// Another for each file, and the later the greater, also where the clock is set back.
    fn file_name(&mut self, segment_id: SegmentId) -> String {
        self.last_begun_millis = self.last_begun_millis.max(unix_nano(SystemTime::now()) / 1_000_000);
        format!("{:015}-{:08x}-{:06}.{SPOOL}", self.last_begun_millis, self.random, segment_id.number)
    }

    /// Whether all files together have no more bytes than they may: what is recovered from mapped ones is written without asking for that.
    pub(crate) fn is_within_cap(&self) -> bool {
        self.sum(SPOOL).is_ok_and(|used| used <= self.spool.bytes_max)
    }

    fn sum(&self, extension: &str) -> io::Result<u64> {
        Ok(files(&self.folder, extension)?.iter().map(|(_, bytes)| bytes).sum())
    }

    /// Bytes of all files. Damaged ones are removed where they are in the way of so many more.
    fn bytes_without_damaged(&self, bytes: u64) -> io::Result<u64> {
        let (used, damaged) = (self.sum(SPOOL)?, self.sum(DAMAGED)?);
        if used + damaged + self.segment_bytes().max(bytes) <= self.spool.bytes_max {
            return Ok(used + damaged);
        }
        files(&self.folder, DAMAGED)?.iter().try_for_each(|(path, _)| fs::remove_file(path))?;
        Ok(used)
    }

    fn full(&mut self) -> NoRoom {
        match self.spool.at_cap {
            AtCap::DropOldest => NoRoom::DropOldest,
            AtCap::RefuseNewest => {
                self.tell_failure("write", &io::Error::other("it is full"));
                NoRoom::Full
            }
        }
    }

    fn segment_bytes(&self) -> u64 {
        (self.spool.bytes_max / 8).min(SPOOL_FILE_BYTES_MAX)
    }

    fn next_id(&mut self, is_own: bool) -> SegmentId {
        self.segments_begun += 1;
        SegmentId { is_own, number: self.segments_begun }
    }

    fn end_if_done(&mut self, segment_id: SegmentId) {
        let others = self.others.iter().filter(|other| other.place.segment == segment_id).count();
        let waiting = self.segments.get(&segment_id).map_or(0, Segment::waiting);
        if others > 0 && waiting == others {
            let left = self.segments.remove(&segment_id); // so that a process that exports these can take it over
            self.foreign.extend(left.map(|segment| segment.path().to_owned()));
            self.others.retain(|other| other.place.segment != segment_id);
        }
        if self.segments.get(&segment_id).is_none_or(|segment| segment.waiting() > 0) {
            return;
        }
        if self.current == Some(segment_id) {
            self.current = None;
        }
        let ended = self.segments.remove(&segment_id).map_or(Ok(()), Segment::end);
        if let Err(error) = ended.and_then(|()| remove_oldest_damaged(&self.folder)) {
            self.tell_failure("write", &error);
        }
    }

    fn fail(&mut self, error: &io::Error, now: Instant) -> NoRoom {
        self.pause = Some(now + PAUSE);
        self.tell_failure("write", error);
        NoRoom::Disk
    }

    /// Tells an error once, until something is written again.
    fn tell_failure(&mut self, what: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let folder = self.folder.display();
            tell::error(format_args!("cannot {what} the spool in `{folder}`, what waits stays in memory: {error}"));
        }
    }
}

fn tell_tail(segment: &Segment) {
    let path = segment.path().display();
    match segment.tail() {
        Tail::Nothing => {}
        Tail::CutOff(bytes) => {
            tell::warn(format_args!(
                "`{path}` ends in the midst of a request: {bytes} bytes are lost, the others are sent"
            ));
        }
        Tail::Damaged(bytes) => {
            tell::error(format_args!(
                "`{path}` is damaged: its last {bytes} bytes are lost, it is kept as `.{DAMAGED}`"
            ));
        }
    }
}

/// Where what is of a service is.
pub(super) fn service_folder(folder: &Path, service_name: &str) -> PathBuf {
    folder.join(folder_name(service_name))
}

/// A name in it that no other file has, and the greater the later.
pub(super) fn new_path(folder: &Path, extension: &str) -> PathBuf {
    let millis = unix_nano(SystemTime::now()) / 1_000_000;
    let process = std::process::id(); // a forked child has its parent's random numbers
    folder.join(format!("{millis:015}-{process:07}-{:08x}.{extension}", fastrand::u32(..)))
}

/// For this user alone, with the folders above it as the process's umask wants them.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    folder.parent().map_or(Ok(()), fs::create_dir_all)?;
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()), // another process was quicker
        made => made,
    }
}

/// Path and length of the files whose name ends so, sorted by name.
pub(super) fn files(folder: &Path, extension: &str) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_wanted = path.extension().is_some_and(|found| found == extension);
        match fs::metadata(&path) {
            Ok(metadata) if is_wanted && metadata.is_file() => files.push((path, metadata.len())),
            _ => {} // removed meanwhile, or none of ours
        }
    }
    files.sort();
    Ok(files)
}

/// What is not there need not be removed.
pub(super) fn ignore_not_found(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn remove_oldest_damaged(folder: &Path) -> io::Result<()> {
    let damaged = files(folder, DAMAGED)?;
    let too_many = damaged.len().saturating_sub(DAMAGED_FILES_MAX);
    damaged[..too_many].iter().try_for_each(|(path, _)| fs::remove_file(path))
}

/// A name that is one of a file, and another for each service.
fn folder_name(service_name: &str) -> String {
    let mut name = String::new();
    for byte in service_name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if !name.is_empty() => name.push('.'),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name.truncate(FOLDER_NAME_BYTES_MAX);
    if name.is_empty() { "%".to_owned() } else { name }
}

/// What a file's name ends with.
pub(super) const SPOOL: &str = "spool";

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, body_bytes: usize) -> Entry {
        Entry { signal: Signal::Logs, records: 1, number, body: vec![0; body_bytes].into() }
    }

    #[test]
    fn it_holds_so_many_requests_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&Spool::in_dir(folder.path()).refuse_newest(), "checkout");
        let now = Instant::now();
        let append = |store: &mut Store, number| store.append(&entry(number, 0), now);
        let first = append(&mut store, 0).unwrap();
        (1..SPOOL_REQUESTS_MAX as u64).for_each(|i| assert!(append(&mut store, i).is_ok()));
        assert_eq!(append(&mut store, 0), Err(NoRoom::Full));
        store.mark_done(first);
        assert!(append(&mut store, 0).is_ok());
    }

    #[test]
    fn the_oldest_file_is_another_processs_before_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::in_dir(folder.path()).bytes_max(8 * 1024);
        let now = Instant::now();
        let mut earlier = Store::open(&spool, "checkout");
        earlier.append(&entry(0, 900), now).unwrap();
        drop(earlier);
        let mut store = Store::open(&spool, "checkout");
        let own = (0..).map_while(|i| store.append(&entry(i, 900), now).ok()).count();
        assert_eq!((own, store.oldest()), (7, Oldest::Unopened), "the eighth has no room");
        let found = store.adopt_next(|_| true).unwrap();
        assert_eq!((found.len(), store.oldest()), (1, Oldest::Beside(Place { offset: 0, ..found[0].place })));
        assert_eq!(store.drop_file(found[0].place, now), Some(vec![]));
        assert!(store.append(&entry(9, 900), now).is_ok());
        assert!(matches!(store.oldest(), Oldest::Beside(place) if !place.is_taken_over()));
    }

    #[test]
    fn files_of_signals_that_nobody_exports_any_more_give_way_before_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::in_dir(folder.path()).bytes_max(8 * 1024);
        let now = Instant::now();
        let mut earlier = Store::open(&spool, "checkout");
        let span = |number| Entry { signal: Signal::Traces, ..entry(number, 900) };
        assert_eq!((0..).map_while(|i| earlier.append(&span(i), now).ok()).count(), 8);
        drop(earlier);
        let mut store = Store::open(&spool, "checkout");
        assert_eq!(store.adopt_next(|signal| signal == Signal::Logs), None);
        let mut dropped = Vec::new();
        for i in 0..8 {
            while let Err(no_room) = store.append(&entry(i, 900), now) {
                let Oldest::Beside(place) = store.oldest() else { panic!("{no_room:?}") };
                dropped.extend(store.drop_file(place, now).unwrap());
            }
        }
        assert_eq!((dropped.len(), dropped.iter().all(|found| found.signal == Signal::Traces)), (8, true));
        assert!(
            matches!(store.oldest(), Oldest::Beside(place) if !place.is_taken_over()),
            "all eight of our own are there"
        );
    }

    #[test]
    fn a_request_that_never_fits_drops_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&Spool::in_dir(folder.path()).bytes_max(8 * 1024), "checkout");
        assert_eq!(store.append(&entry(0, 9000), Instant::now()), Err(NoRoom::Full));
    }

    #[test]
    fn names_of_folders() {
        let names =
            [("checkout", "checkout"), ("a/b", "a%2Fb"), ("..", "%2E."), ("", "%"), ("%", "%25"), ("é", "%C3%A9")];
        for (service, folder) in names {
            assert_eq!(folder_name(service), folder);
        }
        assert_eq!(folder_name(&"x".repeat(1000)).len(), FOLDER_NAME_BYTES_MAX);
    }
}
