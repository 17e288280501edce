//! From a YAML tree to what the program works with, by serde: every mistake knows its place, and all are told at once.

use std::fmt;
use std::ops::Range;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use watchbell_rules::diagnostic::{Diagnostic, codes};
use watchbell_rules::yaml::{Key, Node, NodeKind};

/// Reads the tree. A mistake is noted, what it stands in is left out, and the rest is read again, until nothing more is wrong.
///
/// # Errors
/// All mistakes, in the order of the file.
pub fn read<T: DeserializeOwned>(mut tree: Node) -> Result<T, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let mut thinned: Vec<Range<usize>> = Vec::new();
    while found.len() < MISTAKES_MAX {
        let mistake = match T::deserialize(Reader { node: &tree, key: None }) {
            Ok(value) if found.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(mistake) => mistake,
        };
        let place = mistake.place.clone().unwrap_or_else(|| tree.span.clone());
        // What is missing where something was left out may be just that.
        if !(mistake.kind == Kind::Missing && thinned.contains(&place)) {
            found.push(mistake.diagnostic(&tree));
        }
        match leave_out(&mut tree, &place) {
            Some(parent) => thinned.push(parent),
            None => break,
        }
    }
    found.sort_by_key(|mistake: &Diagnostic| mistake.span.start);
    found.dedup();
    Err(found)
}

/// Takes the node, or the field with the key, that stands there out of what holds it; tells the holder's place.
fn leave_out(node: &mut Node, place: &Range<usize>) -> Option<Range<usize>> {
    match &mut node.kind {
        NodeKind::Null | NodeKind::Scalar(_) => None,
        NodeKind::Sequence(items) => {
            if let Some(at) = items.iter().position(|item| item.span == *place) {
                items.remove(at);
                return Some(node.span.clone());
            }
            items.iter_mut().find_map(|item| leave_out(item, place))
        }
        NodeKind::Mapping(fields) => {
            // The last: of two equal keys the second is the mistake.
            if let Some(at) = fields.iter().rposition(|(key, value)| key.span == *place || value.span == *place) {
                fields.remove(at);
                return Some(node.span.clone());
            }
            fields.iter_mut().find_map(|(_, value)| leave_out(value, place))
        }
    }
}

/// Further mistakes are told when these are mended.
const MISTAKES_MAX: usize = 50;

/// What is wrong with a node or a key.
#[derive(Debug)]
pub(crate) struct Mistake {
    kind: Kind,
    message: String,
    place: Option<Range<usize>>,
}

#[derive(Debug, PartialEq)]
enum Kind {
    UnknownKey { key: String, known: Vec<&'static str> },
    Missing,
    Other,
}

impl Mistake {
    fn new(message: impl Into<String>) -> Self {
        Self { kind: Kind::Other, message: message.into(), place: None }
    }

    /// With the place, unless it is known better.
    fn at(mut self, place: &Range<usize>) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    /// With the text that it is about, unless it names it.
    fn about(mut self, text: &str) -> Self {
        if self.place.is_none() && !self.message.contains(text) {
            self.message = format!("`{text}`: {}", self.message);
        }
        self
    }

