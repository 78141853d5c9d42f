//! Input props, as JSON text.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::Error;

/// The input props of a composition: a JSON object, kept as the text it was given as, never as a tree.
///
/// Numbers keep all their digits, keys their order. Cloning is cheap. `Debug` shows the size and not the props.
#[derive(Clone, PartialEq, Eq)]
pub struct InputProps(Arc<str>);

impl InputProps {
    /// Takes the text of a JSON object.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the text is anything else.
    pub fn from_json(text: impl Into<Arc<str>>) -> Result<Self, Error> {
        let text = text.into();
        let wrong = |message| Error::Invalid { option: "inputProps", message };
        let raw: &RawValue =
            serde_json::from_str(&text).map_err(|error| wrong(format!("they are not JSON: {error}")))?;
        if !raw.get().starts_with('{') {
            return Err(wrong("they must be a JSON object".to_owned()));
        }
        Ok(Self(text))
    }

    /// Takes anything that serializes as a JSON object. For dates see [`date`](Self::date).
    ///
    /// # Errors
    /// [`Error::Invalid`] if it does not serialize, or as anything else than an object.
    pub fn new(props: &impl Serialize) -> Result<Self, Error> {
        let text = serde_json::to_string(props)
            .map_err(|error| Error::Invalid { option: "inputProps", message: error.to_string() })?;
        Self::from_json(text)
    }

    /// The text of a moment, which the composition sees as a JavaScript `Date`, exact to the millisecond.
    ///
    /// ```
    /// use remotion_lambda::InputProps;
    ///
    /// let text = InputProps::date("2026-11-25T10:00:00.5Z".parse()?);
    /// assert_eq!(text, "remotion-date:2026-11-25T10:00:00.500Z");
    /// # Ok::<(), jiff::Error>(())
    /// ```
    #[must_use]
    pub fn date(moment: Timestamp) -> String {
        format!("remotion-date:{moment:.3}")
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for InputProps {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl fmt::Debug for InputProps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InputProps({} bytes)", self.0.len())
    }
}

impl<'de> Deserialize<'de> for InputProps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_json(Box::<str>::from(raw)).map_err(D::Error::custom)
    }
}

impl Serialize for InputProps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// The length JavaScript's `String.length` would give, in which Remotion measures.
pub(crate) fn utf16_len(text: &str) -> usize {
    text.encode_utf16().count()
}
