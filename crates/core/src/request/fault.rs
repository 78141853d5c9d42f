//! What is wrong with what was sent, and where.

use serde::{Deserialize, Serialize};

/// Longest name of a composition, site, group or tenant, in bytes.
const MAX_NAME: usize = 256;

/// One thing wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// Where, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

impl FieldError {
    /// What is wrong at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }

    /// The same, in a document that has at `pointer` what this one is about.
    #[must_use]
    pub fn below(self, pointer: &str) -> Self {
        Self { pointer: format!("{pointer}{}", self.pointer), ..self }
    }
}

/// What is wrong with a name of a composition, site, group or tenant.
#[must_use]
pub fn check_name(pointer: &str, name: &str) -> Option<FieldError> {
    let fine = (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control);
    (!fine).then(|| {
        FieldError::new(pointer, format!("must have 1 to {MAX_NAME} bytes, none of them a control character"))
    })
}

/// What is wrong, as it is found.
#[derive(Default)]
pub(crate) struct Errors(pub(crate) Vec<FieldError>);

impl Errors {
    pub(crate) fn add(&mut self, pointer: &str, detail: impl Into<String>) {
        self.0.push(FieldError::new(pointer, detail));
    }

    pub(crate) fn unless(&mut self, fine: bool, pointer: &str, detail: impl Into<String>) {
        if !fine {
            self.add(pointer, detail);
        }
    }

    pub(crate) fn within<T: Copy + PartialOrd + std::fmt::Display>(
        &mut self,
        pointer: &str,
        value: Option<T>,
        least: T,
        most: T,
    ) {
        if let Some(value) = value
            && !(least..=most).contains(&value)
        {
            self.add(pointer, format!("is {value}, and must be from {least} to {most}"));
        }
    }

    pub(super) fn name(&mut self, pointer: &str, name: &str) {
        self.0.extend(check_name(pointer, name));
    }
}

/// Turns what serde says into a pointer and a sentence.
pub(crate) fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in error.path() {
        let step = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&step);
    }
    // The pointer says where; a line and a column of the text would say it worse.
    let detail = error.inner().to_string();
    let detail = detail.split(" at line ").next().unwrap_or_default();
    // serde names a missing field in its message only: the pointer should lead there all the same.
    if let Some(name) = detail.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return FieldError::new(format!("{pointer}/{name}"), "is required");
    }
    FieldError::new(pointer, detail)
}
