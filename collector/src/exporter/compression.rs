//! How requests are compressed on their way out.

use std::io::{self, Write};

use bytes::Bytes;
use serde::Deserialize;

/// `compression:` of an exporter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As it is.
    None,
    /// gzip, which every OTLP server must understand; fastest level.
    #[default]
    Gzip,
    /// Zstandard, smaller and cheaper where the server understands it.
    Zstd,
}

impl Compression {
    /// What headers call it; nothing where there is nothing to say.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// The pieces as one compressed stream; uncompressed ones stay the pieces they are.
    pub(super) fn compress(self, pieces: Vec<Bytes>) -> Vec<Bytes> {
        let bytes = pieces.iter().map(Bytes::len).sum::<usize>();
        let compressed = Vec::with_capacity(bytes / GUESSED_RATIO);
        let compressed = match self {
            Self::None => return pieces,
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(compressed, flate2::Compression::fast());
                write_all(&mut encoder, &pieces).and_then(|()| encoder.finish())
            }
            Self::Zstd => zstd::stream::write::Encoder::new(compressed, ZSTD_LEVEL).and_then(|mut encoder| {
                write_all(&mut encoder, &pieces)?;
                encoder.finish()
            }),
        };
        vec![compressed.expect("memory takes whatever is written to it").into()]
    }
}

fn write_all(writer: &mut impl Write, pieces: &[Bytes]) -> io::Result<()> {
    pieces.iter().try_for_each(|piece| writer.write_all(piece))
}

const GUESSED_RATIO: usize = 8;
const ZSTD_LEVEL: i32 = 1;
