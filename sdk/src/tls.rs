//! What a TLS connection to the collector trusts, and what it shows of us.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::config::{Protocol, without_query};

/// The authorities to trust.
pub(crate) type Roots = Arc<RootCertStore>;

/// Our own certificate with its key.
pub(crate) type Identity = Arc<SingleCertAndKey>;

/// The TLS of one signal's connections, its files read.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// The authorities that the collector's certificate must come from; the system's if there are none.
    pub(crate) roots: Option<Roots>,
    /// Our own certificate, for a collector that asks for one.
    pub(crate) identity: Option<Identity>,
}

/// Reads the authorities of a PEM file.
pub(crate) fn roots(path: &str) -> Result<Roots, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("`{path}` holds a certificate that is none: {error}"))?;
    }
    Ok(Arc::new(roots))
}

/// Reads a certificate (with the chain behind it) and its private key from two PEM files.
pub(crate) fn identity(certificate_path: &str, key_path: &str) -> Result<Identity, String> {
    let certificates = certificates(certificate_path)?;
    let key = PrivateKeyDer::from_pem_file(Path::new(key_path))
        .map_err(|error| format!("cannot read a private key from `{key_path}`: {error}"))?;
    let certified = CertifiedKey::from_der(certificates, key, &ring::default_provider());
    let certified = certified.map_err(|error| {
        format!("the certificate `{certificate_path}` and the key `{key_path}` do not go together: {error}")
    })?;
    Ok(Arc::new(certified.into()))
}

/// What makes connections, with TLS for `https`.
pub(crate) type Connector = HttpsConnector<HttpConnector>;

impl Tls {
    /// Connections to `uri`; `Err` where the system's authorities are wanted and cannot be read. They are read for `https` alone: a
    /// container without any can still speak `http`.
    #[cfg_attr(not(feature = "grpc"), expect(unused_variables))]
    pub(crate) fn connector(self, uri: &Uri, http: HttpConnector, protocol: Protocol) -> Result<Connector, String> {
        let is_https = uri.scheme_str() == Some("https");
        let without_tls = || Self { roots: Some(Arc::new(RootCertStore::empty())), identity: None };
        let config = if is_https { self } else { without_tls() }.client_config();
        let config =
            config.map_err(|error| format!("cannot set up TLS for {}: {error}", without_query(&uri.to_string())))?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
        #[cfg(feature = "grpc")]
        if protocol == Protocol::Grpc {
            return Ok(connector.enable_http2().wrap_connector(http));
        }
        Ok(connector.enable_http1().wrap_connector(http))
    }

    fn client_config(self) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = match self.roots {
            Some(roots) => builder.with_root_certificates(roots),
            None => builder.with_platform_verifier().map_err(|error| error.to_string())?,
        };
        Ok(match self.identity {
            Some(identity) => builder.with_client_cert_resolver(identity as Arc<dyn ResolvesClientCert>),
            None => builder.with_no_client_auth(),
        })
    }
}

/// What to write where an error is that the collector's certificate is not trusted.
pub(crate) fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_)))
        .then_some("`OTEL_EXPORTER_OTLP_CERTIFICATE` is the file of the authorities to trust")
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let inner = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    error.downcast_ref().or_else(|| tls_error(inner?))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(Path::new(path)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Err(error) => Err(format!("cannot read certificates from `{path}`: {error}")),
        Ok(none) if none.is_empty() => Err(format!("`{path}` holds no certificate")),
        Ok(certificates) => Ok(certificates),
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("roots", &self.roots).field("has_identity", &self.identity.is_some()).finish()
    }
}
