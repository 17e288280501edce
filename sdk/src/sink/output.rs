//! What a sink writes to.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
#[cfg(unix)]
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;

use super::format::{Formatter, datagram};
use super::{Callback as Function, Record};
use crate::caught::caught;
use crate::limits::count_cut;

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
        caught(|| (self.0)(record)).ok_or_else(panicked)
    }
}

/// What became of a record that a function of the service's own panicked over.
pub(super) fn panicked() -> io::Error {
    io::Error::other("the service's own function panicked")
}

/// A datagram for each record.
pub(super) struct Datagrams {
    to: To,
    socket: Option<Socket>,
    format: Format,
    resource: Arc<[KeyValue]>,
    datagram: Vec<u8>,
    /// Whether the other end read nothing for a while: it is not waited for again until it does.
    is_stuck: bool,
    pause: Pause,
}

/// Writes a record of which no text has more than so many bytes.
type Format = fn(&mut Vec<u8>, &Record<'_>, &[KeyValue], usize);

/// Longest texts of a record that is more than the socket takes (8 KiB, then 256 B): they are cut.
const CUT_TEXT_BYTES_MAX: [usize; 2] = [8 * 1024, 256];

enum To {
    #[cfg(unix)]
    Path(String),
    Address(String),
}

enum Socket {
    #[cfg(unix)]
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

/// How long a full socket is waited for (100 ms), once.
const SOCKET_TIMEOUT: Duration = Duration::from_millis(100);

impl Datagrams {
    #[cfg(unix)]
    pub(super) fn syslog(path: &str, resource: &Arc<[KeyValue]>) -> Self {
        Self::new(To::Path(path.to_owned()), datagram::put_syslog, resource)
    }

    #[cfg(unix)]
    pub(super) fn journald(path: &str, resource: &Arc<[KeyValue]>) -> Self {
        Self::new(To::Path(path.to_owned()), datagram::put_journal_entry, resource)
    }

    pub(super) fn syslog_udp(address: &str, resource: &Arc<[KeyValue]>) -> Self {
        Self::new(To::Address(address.to_owned()), datagram::put_syslog, resource)
    }

    fn new(to: To, format: Format, resource: &Arc<[KeyValue]>) -> Self {
        let (resource, pause) = (Arc::clone(resource), Pause::default());
        Self { to, socket: None, format, resource, datagram: Vec::new(), is_stuck: false, pause }
    }

    fn send_cut(&mut self, record: &Record<'_>, bytes_max: usize) -> io::Result<()> {
        self.datagram.clear();
        (self.format)(&mut self.datagram, record, &self.resource, bytes_max);
        self.send()
    }

    /// Connects anew where the other end is another than before: a logger that was started again.
    fn send(&mut self) -> io::Result<()> {
        let is_new = self.socket.is_none();
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(self.to.connect(&mut self.pause)?),
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
            Err(error) if is_new || is_too_much(&error) => Err(error),
            Err(_) => {
                self.socket = None;
                self.send()
            }
        }
    }
}

/// Whether the datagram is more than the socket takes.
fn is_too_much(error: &io::Error) -> bool {
    const WSAEMSGSIZE: i32 = 10040;
    error.raw_os_error() == Some(if cfg!(windows) { WSAEMSGSIZE } else { libc::EMSGSIZE })
}

impl To {
    fn connect(&self, pause: &mut Pause) -> io::Result<Socket> {
        match self {
            #[cfg(unix)]
            Self::Path(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(SOCKET_TIMEOUT))?;
                Ok(Socket::Unix(socket))
            }
            Self::Address(address) => pause.unless_failed(address, |address| {
                let any =
                    if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
                let socket = UdpSocket::bind((any, 0))?;
                socket.connect(address)?;
                socket.set_write_timeout(Some(SOCKET_TIMEOUT))?;
                Ok(Socket::Udp(socket))
            }),
        }
    }
}

