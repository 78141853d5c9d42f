//! Which frames of a composition are rendered.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What `frameRange` must look like.
const SHAPE: &str = "must be a frame number, `[from, to]`, `[from, null]` or an array of such pairs, of whole numbers from 0 up";

/// The frames to render: one frame, or one or more ranges, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameRange {
    /// This frame alone. As JSON, a number.
    Single(u32),
    /// From one to another, or to the last. As JSON, `[from, to]` or `[from, null]`.
    One(Range),
    /// One range after another, in order and apart from each other. As JSON, an array of them.
    Several(Vec<Range>),
}

/// From one frame to another; to the last where there is no other.
pub type Range = (u32, Option<u32>);

impl FrameRange {
    /// The last frame that it names.
    #[must_use]
    pub fn last(&self) -> u32 {
        let last = |(from, to): &Range| to.unwrap_or(*from);
        match self {
            Self::Single(frame) => *frame,
            Self::One(range) => last(range),
            Self::Several(ranges) => ranges.last().map_or(0, last),
        }
    }
}

fn range(value: &Value) -> Result<Range, String> {
    let frame = |value: &Value| {
        value.as_u64().and_then(|frame| u32::try_from(frame).ok()).ok_or_else(|| SHAPE.to_owned())
    };
    match value.as_array().map(Vec::as_slice) {
        Some([from, Value::Null]) => Ok((frame(from)?, None)),
        Some([from, to]) => {
            let (from, to) = (frame(from)?, frame(to)?);
            if from > to {
                return Err(format!("ends at frame {to}, before it starts at frame {from}"));
            }
            Ok((from, Some(to)))
        }
        _ => Err(SHAPE.into()),
    }
}

fn read(value: &Value) -> Result<FrameRange, String> {
    match value {
        Value::Number(number) => {
            let frame = number.as_u64().and_then(|frame| u32::try_from(frame).ok());
            frame.map(FrameRange::Single).ok_or_else(|| SHAPE.to_owned())
        }
        Value::Array(ranges) if ranges.first().is_some_and(Value::is_array) => {
            let ranges = ranges.iter().map(range).collect::<Result<Vec<_>, _>>()?;
            for pair in ranges.windows(2) {
                if pair[0].1.is_none_or(|end| end >= pair[1].0) {
                    return Err("has ranges that are out of order or overlap".into());
                }
            }
            Ok(FrameRange::Several(ranges))
        }
        value => range(value).map(FrameRange::One),
    }
}

impl<'de> Deserialize<'de> for FrameRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for FrameRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Single(frame) => frame.serialize(serializer),
            Self::One(range) => range.serialize(serializer),
            Self::Several(ranges) => ranges.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_read_as_they_are_written() {
        for (value, last) in [
            (json!(7), 7),
            (json!([3, 9]), 9),
            (json!([3, null]), 3),
            (json!([[0, 2], [5, 7]]), 7),
            (json!([[0, 2], [5, null]]), 5),
        ] {
            let range: FrameRange = serde_json::from_value(value.clone()).unwrap();
            assert_eq!((serde_json::to_value(&range).unwrap(), range.last()), (value, last));
        }
    }

    #[test]
    fn ranges_that_nothing_could_come_of_are_refused() {
        for value in [
            json!(-1),
            json!([]),
            json!([9, 3]),
            json!([1, 2, 3]),
            json!([[0, 5], [5, 7]]),
            json!([[5, 7], [0, 2]]),
            json!([[0, null], [5, 7]]),
            json!([[0, 2], 5]),
            json!({"type": "frames", "frames": [1, 2]}),
        ] {
            assert!(serde_json::from_value::<FrameRange>(value.clone()).is_err(), "{value}");
        }
    }
}
