//! TLS on a receiver's port: a certificate of ours, and on demand one of the client's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

/// `tls:` of a receiver's protocol, as the OpenTelemetry Collector spells it.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// PEM file with our certificate and the chain behind it.
    pub cert_file: PathBuf,
    /// PEM file with the certificate's private key.
    pub key_file: PathBuf,
    /// PEM file with the authorities that a client's certificate must come from; without it clients need none.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
    /// The oldest version that is spoken: `"1.2"` (the default) or `"1.3"`.
    #[serde(default)]
    pub min_version: Option<String>,
}

impl Config {
    /// Reads the files. Errors name the file that is wrong.
    pub fn read(&self) -> Result<TlsAcceptor, String> {
        let certificates = certificates(&self.cert_file)?;
        let key = PrivateKeyDer::from_pem_file(&self.key_file)
            .map_err(|error| format!("cannot read `key_file` `{}`: {error}", self.key_file.display()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions()?)
            .map_err(|error| error.to_string())?;
        let builder = match &self.client_ca_file {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider)
                    .build()
                    .map_err(|error| format!("`client_ca_file` `{}`: {error}", path.display()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(|error| format!("`cert_file` `{}` and its key: {error}", self.cert_file.display()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn versions(&self) -> Result<&'static [&'static rustls::SupportedProtocolVersion], String> {
        match self.min_version.as_deref() {
            None | Some("1.2") => Ok(SINCE_1_2),
            Some("1.3") => Ok(SINCE_1_3),
            Some(other) => Err(format!("`min_version` `{other}` is not spoken: write `\"1.2\"` or `\"1.3\"`")),
        }
    }
}

static SINCE_1_2: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];
static SINCE_1_3: &[&rustls::SupportedProtocolVersion] = &[&TLS13];

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("`{}`: {error}", path.display()))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Err(error) => Err(format!("cannot read certificates from `{}`: {error}", path.display())),
        Ok(none) if none.is_empty() => Err(format!("`{}` holds no certificate", path.display())),
        Ok(certificates) => Ok(certificates),
    }
}
