//! `ip("10.0.0.0/8")`: addresses anywhere in a text.

use std::net::IpAddr;

/// An address, a range of addresses `a-b` or a block `a/bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpRange {
    first: IpAddr,
    last: IpAddr,
}

impl IpRange {
    /// Reads the pattern; `None` where it is none.
    pub(crate) fn parse(pattern: &str) -> Option<Self> {
        if let Some((first, last)) = pattern.split_once('-') {
            let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
            return (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last });
        }
        let Some((address, bits)) = pattern.split_once('/') else {
            return pattern.parse().ok().map(|address| Self { first: address, last: address });
        };
        let bits: u32 = bits.parse().ok().filter(|_| bits == "0" || !bits.starts_with(['0', '+']))?;
        match address.parse().ok()? {
            IpAddr::V4(address) if bits <= 32 => {
                let host = u32::MAX.checked_shr(bits).unwrap_or(0);
                let first = address.to_bits() & !host;
                Some(Self { first: IpAddr::V4(first.into()), last: IpAddr::V4((first | host).into()) })
            }
            IpAddr::V6(address) if bits <= 128 => {
                let host = u128::MAX.checked_shr(bits).unwrap_or(0);
                let first = address.to_bits() & !host;
                Some(Self { first: IpAddr::V6(first.into()), last: IpAddr::V6((first | host).into()) })
            }
            _ => None,
        }
    }

    /// Whether one of the addresses in the text is in the range. As in Loki, an address begins where its first group can be seen, and what
    /// looks like one but is none is passed over as a whole.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let charset: fn(&u8) -> bool = if begins_ipv4(&bytes[at..]) {
                |byte| byte.is_ascii_digit() || *byte == b'.'
            } else if begins_ipv6(&bytes[at..]) {
                |byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')
            } else {
                at += 1;
                continue;
            };
            let len = bytes[at..].iter().position(|byte| !charset(byte)).unwrap_or(bytes.len() - at);
            if text[at..at + len].parse().is_ok_and(|address: IpAddr| self.first <= address && address <= self.last) {
                return true;
            }
            at += len + 1;
        }
        false
    }
}

fn begins_ipv4(text: &[u8]) -> bool {
    text.len() > 3 && text[0].is_ascii_digit() && text[1..4].contains(&b'.')
}

fn begins_ipv6(text: &[u8]) -> bool {
    match text {
        [b':', b':', next, ..] => next.is_ascii_hexdigit(),
        _ => (1..=4).any(|len| text.get(len) == Some(&b':') && text[..len].iter().all(u8::is_ascii_hexdigit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_their_blocks() {
        let inside = |pattern: &str, text: &str| IpRange::parse(pattern).map(|range| range.is_in(text));
        assert_eq!(inside("10.0.0.0/8", "from 10.255.0.1:80"), Some(true));
        assert_eq!(inside("10.0.0.0/8", "11.0.0.0"), Some(false));
        assert_eq!(inside("10.0.0.7/32", "10.0.0.7"), Some(true));
        assert_eq!(inside("0.0.0.0/0", "255.1.1.1"), Some(true));
        assert_eq!(inside("10.0.0.1-10.0.0.9", "10.0.0.10"), Some(false));
        assert_eq!(inside("2001:db8::/32", "[2001:db8::1]"), Some(true));
        assert_eq!(inside("2001:db8::/32", "10.0.0.1"), Some(false));
        assert_eq!(inside("::1", "::1 up"), Some(true));
        assert_eq!(inside("::1", "::1"), Some(true));
        assert_eq!(inside("::1", "vpn connected to ::1"), Some(true));
        assert_eq!(inside("a::", "a::"), Some(true));
        assert_eq!(inside("fe80::/10", "FE80::1 up"), Some(true));
        for wrong in ["10.0.0.0/33", "x", "10.0.0.9-10.0.0.1", "1.1.1.1-::1", "10.0.0.0/08", "10.0.0.1 - 10.0.0.2"] {
            assert_eq!(IpRange::parse(wrong), None, "{wrong}");
        }
    }
}
