//! A file of the spool.
//!
//! # Layout
//!
//! Numbers are little-endian. Eight bytes name the format, then comes entry after entry:
//!
//! | bytes | |
//! |---|---|
//! | 1 | state: `W` waiting, `D` done; written again in place, and not part of the checksum |
//! | 1 | signal: 0 logs, 1 traces, 2 metrics |
//! | 2 | zero |
//! | 4 | length of the request |
//! | 8 | records in it |
//! | 8 | its number: the order in which the process made it |
//! | 4 | CRC-32 of the request |
//! | 4 | CRC-32 of all between the state and this |
//! | | the request: an `Export{Logs,Trace,Metrics}ServiceRequest`, as it is sent |
//!
//! # Recovery
//!
//! Entries are taken up to the first that is not whole. An append is one write, so that a crash leaves a beginning of an entry at the very end: that is
//! left out. Anything else that is not whole is damage, and whatever follows it is lost, since nothing says where the next entry begins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::flock::try_lock;
use crate::config::Signal;

pub(super) const MAGIC: &[u8; 8] = b"WBSPOOL1";
const HEAD_BYTES: usize = 32;
const WAITING: u8 = b'W';
const DONE: u8 = b'D';

/// A request, as it is written and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) signal: Signal,
    pub(crate) records: u64,
    pub(crate) number: u64,
    pub(crate) body: Bytes,
}

/// An entry that was found, but for its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) signal: Signal,
    pub(super) records: u64,
    pub(super) number: u64,
    pub(super) offset: u64,
    pub(super) is_done: bool,
}

/// What follows the last whole entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Nothing,
    /// The beginning of an entry, of so many bytes.
    CutOff(u64),
    /// So many bytes, of which nobody knows what they are.
    Damaged(u64),
}

/// A file that is locked and open.
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    bytes: u64,
    waiting: usize,
    tail: Tail,
}

impl Segment {
    /// A new file; `path` must not be there. `None` if another process took it over before it was locked.
    pub(super) fn create(path: PathBuf) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.read(true).write(true).create_new(true).open(&path)?;
        let is_locked = try_lock(&file).inspect_err(|_| drop(fs::remove_file(&path)))?;
        if !is_locked || !is_at(&file, &path) {
            return Ok(None);
        }
        if let Err(error) = file.write_all(MAGIC) {
            let _ = fs::remove_file(&path); // the error that counts is the first
            return Err(error);
        }
        Ok(Some(Self { file, path, bytes: MAGIC.len() as u64, waiting: 0, tail: Tail::Nothing }))
    }

    /// Takes over a file that another process left; `None` if it is in use, or gone meanwhile.
    pub(super) fn adopt(path: &Path) -> io::Result<Option<(Self, Vec<Head>)>> {
        let Some(file) = open_left(path)? else { return Ok(None) };
        let len = file.metadata()?.len();
        let (heads, tail) = scan(BufReader::new(&file), len)?;
        let waiting = heads.iter().filter(|head| !head.is_done).count();
        Ok(Some((Self { file, path: path.to_owned(), bytes: len, waiting, tail }, heads)))
    }

    /// Appends an entry to a file of our own, and says where it is. After an error the file is as it was.
    pub(super) fn append(&mut self, entry: &Entry) -> io::Result<u64> {
        let offset = self.bytes;
        let mut bytes = head(entry).to_vec();
        bytes.extend_from_slice(&entry.body);
        if let Err(error) = self.write_at(offset, &bytes) {
            let _ = self.file.set_len(offset); // what is left of it would be cut off later, too
            return Err(error);
        }
        self.bytes += bytes.len() as u64;
        self.waiting += 1;
        Ok(offset)
    }

    /// The request of an entry, if it is still whole.
    pub(super) fn read(&self, offset: u64) -> io::Result<Bytes> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "an entry is damaged");
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        let left = self.bytes.saturating_sub(offset);
        match read_entry(&mut file, left)? {
            Reading::Whole(_, body) => Ok(body.into()),
            Reading::CutOff | Reading::Damaged => Err(damaged()),
        }
    }

    /// Notes that an entry need not be sent any more.
    pub(super) fn mark_done(&mut self, offset: u64) -> io::Result<()> {
        self.waiting -= 1;
        self.write_at(offset, &[DONE])
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.write_all(bytes)
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many entries are not done.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn tail(&self) -> Tail {
        self.tail
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the file: it is removed, or put aside where it is damaged.
    pub(super) fn end(self) -> io::Result<()> {
        match self.tail {
            Tail::Damaged(_) => fs::rename(&self.path, self.path.with_extension(DAMAGED)),
            Tail::Nothing | Tail::CutOff(_) => fs::remove_file(&self.path),
        }
    }
}

/// What a damaged file's name ends with.
pub(super) const DAMAGED: &str = "damaged";

/// Opens and locks a file that another process left; `None` if it is in use, or gone meanwhile.
pub(super) fn open_left(path: &Path) -> io::Result<Option<File>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(if try_lock(&file)? && is_at(&file, path) { Some(file) } else { None })
}

