//! What a port shows and asks for, its certificate and its token: read before anything is opened, and again at a reload, so that they can
//! be replaced while connections go on.

use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::TlsAcceptor;

use super::auth::{self, BearerToken};
use super::{Config, Protocols, StartError, tls};

/// The keys of all ports.
#[derive(Clone)]
pub struct Keys {
    pub(super) grpc: Option<Arc<PortKeys>>,
    pub(super) http: Option<Arc<PortKeys>>,
}

/// The keys of one port.
pub(super) struct PortKeys {
    place: &'static str,
    tls: Option<tls::Config>,
    auth: Option<auth::Config>,
    read: RwLock<Read>,
}

/// As the files had them.
#[derive(Clone)]
pub(super) struct Read {
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) token: Option<Arc<BearerToken>>,
}

impl Keys {
    /// Checks the ports' settings and reads their files.
    ///
    /// # Errors
    /// What cannot be, with its place in the config.
    pub fn read(config: &Config) -> Result<Self, StartError> {
        let Protocols { grpc, http } = &config.otlp.protocols;
        let grpc = grpc.as_ref().map(|port| PortKeys::new("grpc", &port.endpoint, &port.tls, &port.auth));
        let http = http.as_ref().map(|port| PortKeys::new("http", &port.endpoint, &port.tls, &port.auth));
        Ok(Self { grpc: grpc.transpose()?, http: http.transpose()? })
    }

    /// Reads the files again: connections from now on see the new certificate, requests are asked for the new token.
    ///
    /// # Errors
    /// A file is wrong; then all stays as it was.
    pub fn read_again(&self) -> Result<(), StartError> {
        let ports = self.grpc.iter().chain(&self.http);
        let read = ports.map(|port| Ok((port, port.read_files()?))).collect::<Result<Vec<_>, StartError>>()?;
        for (port, read) in read {
            *port.read.write().unwrap_or_else(PoisonError::into_inner) = read;
        }
        Ok(())
    }
}

impl PortKeys {
    fn new(
        protocol: &'static str,
        endpoint: &str,
        tls: &Option<tls::Config>,
        auth: &Option<auth::Config>,
    ) -> Result<Arc<Self>, StartError> {
        let nothing = RwLock::new(Read { tls: None, token: None });
        let keys = Self { place: protocol, tls: tls.clone(), auth: auth.clone(), read: nothing };
        check_endpoint(endpoint).map_err(|why| keys.wrong(why))?;
        let read = RwLock::new(keys.read_files()?);
        Ok(Arc::new(Self { read, ..keys }))
    }

    /// What holds now.
    pub(super) fn get(&self) -> Read {
        self.read.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read_files(&self) -> Result<Read, StartError> {
        let tls = self.tls.as_ref().map(tls::Config::read).transpose().map_err(|why| self.wrong(why))?;
        let token = self.auth.as_ref().map(auth::Config::read).transpose().map_err(|why| self.wrong(why))?;
        Ok(Read { tls, token: token.map(Arc::new) })
    }

    fn wrong(&self, why: String) -> StartError {
        StartError::Config(format!("protocols.{}: {why}", self.place))
    }
}

/// Whether it is `host:port`.
fn check_endpoint(endpoint: &str) -> Result<(), String> {
    match endpoint.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.contains("//") && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(format!("`{endpoint}` is no endpoint to listen on: write `host:port`, such as `0.0.0.0:4317`")),
    }
}
