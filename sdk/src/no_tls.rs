//! In the place of `tls` where that feature is off: an `https` endpoint is refused.

use std::convert::Infallible;
use std::error::Error;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;

use crate::config::{Protocol, without_query};

#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) roots: Option<Roots>,
    pub(crate) identity: Option<Identity>,
}

pub(crate) type Roots = Infallible;

pub(crate) type Identity = Infallible;

pub(crate) type Connector = HttpConnector;

pub(crate) fn roots(_: &str) -> Result<Roots, String> {
    Err(ABSENT.to_owned())
}

pub(crate) fn identity(_: &str, _: &str) -> Result<Identity, String> {
    Err(ABSENT.to_owned())
}

const ABSENT: &str = "this program is built without the feature `tls` of `watchbell`";

impl Tls {
    pub(crate) fn connector(self, uri: &Uri, http: HttpConnector, _: Protocol) -> Result<Connector, String> {
        let Self { roots: None, identity: None } = self;
        if uri.scheme_str() == Some("https") {
            Err(format!("cannot connect to {}: {ABSENT}", without_query(&uri.to_string())))
        } else {
            Ok(http)
        }
    }
}

pub(crate) fn hint(_: &(dyn Error + 'static)) -> Option<&'static str> {
    None
}