    fn diagnostic(self, tree: &Node) -> Diagnostic {
        let place = self.place.unwrap_or(0..0);
        // A whole block is shown at its key.
        let shown = key_of(tree, &place).unwrap_or(place);
        match self.kind {
            Kind::UnknownKey { key, known } => {
                let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                Diagnostic::error(codes::UNKNOWN_FIELD, shown, self.message)
                    .label(format!("known here: {}", names.join(", ")))
                    .suggest(&key, known)
            }
            Kind::Missing | Kind::Other => Diagnostic::error(codes::CONFIG, shown, self.message),
        }
    }
}

/// The key of the mapping or sequence that stands there.
fn key_of(node: &Node, place: &Range<usize>) -> Option<Range<usize>> {
    let is_block = |node: &Node| matches!(node.kind, NodeKind::Mapping(_) | NodeKind::Sequence(_));
    match &node.kind {
        NodeKind::Null | NodeKind::Scalar(_) => None,
        NodeKind::Sequence(items) => items.iter().find_map(|item| key_of(item, place)),
        NodeKind::Mapping(fields) => fields.iter().find_map(|(key, value)| {
            if value.span == *place && is_block(value) { Some(key.span.clone()) } else { key_of(value, place) }
        }),
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(match found {
            Unexpected::Unit => format!("a value is missing: expected {expected}"),
            Unexpected::Str(text) => format!("expected {expected}, found `{text}`"),
            Unexpected::Seq => format!("expected {expected}, found a list"),
            Unexpected::Map => format!("expected {expected}, found a mapping"),
            found => format!("expected {expected}, found {found}"),
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(match found {
            Unexpected::Signed(number) if number < 0 => format!("`{number}` is below 0"),
            Unexpected::Unsigned(number) => format!("`{number}` is too large"),
            found => format!("expected {expected}, found {found}"),
        })
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let kind = Kind::UnknownKey { key: field.to_owned(), known: shown_keys(expected) };
        Self { kind, message: format!("unknown key `{field}`"), place: None }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let known: Vec<String> = expected.iter().map(|name| format!("`{name}`")).collect();
        Self::new(format!("`{variant}` is none of {}", known.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { kind: Kind::Missing, message: format!("`{field}` is missing"), place: None }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("`{field}` stands here twice"))
    }
}

/// What the engine is given from elsewhere in the config.
const BESIDE_ENGINE: &[&str] = &["external_url", "external_labels", "links"];

fn shown_keys(keys: &'static [&'static str]) -> Vec<&'static str> {
    keys.iter().copied().filter(|key| !super::FOREIGN_KEYS.contains(key)).collect()
}

/// Reads one node.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    /// The key whose value it is.
    key: Option<&'a Key>,
}

impl<'a> Reader<'a> {
    /// The scalar's text; the visitor says what else it expected.
    fn scalar<'de, V: Visitor<'de>>(self, visitor: &V) -> Result<&'a str, Mistake> {
        let found = match &self.node.kind {
            NodeKind::Scalar(text) => return Ok(text),
            NodeKind::Null => Unexpected::Unit,
            NodeKind::Sequence(_) => Unexpected::Seq,
            NodeKind::Mapping(_) => Unexpected::Map,
        };
        Err(self.here(de::Error::invalid_type(found, visitor)))
    }

    fn here(self, mistake: Mistake) -> Mistake {
        let is_null = self.node.kind == NodeKind::Null;
        mistake.at(self.key.filter(|_| is_null).map_or(&self.node.span, |key| &key.span))
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let text = self.scalar(&visitor)?;
        let counts_bytes = self.key.is_some_and(|key| key.name.contains("bytes") || key.name.ends_with("_size"));
        let number = text.replace('_', "").parse::<i128>().ok().or_else(|| bytes(text).filter(|_| counts_bytes));
        let visited = match number {
            Some(number) => match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => Err(Mistake::new(format!("`{text}` is too large"))),
            },
            None if counts_bytes => {
                Err(Mistake::new(format!("`{text}` is no number of bytes, such as `65536` or `64KiB`")))
            }
            None => Err(Mistake::new(format!("`{text}` is no whole number"))),
        };
        visited.map_err(|mistake| self.here(mistake))
    }
}

/// A size with its unit: `64MiB`, `1.5GB`.
fn bytes(text: &str) -> Option<i128> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = text[digits.len()..].trim_start();
    let (_, factor) = BYTE_UNITS.into_iter().find(|(name, _)| unit.eq_ignore_ascii_case(name))?;
    let number: f64 = digits.parse().ok().filter(|number: &f64| *number >= 0.0)?;
    let bytes = number * factor;
    (bytes.fract() == 0.0 && bytes < 2f64.powi(63)).then_some(bytes as i128)
}

const BYTE_UNITS: [(&str, f64); 9] = [
    ("B", 1.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
            self.number(visitor)
        }
    )*};
}