/// Whether the path still leads to the file: who had it before may have removed it meanwhile.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let is_same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().and_then(|open| Ok(is_same(open, fs::metadata(path)?))).unwrap_or(false)
}

#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Bytes that an entry with a request of so many takes.
pub(super) fn entry_bytes(body_bytes: usize) -> u64 {
    (HEAD_BYTES + body_bytes) as u64
}

fn head(entry: &Entry) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[0] = WAITING;
    head[1] = entry.signal as u8;
    head[4..8].copy_from_slice(&(entry.body.len() as u32).to_le_bytes());
    head[8..16].copy_from_slice(&entry.records.to_le_bytes());
    head[16..24].copy_from_slice(&entry.number.to_le_bytes());
    head[24..28].copy_from_slice(&crc32fast::hash(&entry.body).to_le_bytes());
    let checksum = crc32fast::hash(&head[1..28]);
    head[28..].copy_from_slice(&checksum.to_le_bytes());
    head
}

/// All whole entries of a file of `len` bytes.
fn scan(mut file: impl Read, len: u64) -> io::Result<(Vec<Head>, Tail)> {
    let mut heads = Vec::new();
    let mut magic = [0; MAGIC.len()];
    let mut offset = len.min(MAGIC.len() as u64);
    let begun = &mut magic[..offset as usize];
    file.read_exact(begun)?;
    if *begun != MAGIC[..begun.len()] {
        return Ok((heads, Tail::Damaged(len)));
    }
    while offset < len {
        match read_entry(&mut file, len - offset)? {
            Reading::Whole(head, body) => {
                heads.push(Head { offset, ..head });
                offset += entry_bytes(body.len());
            }
            Reading::CutOff => return Ok((heads, Tail::CutOff(len - offset))),
            Reading::Damaged => return Ok((heads, Tail::Damaged(len - offset))),
        }
    }
    Ok((heads, Tail::Nothing))
}

/// What stands where an entry should.
enum Reading {
    Whole(Head, Vec<u8>),
    CutOff,
    Damaged,
}