impl Socket {
    fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        match self {
            #[cfg(unix)]
            Self::Unix(socket) => socket.send(datagram),
            Self::Udp(socket) => socket.send(datagram),
        }
    }

    fn set_nonblocking(&self, is_nonblocking: bool) -> io::Result<()> {
        match self {
            #[cfg(unix)]
            Self::Unix(socket) => socket.set_nonblocking(is_nonblocking),
            Self::Udp(socket) => socket.set_nonblocking(is_nonblocking),
        }
    }
}

/// Tries each address that a host and port stand for; the last error if none is good.
fn first_that_works<T>(host: &str, connect: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let nothing = Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    host.to_socket_addrs()?.fold(nothing, |found, address| found.or_else(|_| connect(address)))
}

/// How long it is not tried again to connect over the network after that has failed (1 s): each try may take a name's resolution, and a second for each address.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Until when it is not tried again to connect.
#[derive(Default)]
struct Pause(Option<Instant>);

impl Pause {
    fn begin(&mut self) {
        self.0 = Some(Instant::now() + RECONNECT_DELAY);
    }

    /// Connects to a host and port, or fails at once where that has just failed.
    fn unless_failed<T>(&mut self, host: &str, connect: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
        if self.0.is_some_and(|until| Instant::now() < until) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "not connected; it is tried again in a second"));
        }
        first_that_works(host, connect).inspect_err(|_| self.begin())
    }
}

impl Output for Datagrams {
    fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        let is_too_much = |sent: &io::Result<()>| sent.as_ref().is_err_and(is_too_much);
        let mut sent = self.send_cut(record, usize::MAX);
        for bytes_max in CUT_TEXT_BYTES_MAX {
            if is_too_much(&sent) {
                sent = self.send_cut(record, bytes_max);
                if sent.is_ok() {
                    count_cut(); // once, however often it was tried
                }
            }
        }
        if sent.is_err() && !self.is_stuck {
            self.socket = None;
        }
        sent
    }
}

/// syslog over TCP: `17 <14>1 2026-...`, each message behind its length.
pub(super) struct SyslogStream {
    address: String,
    stream: Option<TcpStream>,
    pause: Pause,
    resource: Arc<[KeyValue]>,
    message: Vec<u8>,
    messages: Vec<u8>,
}

/// How long a connection may take, and a full one is waited for (1 s).
const STREAM_TIMEOUT: Duration = Duration::from_secs(1);

impl SyslogStream {
    pub(super) fn new(address: &str, resource: &Arc<[KeyValue]>) -> Self {
        let (pause, message, messages) = (Pause::default(), Vec::new(), Vec::new());
        Self { address: address.to_owned(), stream: None, pause, resource: Arc::clone(resource), message, messages }
    }

    fn send(&mut self) -> io::Result<()> {
        let stream = match self.stream.take().filter(is_open) {
            Some(stream) => stream,
            None => self.pause.unless_failed(&self.address, connect)?,
        };
        // after an error nobody knows where in a message the other end is
        (&stream).write_all(&self.messages).inspect_err(|error| {
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
                self.pause.begin(); // it reads nothing, and would not on another connection
            }
        })?;
        self.stream = Some(stream);
        Ok(())
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, STREAM_TIMEOUT)?;
    stream.set_write_timeout(Some(STREAM_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether the other end has not closed it; what that says is nothing to us.
fn is_open(stream: &TcpStream) -> bool {
    let mut said = [0; 256];
    let read = stream.set_nonblocking(true).and_then(|()| {
        loop {
            match (&mut &*stream).read(&mut said) {
                Ok(1..) => {}
                other => return other,
            }
        }
    });
    let is_waiting = read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    is_waiting && stream.set_nonblocking(false).is_ok()
}

impl Output for SyslogStream {
    fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.message.clear();
        datagram::put_syslog(&mut self.message, record, &self.resource, usize::MAX);
        write!(self.messages, "{} ", self.message.len())?;
        self.messages.extend_from_slice(&self.message);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= LINES_BYTES
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let sent = self.send();
        self.messages.clear();
        self.messages.shrink_to(LINES_BYTES);
        sent
    }
}
