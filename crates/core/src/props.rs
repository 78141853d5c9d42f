//! Input props, and bodies that hold them, as text.
//!
//! Props may have many megabytes, and a tree of them in memory has many times that. Nothing here needs to look into
//! them, so they pass through as they came.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::request::{FieldError, field_error};

/// The deepest that props may be nested: what other JSON parsers stop at, too.
const DEEPEST: usize = 128;

/// A JSON object, not taken apart.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Props(Box<RawValue>);

impl Props {
    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl<'de> Deserialize<'de> for Props {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if !raw.get().starts_with('{') {
            return Err(D::Error::custom("must be a JSON object"));
        }
        if depth(raw.get()) > DEEPEST {
            return Err(D::Error::custom(format!("is nested more than {DEEPEST} deep")));
        }
        Ok(Self(raw))
    }
}

/// Never the props themselves: they may be anything, and end up in logs.
impl fmt::Debug for Props {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Props({} bytes)", self.as_str().len())
    }
}

impl PartialEq for Props {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// How deep a JSON text is nested.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    let mut in_text = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_text = !in_text,
            // What it escapes may be a quote.
            b'\\' => drop(bytes.next()),
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Why a body is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Not JSON, and why.
    NotJson(String),
    /// JSON, and what is wrong with it.
    Invalid(Vec<FieldError>),
}

/// The fields of a body that is a JSON object, not taken apart.
#[derive(Debug)]
pub struct Fields<'a> {
    body: &'a str,
    pub(crate) fields: BTreeMap<String, &'a RawValue>,
}

impl<'a> Fields<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is not JSON in UTF-8, or not an object.
    pub fn read(body: &'a [u8]) -> Result<Self, BodyError> {
        let body =
            std::str::from_utf8(body).map_err(|error| BodyError::NotJson(format!("not UTF-8: {error}")))?;
        match serde_json::from_str(body) {
            Ok(Once { fields, twice: None }) => Ok(Self { body, fields }),
            // Two readers of such a body may not agree on what it says.
            Ok(Once { twice: Some(name), .. }) => {
                let place = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
                Err(BodyError::Invalid(vec![FieldError::new(place, "is given twice")]))
            }
            Err(error) if error.is_data() => {
                Err(BodyError::Invalid(vec![FieldError::new("", "must be a JSON object")]))
            }
            Err(error) => Err(BodyError::NotJson(error.to_string())),
        }
    }

    /// Whether it has a field of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// All of it as a `T`, which is small.
    ///
    /// # Errors
    /// When something in it is not as it must be.
    pub fn into_typed<T: Deserialize<'a>>(self) -> Result<T, BodyError> {
        let mut json = serde_json::Deserializer::from_str(self.body);
        serde_path_to_error::deserialize(&mut json)
            .map_err(|error| BodyError::Invalid(vec![field_error(&error)]))
    }

    /// All of it as props.
    ///
    /// # Errors
    /// When it is nested too deep.
    pub fn into_props(self) -> Result<Props, BodyError> {
        read_props(self.body.trim()).map_err(|detail| BodyError::Invalid(vec![FieldError::new("", detail)]))
    }
}

/// The fields of an object, and the first name that comes twice among them.
struct Once<'a> {
    fields: BTreeMap<String, &'a RawValue>,
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Once<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Once<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once<'de>, A::Error> {
                let (mut fields, mut twice) = (BTreeMap::new(), None);
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if twice.is_none() && fields.contains_key(&name) {
                        twice = Some(name.clone());
                    }
                    fields.insert(name, value);
                }
                Ok(Once { fields, twice })
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Reads props, or says what is wrong with them.
pub(crate) fn read_props(json: &str) -> Result<Props, String> {
    // serde_json says where in the text it stopped; here that is always its end.
    serde_json::from_str(json)
        .map_err(|error| error.to_string().split(" at line").next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn props_pass_as_they_came_and_must_be_an_object_of_bearable_depth() {
        let text = r#"{"a":"}\"{[","n":1.0,"big":12345678901234567890,"b":[[{}]]}"#;
        assert_eq!(read_props(text).unwrap().as_str(), text);
        assert_eq!(depth(text), 4);
        assert_eq!(read_props("[1]").unwrap_err(), "must be a JSON object");
        let nested = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(read_props(&nested(DEEPEST)).is_ok());
        assert!(read_props(&nested(DEEPEST + 1)).unwrap_err().contains("128 deep"));
        assert!(read_props(&nested(5_000_000)).is_err());
    }

    #[test]
    fn props_do_not_show_in_debug_output() {
        let props = read_props(r#"{"secret":"hunter2"}"#).unwrap();
        assert_eq!(format!("{props:?}"), "Props(20 bytes)");
    }

    #[test]
    fn a_body_that_is_no_object_is_told_from_one_that_is_no_json() {
        assert!(matches!(Fields::read(b"[]"), Err(BodyError::Invalid(_))));
        let twice = Fields::read(br#"{"a/b":1,"c":2,"a/b":1}"#).unwrap_err();
        assert_eq!(twice, BodyError::Invalid(vec![FieldError::new("/a~1b", "is given twice")]));
        for body in [b"".as_slice(), b"{", b"{}x", b"\xff", b"{\"a\":}"] {
            assert!(matches!(Fields::read(body), Err(BodyError::NotJson(_))), "{body:?}");
        }
    }
}