macro_rules! texts {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
            let text = self.scalar(&visitor)?;
            visitor.visit_str(text).map_err(|mistake: Mistake| self.here(mistake.about(text)))
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Mistake;

    numbers! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }
    texts! { deserialize_char deserialize_str deserialize_string deserialize_identifier deserialize_bytes deserialize_byte_buf }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.kind {
            NodeKind::Null => visitor.visit_unit().map_err(|mistake| self.here(mistake)),
            NodeKind::Scalar(text) => visitor.visit_str(text).map_err(|mistake| self.here(mistake)),
            NodeKind::Sequence(_) => self.deserialize_seq(visitor),
            NodeKind::Mapping(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.scalar(&visitor)? {
            "true" | "True" | "TRUE" => visitor.visit_bool(true),
            "false" | "False" | "FALSE" => visitor.visit_bool(false),
            text => Err(Mistake::new(format!("`{text}` is neither `true` nor `false`"))),
        }
        .map_err(|mistake| self.here(mistake))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let text = self.scalar(&visitor)?;
        let number = text.parse().map_err(|_| self.here(Mistake::new(format!("`{text}` is no number"))))?;
        visitor.visit_f64(number).map_err(|mistake| self.here(mistake))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.node.kind {
            NodeKind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let items = match &self.node.kind {
            NodeKind::Sequence(items) => items.as_slice(),
            NodeKind::Null => &[],
            NodeKind::Scalar(text) => {
                return Err(self.here(Mistake::new(format!("expected a list: write `[{text}]` for a list of one"))));
            }
            NodeKind::Mapping(_) => return Err(self.here(de::Error::invalid_type(Unexpected::Map, &visitor))),
        };
        visitor.visit_seq(Items(items.iter())).map_err(|mistake| self.here(mistake))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_seq(visitor)
    }

    /// A block with nothing in it has its defaults.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let fields = match &self.node.kind {
            NodeKind::Mapping(fields) => fields.as_slice(),
            NodeKind::Null => &[],
            NodeKind::Scalar(text) => {
                return Err(self.here(de::Error::invalid_type(Unexpected::Str(text), &visitor)));
            }
            NodeKind::Sequence(_) => return Err(self.here(de::Error::invalid_type(Unexpected::Seq, &visitor))),
        };
        for (at, (key, _)) in fields.iter().enumerate() {
            if fields[..at].iter().any(|(other, _)| other.name == key.name) {
                return Err(Mistake::new(format!("`{}` stands here twice", key.name)).at(&key.span));
            }
        }
        let mut access = Fields { fields: fields.iter(), next: None };
        visitor.visit_map(&mut access).map_err(|mistake| match access.next {
            // What is said behind a key and before its value is said of the key.
            Some((key, _)) => mistake.at(&key.span),
            None => self.here(mistake),
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        if name != "EngineConfig" {
            return self.deserialize_map(visitor);
        }
        if let NodeKind::Mapping(fields) = &self.node.kind
            && let Some((key, _)) = fields.iter().find(|(key, _)| BESIDE_ENGINE.contains(&key.name.as_str()))
        {
            return Err(Mistake::new(format!("`{}` stands beside `engine`, not in it", key.name)).at(&key.span));
        }
        self.deserialize_map(visitor).map_err(|mut mistake| {
            if let Kind::UnknownKey { known, .. } = &mut mistake.kind {
                known.retain(|key| !BESIDE_ENGINE.contains(key));
            }
            mistake
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match &self.node.kind {
            NodeKind::Scalar(text) => visitor.visit_enum(IntoDeserializer::<Mistake>::into_deserializer(text.as_str())),
            NodeKind::Mapping(fields) if fields.len() == 1 => visitor.visit_enum(Tagged(&fields[0])),
            NodeKind::Mapping(_) => Err(de::Error::invalid_type(Unexpected::Map, &visitor)),
            NodeKind::Sequence(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            NodeKind::Null => Err(de::Error::invalid_type(Unexpected::Unit, &visitor)),
        }
        .map_err(|mistake| self.here(mistake))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_unit()
    }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let Some(node) = self.0.next() else { return Ok(None) };
        seed.deserialize(Reader { node, key: None }).map(Some).map_err(|mistake| mistake.at(&node.span))
    }
}

struct Fields<'a> {
    fields: std::slice::Iter<'a, (Key, Node)>,
    next: Option<&'a (Key, Node)>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Mistake;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        self.next = self.fields.next();
        let Some((key, _)) = self.next else { return Ok(None) };
        seed.deserialize(StrDeserializer::new(&key.name)).map(Some).map_err(|mistake: Mistake| mistake.at(&key.span))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Mistake> {
        let Some((key, node)) = self.next.take() else { return Err(Mistake::new("a value without a key")) };
        let reader = Reader { node, key: Some(key) };
        seed.deserialize(reader).map_err(|mistake| reader.here(mistake))
    }
}

/// A variant with a value: `name: value`.
struct Tagged<'a>(&'a (Key, Node));

impl<'de> EnumAccess<'de> for Tagged<'_> {
    type Error = Mistake;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Mistake> {
        let (key, _) = self.0;
        let variant =
            seed.deserialize(StrDeserializer::new(&key.name)).map_err(|mistake: Mistake| mistake.at(&key.span))?;
        Ok((variant, self))
    }
}

impl<'a> Tagged<'a> {
    fn value(&self) -> Reader<'a> {
        Reader { node: &self.0.1, key: Some(&self.0.0) }
    }
}

impl<'de> VariantAccess<'de> for Tagged<'_> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        Err(Mistake::new(format!("`{}` has no value", self.0.0.name)))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mistake> {
        seed.deserialize(self.value())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.value().deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Mistake> {
        self.value().deserialize_map(visitor)
    }
}
