//! Many requests in one body.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::props::{BodyError, Fields};
use crate::render::Kind;
use crate::request::{FieldError, RenderRequest};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    renders: Vec<&'a RawValue>,
}

/// Where a batch has its item of that index, as a JSON pointer.
#[must_use]
pub fn place(index: usize) -> String {
    format!("/renders/{index}")
}

/// Reads `{"renders": [...]}`, each item as [`RenderRequest::parse`] does.
///
/// # Errors
/// Everything that is wrong with any of them, as far as it can be told from the requests alone.
pub fn parse(body: Fields<'_>, most: usize) -> Result<Vec<(RenderRequest, Vec<String>)>, BodyError> {
    let items = body.into_typed::<Batch<'_>>()?.renders;
    if !(1..=most).contains(&items.len()) {
        let detail = format!("has {} requests, and must have 1 to {most}", items.len());
        return Err(BodyError::Invalid(vec![FieldError::new("/renders", detail)]));
    }
    let mut errors = Vec::new();
    let mut requests = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        match Fields::read(item.get().as_bytes()).and_then(|fields| RenderRequest::parse(fields, Kind::Media))
        {
            Ok((request, _)) if request.dry_run == Some(true) => {
                let detail = "a batch has no dry run: try this request by itself";
                errors.push(FieldError::new("/dryRun", detail).below(&place(index)));
            }
            Ok(read) => requests.push(read),
            Err(BodyError::Invalid(wrong)) => {
                errors.extend(wrong.into_iter().map(|error| error.below(&place(index))));
            }
            Err(not_json) => return Err(not_json),
        }
    }
    if errors.is_empty() { Ok(requests) } else { Err(BodyError::Invalid(errors)) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &Value) -> Result<usize, Vec<String>> {
        let body = body.to_string();
        match Fields::read(body.as_bytes()).and_then(|fields| parse(fields, 3)) {
            Ok(requests) => Ok(requests.len()),
            Err(BodyError::Invalid(errors)) => Err(errors.into_iter().map(|error| error.pointer).collect()),
            Err(BodyError::NotJson(why)) => panic!("{why}"),
        }
    }

    #[test]
    fn everything_wrong_in_a_batch_is_said_at_once_with_its_place() {
        let good = json!({"serveUrl": "site", "composition": "main"});
        let refused = |renders: Value| read(&json!({"renders": renders})).expect_err("must be refused");
        assert_eq!(read(&json!({"renders": [good, good]})), Ok(2));
        assert_eq!(refused(json!([])), ["/renders"]);
        assert_eq!(refused(json!([good, good, good, good])), ["/renders"]);
        assert_eq!(refused(json!({"0": good})), ["/renders"]);
        assert_eq!(read(&json!({})), Err(vec!["/renders".into()]));
        assert_eq!(read(&json!({"renders": [good], "group": "a"})), Err(vec!["/group".into()]));
        let (mut dry, mut wrong) = (good.clone(), good.clone());
        dry["dryRun"] = true.into();
        wrong["crf"] = 99.into();
        wrong["apiKey"] = "k".into();
        assert_eq!(
            refused(json!([wrong, 7, dry])),
            ["/renders/0/apiKey", "/renders/0/crf", "/renders/1", "/renders/2/dryRun"]
        );
    }
}
