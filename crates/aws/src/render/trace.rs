//! What the next attempt must know of a render on Lambda, so that nothing is paid for twice.

use jiff::Timestamp;
use lastframe_core::{Checkpoint, RenderId};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The field of a checkpoint that says whose it is.
const NAME: &str = "remotionLambda";

/// Where a render goes: one function, with the bucket it writes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Address {
    /// The number of the AWS account's keys; the usual credentials when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<u32>,
    pub(crate) region: String,
    pub(crate) function: String,
    pub(crate) bucket: String,
}

/// One start on Lambda: written down before it is tried, and again when it is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trace {
    /// Counts the starts of this render, from 1.
    pub(crate) start: u32,
    pub(crate) address: Address,
    /// The name of the output, which no other start has: by it the render is found when the answer was lost.
    pub(crate) out_name: String,
    pub(crate) intended_at: Timestamp,
    /// Remotion's name for the render, once the start was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) render_id: Option<String>,
    /// Nothing came of it, and that was dealt with: the next start is another one.
    #[serde(default)]
    pub(crate) over: bool,
    /// What all starts before this one have cost, in US dollars.
    #[serde(default)]
    pub(crate) spent_before: f64,
    /// What this one has cost, as far as it is known.
    #[serde(default)]
    pub(crate) cost: f64,
}

impl Trace {
    /// The intent to start `render` there, for the `start`-th time.
    pub(crate) fn intent(
        render: RenderId,
        start: u32,
        address: Address,
        extension: &str,
        now: Timestamp,
    ) -> Self {
        let out_name = format!("{render}-{start}.{extension}");
        Self {
            start,
            address,
            out_name,
            intended_at: now,
            render_id: None,
            over: false,
            spent_before: 0.0,
            cost: 0.0,
        }
    }

    /// What all starts have cost so far, in US dollars.
    pub(crate) fn spent(&self) -> f64 {
        self.spent_before + self.cost
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint(json!({ NAME: self }))
    }

    /// What a checkpoint tells; none when it is not from here.
    pub(crate) fn read(checkpoint: &Checkpoint) -> Option<Self> {
        Self::deserialize(checkpoint.0.get(NAME)?).ok()
    }
}

/// Whether a checkpoint was left by a render on Lambda.
#[must_use]
pub fn is_on_lambda(checkpoint: &Checkpoint) -> bool {
    checkpoint.0.get(NAME).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_back_and_no_other_is_taken_for_one() {
        let address = Address {
            account: Some(2),
            region: "eu-central-1".into(),
            function: "f".into(),
            bucket: "remotionlambda-a".into(),
        };
        let render: RenderId = "01920000-0000-7000-8000-000000000000".parse().unwrap();
        let trace = Trace::intent(render, 3, address, "mp4", Timestamp::UNIX_EPOCH);
        assert_eq!(trace.out_name, "01920000-0000-7000-8000-000000000000-3.mp4");
        assert_eq!(Trace::read(&trace.checkpoint()), Some(trace.clone()));
        assert!(is_on_lambda(&trace.checkpoint()));
        let other = Checkpoint(json!({"frames": 3}));
        assert!(Trace::read(&other).is_none() && !is_on_lambda(&other));
    }
}
