//! Snappy's block format, in which remote write and Loki's push API have their bodies.

use std::fmt;

/// The compressed bytes.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    // The only error is an input of 4 GiB, which no limit of ours lets through.
    snap::raw::Encoder::new().compress_vec(bytes).unwrap_or_default()
}

/// The bytes that were compressed; an error where they are none or would be more than `bytes_max`, which is seen before any are made.
pub fn decompress(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    if snap::raw::decompress_len(compressed).map_err(DecompressError::Corrupt)? > bytes_max {
        return Err(DecompressError::TooLarge { bytes_max });
    }
    snap::raw::Decoder::new().decompress_vec(compressed).map_err(DecompressError::Corrupt)
}

/// Why a body was not decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecompressError {
    /// It is not in Snappy's block format.
    Corrupt(snap::Error),
    /// It would be larger than the limit.
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(error) => write!(f, "invalid snappy block: {error}"),
            Self::TooLarge { bytes_max } => write!(f, "the body is larger than {bytes_max} bytes when decompressed"),
        }
    }
}

impl std::error::Error for DecompressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compressed_comes_back_up_to_the_limit() {
        let bytes = b"again and again and again and again".repeat(100);
        let compressed = compress(&bytes);
        assert!(compressed.len() < bytes.len() / 4);
        assert_eq!(decompress(&compressed, bytes.len()), Ok(bytes.clone()));
        assert_eq!(
            decompress(&compressed, bytes.len() - 1),
            Err(DecompressError::TooLarge { bytes_max: bytes.len() - 1 })
        );
        assert!(matches!(
            decompress(&compressed[..compressed.len() - 1], usize::MAX),
            Err(DecompressError::Corrupt(_))
        ));
        assert!(matches!(decompress(b"", usize::MAX), Err(DecompressError::Corrupt(_))));
    }
}
