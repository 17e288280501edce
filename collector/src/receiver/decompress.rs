//! Undoes `gzip` and `zstd`, never into more memory than the request may have.

use std::io::{ErrorKind, Read};

use bytes::Bytes;

use super::answer::Refusal;
use super::memory::Hold;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
    /// Without a head, as Loki takes it.
    Deflate,
}

impl Encoding {
    /// What is understood, as a header lists it.
    pub(super) const ACCEPTED: &str = "identity,gzip,zstd";

    /// Reads `Content-Encoding` or `grpc-encoding`.
    pub(super) fn parse(header: Option<&http::HeaderValue>) -> Result<Self, Refusal> {
        match header.map_or(&b""[..], |value| value.as_bytes()).trim_ascii() {
            b"" | b"identity" => Ok(Self::Identity),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            b"zstd" => Ok(Self::Zstd),
            other => Err(Refusal::UnsupportedEncoding(String::from_utf8_lossy(other).into_owned())),
        }
    }

    /// The bytes behind `body`: at most `bytes_max`, each of them accounted for in `hold`.
    pub(super) fn decompress(self, body: Bytes, bytes_max: usize, hold: &mut Hold) -> Result<Bytes, Refusal> {
        match self {
            Self::Identity => Ok(body),
            Self::Gzip => read_all(flate2::bufread::MultiGzDecoder::new(&*body), "gzip", bytes_max, hold),
            Self::Deflate => read_all(flate2::bufread::DeflateDecoder::new(&*body), "deflate", bytes_max, hold),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(&*body).map_err(internal)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(internal)?;
                read_all(decoder, "zstd", bytes_max, hold)
            }
        }
    }
}

/// Windows of 8 MiB, the most that RFC 9659 lets a sender ask for: a decoder sets that much aside on the header's word.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// What is decompressed between two looks at the limits.
const STEP_BYTES: usize = 64 << 10;

fn read_all(decoder: impl Read, name: &str, bytes_max: usize, hold: &mut Hold) -> Result<Bytes, Refusal> {
    let mut decoder = decoder.take(bytes_max as u64 + 1);
    let mut bytes = Vec::with_capacity(STEP_BYTES);
    loop {
        let start = bytes.len();
        let read = (&mut decoder).take(STEP_BYTES as u64).read_to_end(&mut bytes);
        hold.grow(bytes.len() - start)?;
        match read {
            Ok(_) if bytes.len() > bytes_max => return Err(Refusal::TooLarge { bytes_max }),
            Ok(0) => return Ok(Bytes::from(bytes)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(Refusal::Malformed(format!("the {name} body ends early")));
            }
            Err(error) => return Err(Refusal::Malformed(format!("the body is no {name}: {error}"))),
        }
    }
}

fn internal(error: std::io::Error) -> Refusal {
    Refusal::Malformed(format!("the body is no zstd: {error}"))
}
