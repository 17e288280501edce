//! HTTP out, for exporters and contact points alike: pooled connections, TLS, and a deadline over the whole exchange.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use serde::Deserialize;

/// `tls:` of whatever calls out, as the OpenTelemetry Collector spells it. A URL's scheme decides whether TLS is spoken at all.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Speak gRPC in clear where the endpoint has no scheme.
    pub insecure: bool,
    /// Believe any certificate. For tests: it keeps nobody from listening in.
    pub insecure_skip_verify: bool,
    /// PEM file with the authorities to believe; the system's where it is not set.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate, for servers that ask for one; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its private key.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must bear, where it is not the URL's host. In Prometheus's spelling `server_name`.
    #[serde(alias = "server_name")]
    pub server_name_override: Option<String>,
}

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 where TLS agrees on it.
    Any,
    /// HTTP/2 from the first byte, as gRPC needs it.
    Http2,
}

/// A client; clones share its connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Pieces>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole: at most [`RESPONSE_BYTES_MAX`].
    pub body: Bytes,
    /// Headers behind the body, where gRPC has its status.
    pub trailers: HeaderMap,
}

/// No answer came. The request may have been heard all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// It took longer than it might.
    Timeout(Duration),
    /// No connection, or it broke; the text goes down to the cause.
    Connection(String),
}

/// The largest answer that is read; of a larger one only an error is left.
pub const RESPONSE_BYTES_MAX: usize = 4 << 20;

impl HttpClient {
    /// A client with these settings. Errors name the file that is wrong.
    pub fn new(tls: &TlsConfig, protocol: Protocol) -> Result<Self, String> {
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls.client_config()?).https_or_http();
        let builder = match &tls.server_name_override {
            Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(server_name(name)?)),
            None => builder,
        };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = match protocol {
            Protocol::Any => builder.enable_all_versions().wrap_connector(http),
            Protocol::Http2 => builder.enable_http2().wrap_connector(http),
        };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_only(protocol == Protocol::Http2)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .build(connector);
        Ok(Self { client })
    }

    /// Sends a request and reads the whole answer, within `timeout`.
    pub async fn send(&self, request: Request<Bytes>, timeout: Duration) -> Result<Answer, SendError> {
        self.send_pieces(request.map(|body| vec![body]), timeout).await
    }

    /// The same for a body in pieces, which are not copied together.
    pub async fn send_pieces(&self, mut request: Request<Vec<Bytes>>, timeout: Duration) -> Result<Answer, SendError> {
        request.headers_mut().entry(header::USER_AGENT).or_insert(header::HeaderValue::from_static(USER_AGENT));
        let exchange = async {
            let response = self.client.request(request.map(Pieces::new)).await.map_err(|error| chain(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await.map_err(|error| chain(&*error))?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers })
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(SendError::Timeout(timeout)))
    }
}

impl std::error::Error for SendError {}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(after) => write!(f, "no answer within {after:?}"),
            Self::Connection(why) => f.write_str(why),
        }
    }
}

impl Answer {
    /// `Retry-After`, where it is in seconds; dates are not read, since clocks differ.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// The beginning of the body as one line, to be shown beside the status.
    pub fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(EXCERPT_BYTES_MAX)]);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl TlsConfig {
    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        [&self.ca_file, &self.cert_file, &self.key_file].into_iter().flatten().cloned()
    }

    fn client_config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = builder.dangerous().with_custom_certificate_verifier(self.verifier(provider)?);
        match (&self.cert_file, &self.key_file) {
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(cert_file), Some(key_file)) => {
                let key = PrivateKeyDer::from_pem_file(key_file)
                    .map_err(|error| format!("cannot read `key_file` `{}`: {error}", key_file.display()))?;
                builder
                    .with_client_auth_cert(certificates(cert_file)?, key)
                    .map_err(|error| format!("`cert_file` `{}` and its key: {error}", cert_file.display()))
            }
            _ => Err("`cert_file` and `key_file` are needed both, or neither".to_owned()),
        }
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
        if self.insecure_skip_verify {
            return Ok(Arc::new(AnyCertificate(provider)));
        }
        let Some(path) = &self.ca_file else { return Ok(system_verifier(provider)) };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| format!("`ca_file` `{}`: {error}", path.display()))?;
        }
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
            .map_err(|error| format!("`ca_file` `{}`: {error}", path.display()))
    }
}

/// Believes the system's authorities or, on a system that has none, those that Mozilla lists. Loaded once: there are many.
fn system_verifier(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    static VERIFIER: OnceLock<Arc<dyn ServerCertVerifier>> = OnceLock::new();
    let load = || -> Arc<dyn ServerCertVerifier> {
        if let Ok(verifier) = Verifier::new(provider.clone()) {
            return Arc::new(verifier);
        }
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .expect("the list that is compiled in is not empty")
    };
    VERIFIER.get_or_init(load).clone()
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned()).map_err(|error| format!("`server_name_override` `{name}`: {error}"))
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|error| format!("cannot read certificates from `{}`: {error}", path.display()))
}

/// The error with its causes: hyper's own text says little.
fn chain(error: &dyn std::error::Error) -> SendError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    SendError::Connection(text)
}

/// A body in pieces.
#[derive(Debug)]
struct Pieces {
    pieces: std::vec::IntoIter<Bytes>,
    bytes: u64,
}

impl Pieces {
    fn new(mut pieces: Vec<Bytes>) -> Self {
        pieces.retain(|piece| !piece.is_empty());
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces: pieces.into_iter(), bytes }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.next();
        self.bytes -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes)
    }
}

/// For `insecure_skip_verify`.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

mod any_certificate {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    impl ServerCertVerifier for super::AnyCertificate {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}

const USER_AGENT: &str = concat!("watchbell/", env!("CARGO_PKG_VERSION"));
/// What is shown of an answer's body.
const EXCERPT_BYTES_MAX: usize = 300;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn an_answer_comes_whole() {
        let url =
            serve(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\nslow\ndown").await;
        let answer = send(&url, Duration::from_secs(20)).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.retry_after()), (429, Some(Duration::from_secs(7))));
        assert_eq!(answer.excerpt(), "slow down");
    }

    #[tokio::test]
    async fn no_answer_says_why() {
        let silent = serve(b"").await;
        assert_eq!(
            send(&silent, Duration::from_millis(20)).await.unwrap_err(),
            SendError::Timeout(Duration::from_millis(20))
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let error = send(&dead, Duration::from_secs(20)).await.unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
        let broken = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        assert!(matches!(send(&broken, Duration::from_millis(500)).await, Err(SendError::Timeout(_))));
    }

    #[test]
    fn wrong_files_are_named() {
        let tls = TlsConfig { ca_file: Some("/no/such.pem".into()), ..TlsConfig::default() };
        assert!(HttpClient::new(&tls, Protocol::Any).unwrap_err().contains("/no/such.pem"));
        let tls = TlsConfig { cert_file: Some("c.pem".into()), ..TlsConfig::default() };
        assert!(HttpClient::new(&tls, Protocol::Any).unwrap_err().contains("key_file"));
    }

    async fn send(url: &str, timeout: Duration) -> Result<Answer, SendError> {
        let client = HttpClient::new(&TlsConfig::default(), Protocol::Any).unwrap();
        client.send(Request::post(url).body(Bytes::from_static(b"{}")).unwrap(), timeout).await
    }

    /// Answers every connection with these bytes and then keeps it open.
    async fn serve(answer: &'static [u8]) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(answer).await;
                    let _ = stream.read(&mut request).await;
                });
            }
        });
        url
    }
}