/// Reads an entry, of a file in which so many bytes are left.
fn read_entry(file: &mut impl Read, left: u64) -> io::Result<Reading> {
    let mut head = [0; HEAD_BYTES];
    let Some(body_left) = left.checked_sub(HEAD_BYTES as u64) else { return Ok(Reading::CutOff) };
    file.read_exact(&mut head)?;
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let half = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let signal = Signal::ALL.into_iter().find(|signal| *signal as u8 == head[1]);
    let (Some(signal), WAITING | DONE) = (signal, head[0]) else { return Ok(Reading::Damaged) };
    if crc32fast::hash(&head[1..28]) != half(28) {
        return Ok(Reading::Damaged);
    }
    if u64::from(half(4)) > body_left {
        return Ok(Reading::CutOff);
    }
    let mut body = vec![0; half(4) as usize];
    file.read_exact(&mut body)?;
    if crc32fast::hash(&body) != half(24) {
        return Ok(Reading::Damaged);
    }
    let found = Head { signal, records: number(8), number: number(16), offset: 0, is_done: head[0] == DONE };
    Ok(Reading::Whole(found, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(number: u64, body: Vec<u8>) -> Entry {
        Entry { signal: Signal::ALL[number as usize % 3], records: number + 7, number, body: body.into() }
    }

    /// A file is a list of entries, each of which waits or is done.
    #[derive(Clone, Debug)]
    enum Step {
        Append(Vec<u8>),
        /// The entry of this place among those that wait, counted around.
        MarkDone(usize),
        /// The process ends, and another takes over.
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Append),
            2 => (0..10usize).prop_map(Step::MarkDone),
            1 => Just(Step::Restart),
        ];
        prop::collection::vec(step, 1..20)
    }

    proptest! {
        #[test]
        fn a_file_is_what_a_list_of_entries_is(steps in steps()) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.spool");
            let mut segment = Segment::create(path.clone()).unwrap().unwrap();
            let mut model: Vec<(u64, Entry, bool)> = Vec::new();
            for (number, step) in (0..).zip(steps) {
                match step {
                    Step::Append(body) => {
                        let entry = entry(number, body);
                        model.push((segment.append(&entry).unwrap(), entry, false));
                    }
                    Step::MarkDone(i) => {
                        let mut waiting: Vec<_> = model.iter_mut().filter(|(.., is_done)| !is_done).collect();
                        let len = waiting.len();
                        let Some((offset, _, is_done)) = (len > 0).then(|| &mut waiting[i % len]) else { continue };
                        segment.mark_done(*offset).unwrap();
                        *is_done = true;
                    }
                    Step::Restart => {
                        drop(segment);
                        segment = Segment::adopt(&path).unwrap().expect("a file that nobody uses").0;
                    }
                }
                prop_assert_eq!(segment.waiting(), model.iter().filter(|(.., is_done)| !is_done).count());
                for (offset, entry, _) in &model {
                    prop_assert_eq!(&segment.read(*offset).unwrap(), &entry.body);
                }
            }
            drop(segment);
            each_beginning_holds_its_whole_entries(&std::fs::read(&path).unwrap(), &model)?;
        }
    }

    /// A crash at any byte.
    fn each_beginning_holds_its_whole_entries(bytes: &[u8], model: &[(u64, Entry, bool)]) -> Result<(), TestCaseError> {
        for end in 0..=bytes.len() {
            let (heads, tail) = scan(&bytes[..end], end as u64).unwrap();
            let whole = |(offset, entry, _): &&(u64, Entry, bool)| offset + entry_bytes(entry.body.len()) <= end as u64;
            let whole: Vec<_> = model.iter().take_while(whole).collect();
            prop_assert_eq!(heads.len(), whole.len());
            for (head, (offset, entry, is_done)) in heads.iter().zip(&whole) {
                let expected = (entry.signal, entry.records, entry.number, *offset, *is_done);
                prop_assert_eq!((head.signal, head.records, head.number, head.offset, head.is_done), expected);
            }
            let left =
                whole.last().map_or(MAGIC.len(), |(offset, entry, _)| *offset as usize + HEAD_BYTES + entry.body.len());
            let left = end.saturating_sub(left) as u64;
            prop_assert_eq!(tail, if left == 0 { Tail::Nothing } else { Tail::CutOff(left) });
        }
        Ok(())
    }

    #[test]
    fn a_changed_byte_never_gives_another_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.spool");
        let mut segment = Segment::create(path.clone()).unwrap().unwrap();
        let entries = [entry(0, b"first".to_vec()), entry(1, b"second".to_vec())];
        entries.iter().for_each(|entry| assert!(segment.append(entry).is_ok()));
        drop(segment);
        let bytes = std::fs::read(&path).unwrap();
        for (i, bit) in (0..bytes.len()).flat_map(|i| (0..8).map(move |bit| (i, 1 << bit))) {
            let mut changed = bytes.clone();
            changed[i] ^= bit;
            let (heads, tail) = scan(&changed[..], changed.len() as u64).unwrap();
            let numbers: Vec<_> = heads.iter().map(|head| (head.number, head.records, head.is_done)).collect();
            let all = [(0, 7, false), (1, 8, false)];
            assert_eq!(numbers, all[..numbers.len()], "byte {i}");
            assert!(numbers.len() < 2 && matches!(tail, Tail::Damaged(_)), "byte {i} does not matter");
        }
    }

    #[test]
    fn a_file_in_use_is_not_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.spool");
        let mut segment = Segment::create(path.clone()).unwrap().unwrap();
        segment.append(&entry(0, b"request".to_vec())).unwrap();
        assert!(Segment::adopt(&path).unwrap().is_none());
        drop(segment);
        let (segment, heads) = Segment::adopt(&path).unwrap().expect("a file that nobody uses");
        assert_eq!(heads.len(), 1);
        segment.end().unwrap();
        assert!(Segment::adopt(&path).unwrap().is_none(), "it is gone");
    }

    #[test]
    fn what_was_cut_off_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.spool");
        let mut segment = Segment::create(path.clone()).unwrap().unwrap();
        let offset = segment.append(&entry(0, b"whole".to_vec())).unwrap();
        segment.append(&entry(1, b"cut off".to_vec())).unwrap();
        segment.file.set_len(segment.bytes() - 3).unwrap();
        drop(segment);
        let (mut segment, heads) = Segment::adopt(&path).unwrap().unwrap();
        assert_eq!((heads.len(), segment.tail()), (1, Tail::CutOff(entry_bytes(7) - 3)));
        assert_eq!(&segment.read(offset).unwrap()[..], b"whole");
        segment.mark_done(offset).unwrap();
        assert_eq!(segment.waiting(), 0);
    }
}
