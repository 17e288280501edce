//! A secret that must not leave, and a collector that would see it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;

use crate::config::{Builder, Protocol};
use crate::lock;
use crate::sink::Sink;

/// A text that is nowhere else, to stand for a secret: where it goes, a secret would.
///
/// ```
/// use watchbell::redact::Redaction;
/// # use watchbell::tracing;
///
/// fn log_in(user: &str, password: &str) {
///     let _span = tracing::info_span!("log_in", user, password).entered();
///     tracing::info!(password, "logged in");
/// }
///
/// /// What `main` sets up, too.
/// fn telemetry() -> watchbell::Builder {
///     watchbell::builder().service_name("shop").redact(Redaction::usual())
/// }
///
/// let canary = watchbell::test::canary();
/// canary.stays(telemetry(), || log_in("ada", canary.text())); // panics with what it left in
/// ```
pub fn canary() -> Canary {
    Canary::of(&format!("canary{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)))
}

/// A text that stands for a secret; made by [`canary`].
///
/// ```
/// let canary: watchbell::test::Canary = watchbell::test::canary();
/// assert!(canary.text().starts_with("canary"));
/// ```
#[derive(Clone, Debug)]
pub struct Canary(String);

impl Canary {
    /// One that looks like the secret that it stands for: `Canary::of("4111 1111 1111 1111")`.
    ///
    /// ```
    /// let card = watchbell::test::Canary::of("4111 1111 1111 1111");
    /// let telemetry = watchbell::builder().redact(watchbell::redact::Redaction::usual());
    /// card.stays(telemetry, || tracing::info!("paid with {card}"));
    /// ```
    pub fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// What is to be used as the secret.
    ///
    /// ```
    /// let canary = watchbell::test::canary();
    /// let login = format!("ada:{}", canary.text());
    /// ```
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Calls `f` with what the builder sets up, but for the environment, which is not read, and with a collector that looks at all that comes: log records of
    /// every level, spans and metrics. Panics if the canary is anywhere among them, or in what sinks are given, in upper or lower case; also if nothing came at all.
    /// Of other threads and tasks is seen what [`task::spawn`](crate::task::spawn) and [`task::carried`](crate::task::carried) have started.
    ///
    /// ```
    /// let canary = watchbell::test::canary();
    /// canary.stays(watchbell::builder(), || tracing::info!(length = canary.text().len(), "logged in"));
    /// ```
    #[track_caller]
    pub fn stays(&self, builder: Builder, f: impl FnOnce()) {
        #[cfg(feature = "log")]
        crate::log_crate::install(tracing_core::LevelFilter::TRACE);
        let collector = Collector::start().unwrap_or_else(|error| panic!("cannot listen on 127.0.0.1: {error}"));
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let records = Arc::clone(&seen);
        let sink = Sink::callback("canary", move |record| lock(&records).push(record.to_string())).levels("trace");
        let builder = builder
            .without_spool()
            .variables::<String, String>([])
            .protocol(Protocol::HttpProtobuf)
            .endpoint(collector.endpoint());
        let started = builder.compression(crate::Compression::None).sink(sink).layer();
        let (layer, guard) = started.unwrap_or_else(|error| panic!("{error}"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), f);
        let ledger = guard.shutdown(Duration::from_secs(20));
        assert!(ledger.logs.lost() + ledger.traces.lost() == 0, "what leaves cannot be looked at: {ledger}");
        assert!(
            ledger.logs.emitted + ledger.traces.emitted > 0,
            "neither a record nor a span came: nothing was looked at"
        );
        if let Some(record) = lock(&seen).iter().find(|record| self.is_in(record.as_bytes())) {
            panic!("the canary leaves in a record: {record}");
        }
        if let Some((path, _)) =
            collector.requests().iter().find(|(path, body)| self.is_in(body) || self.is_in(path.as_bytes()))
        {
            panic!("the canary leaves in a request to {path}, outside of log records' texts and attributes");
        }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(self.0.len().max(1)).any(|window| window.eq_ignore_ascii_case(self.0.as_bytes()))
    }
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes OTLP over HTTP and keeps the bytes.
struct Collector {
    address: SocketAddr,
    requests: Requests,
}

/// Paths and bodies.
type Requests = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

impl Collector {
    fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let requests = Requests::default();
        let kept = Arc::downgrade(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Some(requests), Ok(stream)) = (kept.upgrade(), stream) else { return };
                std::thread::spawn(move || serve(&stream, &requests)); // an error ends the connection
            }
        });
        Ok(Self { address, requests })
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> Vec<(String, Vec<u8>)> {
        lock(&self.requests).clone()
    }
}

impl Drop for Collector {
    /// Whoever listens looks whether it is still wanted when somebody comes.
    fn drop(&mut self) {
        self.requests = Requests::default();
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers each request of a connection.
fn serve(stream: &TcpStream, requests: &Mutex<Vec<(String, Vec<u8>)>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut line) = (Vec::new(), String::new());
        while reader.read_line(&mut line)? > 2 {
            head.push(std::mem::take(&mut line));
        }
        let Some(request) = head.first() else { return Ok(()) };
        let length = head
            .iter()
            .find_map(|header| header.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        lock(requests).push((request.split(' ').nth(1).unwrap_or_default().to_owned(), body));
        (&*stream)
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")?;
    }
}
