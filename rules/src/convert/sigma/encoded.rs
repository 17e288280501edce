//! Values that stand in records in another encoding: Sigma's `base64`, `base64offset`, `wide` and their like.

use super::super::predicate::Pattern;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How a value is encoded before it is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Encoding {
    characters: Characters,
    base64: Option<Base64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Characters {
    #[default]
    Utf8,
    Utf16 {
        has_mark: bool,
        is_big_endian: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base64 {
    Whole,
    /// Somewhere in what is encoded: it looks otherwise at each of three places.
    AnyOffset,
}

impl Encoding {
    /// Takes in a modifier; false where it is none of these.
    pub(super) fn read(&mut self, modifier: &str) -> bool {
        let utf16 = |has_mark, is_big_endian| Characters::Utf16 { has_mark, is_big_endian };
        match modifier {
            "base64" => self.base64 = Some(Base64::Whole),
            "base64offset" => self.base64 = Some(Base64::AnyOffset),
            "wide" | "utf16le" => self.characters = utf16(false, false),
            "utf16be" => self.characters = utf16(false, true),
            "utf16" => self.characters = utf16(true, false),
            _ => return false,
        }
        true
    }

    /// The texts of which one must be there; none where the value is to be looked for as it is.
    pub(super) fn of(self, value: &str) -> Result<Option<Vec<String>>, String> {
        if self == Self::default() {
            return Ok(None);
        }
        let Pattern::Exact(text) = Pattern::wildcard(value, false) else {
            return Err("a value with wildcards cannot be encoded".to_owned());
        };
        let bytes = self.characters.encode(&text);
        match self.base64 {
            None => {
                Err("a text of two bytes a character is looked for in base64 alone: write `wide|base64offset|contains`"
                    .to_owned())
            }
            Some(Base64::AnyOffset) if bytes.len() < OFFSET_BYTES_LEAST => {
                Err(format!("`{value}` is too short for `base64offset`: of a single byte no character is its own"))
            }
            Some(Base64::Whole) => Ok(Some(vec![STANDARD.encode(bytes)])),
            Some(Base64::AnyOffset) => Ok(Some((0..3).map(|offset| at_offset(&bytes, offset)).collect())),
        }
    }
}

/// Of fewer bytes nothing is left at some of the places.
const OFFSET_BYTES_LEAST: usize = 2;

impl Characters {
    fn encode(self, text: &str) -> Vec<u8> {
        let Self::Utf16 { has_mark, is_big_endian } = self else { return text.as_bytes().to_vec() };
        let units = has_mark.then_some(0xFEFF).into_iter().chain(text.encode_utf16());
        units.flat_map(|unit| if is_big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    }
}

/// What the bytes look like in base64 where so many bytes, modulo three, stand before them: without the characters that neighbours share.
fn at_offset(bytes: &[u8], offset: usize) -> String {
    let shifted: Vec<u8> = std::iter::repeat_n(0, offset).chain(bytes.iter().copied()).collect();
    let encoded = STANDARD.encode(&shifted);
    let own = [0, 2, 3][offset]..encoded.len() - [0, 3, 2][shifted.len() % 3];
    encoded.get(own).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Wherever a text stands, and whatever around it, one of the three is in its base64.
        #[test]
        fn base64_is_found_at_any_offset(before in ".{0,5}", text in "[ -)+->@-Z_a-z]{3,12}", after in ".{0,5}") {
            let mut encoding = Encoding::default();
            assert!(encoding.read("base64offset"));
            let found = STANDARD.encode(format!("{before}{text}{after}"));
            let looked_for = encoding.of(&text).unwrap().unwrap();
            proptest::prop_assert!(looked_for.iter().any(|text| found.contains(text.as_str())), "{found} {looked_for:?}");
        }
    }

    #[test]
    fn wide_texts_have_two_bytes_a_character() {
        let encoded = |modifiers: &[&str]| {
            let mut encoding = Encoding::default();
            modifiers.iter().for_each(|modifier| assert!(encoding.read(modifier)));
            encoding.of("/bin").map(|texts| texts.unwrap_or_default().join(" "))
        };
        assert_eq!(encoded(&["base64offset"]).unwrap(), "L2Jpb 9iaW vYmlu");
        assert_eq!(encoded(&["wide", "base64"]).unwrap(), "LwBiAGkAbgA=");
        assert_eq!(encoded(&["utf16", "base64"]).unwrap(), "//4vAGIAaQBuAA==");
        assert!(encoded(&["wide"]).is_err());
        let of = |value: &str| {
            let mut encoding = Encoding::default();
            assert!(encoding.read("base64offset"));
            encoding.of(value)
        };
        assert_eq!(of(r"C:\\x").unwrap().unwrap()[0], "Qzpce");
        assert!(of("x").is_err() && of("a*").is_err());
        assert!(of("xy").unwrap().unwrap().iter().all(|text| !text.is_empty()));
        assert_eq!(encoded(&[]).unwrap(), "");
    }
}
