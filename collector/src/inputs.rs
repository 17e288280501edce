//! Files of records: those of a folder and of the folders in it, compressed ones, and stdin.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What records are read from, each input once, however often it is named.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    inputs: Vec<Input>,
    known: BTreeSet<PathBuf>,
}

impl Inputs {
    /// Adds a file, the files of a folder, or stdin, which is `-`.
    pub(crate) fn add(&mut self, path: &Path) -> Result<(), String> {
        if path == Path::new(STDIN) {
            if self.known.insert(path.to_owned()) {
                let mut bytes = Vec::new();
                let read = io::stdin().lock().read_to_end(&mut bytes);
                read.map_err(|error| format!("cannot read stdin: {error}"))?;
                self.inputs.push(Input { name: "stdin".to_owned(), content: Content::Bytes(bytes.into()) });
            }
            return Ok(());
        }
        if path.is_dir() {
            return self.add_folder(path);
        }
        let name = path.display().to_string();
        let error = |error: io::Error| format!("cannot read `{name}`: {error}");
        if !fs::metadata(path).map_err(error)?.is_file() {
            let bytes = fs::read(path).map_err(error)?; // a pipe: it cannot be read again
            self.inputs.push(Input { name, content: Content::Bytes(bytes.into()) });
        } else if self.known.insert(path.canonicalize().map_err(error)?) {
            self.inputs.push(Input { name, content: Content::File(path.to_owned()) });
        }
        Ok(())
    }

    fn add_folder(&mut self, path: &Path) -> Result<(), String> {
        let mut files = files_below(path)?.into_iter().filter(|path| path.is_file());
        files.try_for_each(|path| self.add(&path))
    }

    pub(crate) fn into_vec(self) -> Vec<Input> {
        self.inputs
    }
}

/// The files of a folder and of those in it, in the order of their names; what is hidden is left out, and a link to a folder, which may
/// lead back.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let error = |error: io::Error| format!("cannot read the folder `{}`: {error}", folder.display());
    let mut entries = fs::read_dir(folder).map_err(error)?.collect::<Result<Vec<_>, _>>().map_err(error)?;
    entries.sort_by_key(|entry| entry.file_name());
    let mut files = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b".")) {
        let path = entry.path();
        if entry.file_type().map_err(error)?.is_dir() {
            files.extend(files_below(&path)?);
        } else if !path.is_dir() {
            files.push(path);
        }
    }
    Ok(files)
}

/// A file, or what came by stdin.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    File(PathBuf),
    Bytes(Rc<[u8]>),
}

impl Input {
    /// How many bytes it takes where it lies, compressed as it is there.
    pub(crate) fn size(&self) -> u64 {
        match &self.content {
            Content::File(path) => fs::metadata(path).map_or(0, |metadata| metadata.len()),
            Content::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Its bytes, decompressed where they begin like gzip's or zstd's; how many were read of it where it lies is added to `read`.
    pub(crate) fn open(&self, read: &Rc<Cell<u64>>) -> Result<Box<dyn Read>, String> {
        let read = Rc::clone(read);
        let opened = match &self.content {
            Content::File(path) => {
                File::open(path).and_then(|inner| decompressed(BufReader::new(Counted { inner, read })))
            }
            Content::Bytes(bytes) => {
                let inner = io::Cursor::new(Rc::clone(bytes));
                decompressed(BufReader::new(Counted { inner, read }))
            }
        };
        opened.map_err(|error| self.unreadable(&error))
    }

    /// All of its bytes.
    pub(crate) fn read(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        self.open(&Rc::default())?.read_to_end(&mut bytes).map_err(|error| self.unreadable(&error))?;
        Ok(bytes)
    }

    pub(crate) fn unreadable(&self, error: &io::Error) -> String {
        format!("cannot read `{}`: {error}", self.name)
    }
}

fn decompressed(mut input: impl BufRead + 'static) -> io::Result<Box<dyn Read>> {
    Ok(match input.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        _ => Box::new(input),
    })
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

const STDIN: &str = "-";
