//! What a sink writes to.

use std::io::{self, Write};
#[cfg(unix)]
use std::os::unix::net::UnixDatagram;
#[cfg(unix)]
use std::sync::Arc;
#[cfg(unix)]
use std::time::Duration;

#[cfg(unix)]
use opentelemetry::KeyValue;

use super::format::Formatter;
#[cfg(unix)]
use super::format::datagram;
use super::{Callback as Function, Record};

/// Takes records one by one. What [`write`](Self::write) took is written after the next [`flush`](Self::flush) at the latest.
pub(super) trait Output: Send {
    /// Makes ready for a record; whether what was taken before has to be flushed first.
    fn prepare(&mut self, _: &Record<'_>) -> bool {
        false
    }

    /// Takes a record; an error is about this one alone.
    fn write(&mut self, record: &Record<'_>) -> io::Result<()>;

    /// Whether there is enough for a flush.
    fn is_full(&self) -> bool {
        false
    }

    /// Writes what was taken; after an error all of it counts as lost.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of lines (64 KiB) that are written at a time.
pub(super) const LINES_BYTES: usize = 64 * 1024;

/// Lines to stderr or stdout.
pub(super) struct Stream<W> {
    formatter: Formatter,
    lines: String,
    stream: W,
}

impl<W: Write> Stream<W> {
    pub(super) fn new(formatter: Formatter, stream: W) -> Self {
        Self { formatter, lines: String::new(), stream }
    }
}

impl<W: Write + Send> Output for Stream<W> {
    fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.formatter.put_line(&mut self.lines, record);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= LINES_BYTES
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.stream.write_all(self.lines.as_bytes()).and_then(|()| self.stream.flush());
        self.lines.clear();
        self.lines.shrink_to(LINES_BYTES);
        written
    }
}

/// A function of the service's own.
pub(super) struct Callback(pub(super) Function);

impl Output for Callback {
    fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        (self.0)(record);
        Ok(())
    }
}

/// A datagram for each record, to a local socket.
#[cfg(unix)]
pub(super) struct Datagrams {
    path: String,
    socket: Option<UnixDatagram>,
    format: fn(&mut Vec<u8>, &Record<'_>, &[KeyValue]),
    resource: Arc<[KeyValue]>,
    datagram: Vec<u8>,
    /// Whether the other end read nothing for a while: it is not waited for again until it does.
    is_stuck: bool,
}

/// How long a full socket is waited for (100 ms), once.
#[cfg(unix)]
const SOCKET_TIMEOUT: Duration = Duration::from_millis(100);

#[cfg(unix)]
impl Datagrams {
    pub(super) fn syslog(path: &str, resource: &Arc<[KeyValue]>) -> Self {
        Self::new(path, datagram::put_syslog, resource)
    }

    pub(super) fn journald(path: &str, resource: &Arc<[KeyValue]>) -> Self {
        Self::new(path, datagram::put_journal_entry, resource)
    }

    fn new(path: &str, format: fn(&mut Vec<u8>, &Record<'_>, &[KeyValue]), resource: &Arc<[KeyValue]>) -> Self {
        let resource = Arc::clone(resource);
        Self { path: path.to_owned(), socket: None, format, resource, datagram: Vec::new(), is_stuck: false }
    }

    /// Connects anew where the other end is another than before: a logger that was started again.
    fn send(&mut self) -> io::Result<()> {
        let is_new = self.socket.is_none();
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(connect(&self.path)?),
        };
        socket.set_nonblocking(self.is_stuck)?;
        match socket.send(&self.datagram) {
            Ok(_) => {
                self.is_stuck = false;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_stuck = true;
                Err(io::Error::new(error.kind(), "the other end does not read"))
            }
            Err(error) if is_new || error.raw_os_error() == Some(libc::EMSGSIZE) => Err(error),
            Err(_) => {
                self.socket = None;
                self.send()
            }
        }
    }
}

#[cfg(unix)]
fn connect(path: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(SOCKET_TIMEOUT))?;
    Ok(socket)
}

#[cfg(unix)]
impl Output for Datagrams {
    fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.datagram.clear();
        (self.format)(&mut self.datagram, record, &self.resource);
        let sent = self.send();
        if sent.is_err() && !self.is_stuck {
            self.socket = None;
        }
        sent
    }
}
