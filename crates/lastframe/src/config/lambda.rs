//! Which functions of Remotion Lambda renders go to.

use std::time::Duration;

use serde::Deserialize;

use super::optional_duration;

/// `[lambda]` in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LambdaSection {
    concurrency: Option<usize>,
    #[serde(deserialize_with = "optional_duration")]
    settle: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    stall: Option<Duration>,
    max_cost: Option<f64>,
    function: Vec<LambdaFunction>,
}

/// A function of Remotion Lambda.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LambdaFunction {
    /// Its name, as Remotion gave it.
    pub name: String,
    /// The region of AWS that it is in.
    pub region: String,
    /// The bucket of its renders; Remotion's own of that region when absent.
    #[serde(default)]
    pub bucket: Option<String>,
    /// The number of the AWS account's keys in the environment; the usual credentials when absent.
    #[serde(default)]
    pub account: Option<u32>,
}

/// How renders are made on Remotion Lambda.
#[derive(Clone, Debug)]
pub struct Lambda {
    /// Renders at once there.
    pub concurrency: usize,
    /// How long a start that was not answered is looked for before there is another one.
    pub settle: Duration,
    /// A render in which nothing happens for so long is given up.
    pub stall: Duration,
    /// What a render may cost at most, in US dollars.
    pub max_cost: Option<f64>,
    /// The functions there are; none where nothing is rendered on Lambda.
    pub functions: Vec<LambdaFunction>,
}

impl LambdaSection {
    pub(super) fn read(self) -> anyhow::Result<Lambda> {
        let concurrency = self.concurrency.unwrap_or(20);
        anyhow::ensure!(concurrency > 0, "lambda.concurrency must be at least 1");
        let settle = self.settle.unwrap_or(Duration::from_secs(30));
        anyhow::ensure!(settle >= Duration::from_secs(1), "lambda.settle must be at least 1s");
        let stall = self.stall.unwrap_or(Duration::from_secs(5 * 60));
        anyhow::ensure!(stall >= Duration::from_secs(10), "lambda.stall must be at least 10s");
        anyhow::ensure!(self.max_cost.is_none_or(|most| most > 0.0), "lambda.max_cost must be more than 0");
        for function in &self.function {
            let is_region = function.region.split('-').count() >= 3
                && function.region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            anyhow::ensure!(
                is_region,
                "lambda.function.region is `{}`, and must be like eu-central-1",
                function.region
            );
            let is_name = !function.name.is_empty()
                && function.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            anyhow::ensure!(
                is_name,
                "lambda.function.name is `{}`, and is no name of a function",
                function.name
            );
        }
        Ok(Lambda { concurrency, settle, stall, max_cost: self.max_cost, functions: self.function })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Lambda> {
        toml::from_str::<LambdaSection>(text).unwrap().read()
    }

    #[test]
    fn functions_are_named_with_their_regions_and_what_cannot_be_is_refused() {
        let lambda = read(
            "[[function]]\nname = \"remotion-render-4-0-527-mem2048mb-disk10240mb-120sec\"\nregion = \"eu-central-1\"\naccount = 2",
        );
        let lambda = lambda.unwrap();
        assert_eq!((lambda.functions.len(), lambda.functions[0].account), (1, Some(2)));
        for (text, key) in [
            ("concurrency = 0", "lambda.concurrency"),
            ("settle = \"10ms\"", "lambda.settle"),
            ("stall = \"1s\"", "lambda.stall"),
            ("max_cost = 0.0", "lambda.max_cost"),
            ("[[function]]\nname = \"f\"\nregion = \"frankfurt\"", "lambda.function.region"),
            ("[[function]]\nname = \"arn:aws\"\nregion = \"eu-central-1\"", "lambda.function.name"),
        ] {
            assert!(read(text).unwrap_err().to_string().contains(key), "{text}");
        }
        assert!(read("").unwrap().functions.is_empty());
    }
}
