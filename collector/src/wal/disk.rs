//! What the log needs of a disk, and the real one.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A directory of files.
pub trait Disk: Send + Sync + 'static {
    /// One of its files.
    type File: DiskFile;

    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file that is there, to read and to write.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Makes a file with room for that many bytes, empty where there is one already. The name is durable on return, and the room is taken.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Self::File>;

    /// Removes a file; one that is open stays readable.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync + 'static {
    /// Its length.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads as much as there is and fits; less only at the file's end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes the parts one behind the other; readers see them on return.
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes durable what was written. After an error what became of it cannot be known, and asking again tells nothing.
    fn sync(&self) -> io::Result<()>;
}

/// Reads as [`DiskFile::read_at`] does, but around what the disk cannot give: such pages are zeros, which the checksum of no frame and
/// no header survives.
pub(super) fn read_what_can_be<F: DiskFile>(file: &F, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    match file.read_at(buffer, offset) {
        Err(error) if is_unreadable(&error) => {}
        result => return result,
    }
    let mut done = 0;
    while done < buffer.len() {
        let page_end = next_page(offset + done as u64) - offset;
        let end = buffer.len().min(page_end as usize);
        let page = &mut buffer[done..end];
        match file.read_at(page, offset + done as u64) {
            Ok(count) if count < page.len() => return Ok(done + count),
            Ok(_) => {}
            Err(error) if is_unreadable(&error) => page.fill(0),
            Err(error) => return Err(error),
        }
        done = end;
    }
    Ok(done)
}

/// Whether the disk has lost what was to be read, so that another try will not get it.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Where the page behind the one with that offset begins: one bad sector takes its whole page from a reader.
pub(super) fn next_page(offset: u64) -> u64 {
    (offset / PAGE_BYTES + 1) * PAGE_BYTES
}

const PAGE_BYTES: u64 = 4096;

/// A directory of the machine's file system.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
}

impl RealDisk {
    /// Opens a directory, making it where it is not there.
    pub fn open(directory: &Path) -> io::Result<Self> {
        make_folder(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// Makes a folder and those above it where they are not there. Their names are durable on return.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(parent)?;
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        result => result.and_then(|()| File::open(parent)?.sync_all()),
    }
}

impl Disk for RealDisk {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.directory)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.directory.join(name))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<File> {
        let path = self.directory.join(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        if bytes > 0 {
            preallocate(&file, bytes).inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        }
        file.sync_all()?;
        self.sync_names()?;
        Ok(file)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.directory.join(name))?;
        self.sync_names()
    }
}

impl DiskFile for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match FileExt::read_at(self, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        while !parts.is_empty() {
            let some = &parts[..parts.len().min(PARTS_PER_CALL_MAX)];
            match rustix::io::pwritev(self, some, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    offset += count as u64;
                    IoSlice::advance_slices(&mut parts, count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The system's `IOV_MAX`.
const PARTS_PER_CALL_MAX: usize = 1024;

fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // Some file systems (NFS, FUSE) have no fallocate: a hole serves, only a full disk is then found later.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(bytes),
        Err(error) => Err(error.into()),
    }
}
