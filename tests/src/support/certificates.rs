//! Certificates of an authority that nobody else knows, as PEM files.

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority, a server's certificate for `localhost`, and a client's.
pub(crate) struct Certificates {
    dir: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &authority).unwrap();
            std::fs::write(dir.path().join(format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { dir }
    }

    /// `ca.pem`, `server.pem`, `server.key`, `client.pem` or `client.key`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        assert!(Path::new(&path).exists(), "{name}");
        path
    }

    /// The collector's `tls:` with the client's certificate.
    pub(crate) fn tls(&self) -> String {
        let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| self.path(name));
        format!(
            "{{ca_file: '{}', cert_file: '{}', key_file: '{}'}}",
            ca.display(),
            certificate.display(),
            key.display()
        )
    }

    /// The same without the client's certificate.
    pub(crate) fn tls_without_certificate(&self) -> String {
        format!("{{ca_file: '{}'}}", self.path("ca.pem").display())
    }
}
