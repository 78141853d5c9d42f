//! The system on AWS as one CloudFormation stack: what is in it ([`TEMPLATE`]), and what is done with it.
//!
//! A [`Stack`] is a name in a region of an account. [`comparison`] says what would change, [`deploy`] plans it and carries it out,
//! [`data`] is about what outlives a stack, [`look`] says how it is, [`people`] are those who sign in. [`rights`] compares what
//! templates allow. Nothing here asks or prints: that is for the commands.

pub mod code;
pub mod comparison;
pub mod data;
pub mod deploy;
mod error;
pub mod look;
pub mod people;
pub mod rights;
pub mod template;

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_cloudformation::types::StackStatus;

pub use self::error::Error;
use self::error::said;
use self::template::Parameters;

/// The stack: readable, and usable with CloudFormation alone.
pub const TEMPLATE: &str = include_str!("../template.yaml");

/// How long a name may be, so that those that are made of it are not too long for AWS.
const LONGEST: usize = 32;

/// A stack, whether it is there or not.
#[derive(Clone, Debug)]
pub struct Stack {
    name: String,
    region: String,
    cloudformation: aws_sdk_cloudformation::Client,
    cognito: aws_sdk_cognitoidentityprovider::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    lambda: aws_sdk_lambda::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    s3: aws_sdk_s3::Client,
    sqs: aws_sdk_sqs::Client,
    sts: aws_sdk_sts::Client,
}

/// What CloudFormation says of a stack.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its ARN, which is good for asking even after it is deleted.
    pub id: String,
    /// Where it stands.
    pub status: StackStatus,
    /// Why, where CloudFormation says so.
    pub reason: Option<String>,
    /// The values that its parameters have.
    pub parameters: Parameters,
    /// What it tells others.
    pub outputs: BTreeMap<String, String>,
}

impl Described {
    /// Whether CloudFormation is at work on it.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.status != StackStatus::ReviewInProgress && self.status.as_str().ends_with("_IN_PROGRESS")
    }

    /// Whether nothing was ever made of it: a change set that nobody carried out.
    #[must_use]
    pub fn is_plan(&self) -> bool {
        self.status == StackStatus::ReviewInProgress
    }

    /// Whether it never came to be, so that nothing is left to do with it but to delete it.
    #[must_use]
    pub fn is_wreck(&self) -> bool {
        use StackStatus::{CreateFailed, DeleteFailed, RollbackComplete, RollbackFailed};
        matches!(self.status, CreateFailed | DeleteFailed | RollbackComplete | RollbackFailed)
    }
}

impl Stack {
    /// The stack of that name, in the account and the region of the configuration.
    ///
    /// # Errors
    /// [`Error::Usage`] when the name is none for a stack, or there is no region.
    pub fn new(sdk: &SdkConfig, name: &str) -> Result<Self, Error> {
        let letters =
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if !letters || !begins || name.ends_with('-') || !(3..=LONGEST).contains(&name.len()) {
            return Err(Error::Usage(format!(
                "--stack: `{name}` must be 3 to {LONGEST} lower-case letters, digits and hyphens, and begin with a letter: it becomes \
                 part of a bucket's name"
            )));
        }
        let Some(region) = sdk.region() else {
            return Err(Error::Usage(
                "no region: say --region, set AWS_REGION, or give the profile one with `aws configure`"
                    .into(),
            ));
        };
        // What stands in for AWS has one name for all buckets; with AWS it makes no difference.
        let path_style =
            aws_sdk_s3::config::Builder::from(sdk).force_path_style(sdk.endpoint_url().is_some());
        Ok(Self {
            name: name.to_owned(),
            region: region.to_string(),
            cloudformation: aws_sdk_cloudformation::Client::new(sdk),
            cognito: aws_sdk_cognitoidentityprovider::Client::new(sdk),
            dynamodb: aws_sdk_dynamodb::Client::new(sdk),
            lambda: aws_sdk_lambda::Client::new(sdk),
            logs: aws_sdk_cloudwatchlogs::Client::new(sdk),
            s3: aws_sdk_s3::Client::from_conf(path_style.build()),
            sqs: aws_sdk_sqs::Client::new(sdk),
            sts: aws_sdk_sts::Client::new(sdk),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The number of the account.
    ///
    /// # Errors
    /// When AWS does not know the caller, or does not answer.
    pub async fn account(&self) -> Result<String, Error> {
        let asked = self.sts.get_caller_identity().send().await;
        let identity = asked.map_err(|error| said("sts:GetCallerIdentity", error))?;
        Ok(identity.account.unwrap_or_default())
    }

    /// What CloudFormation knows of it; `None` when there is no such stack.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn describe(&self) -> Result<Option<Described>, Error> {
        self.described(&self.name).await
    }

    /// The same by a name or an ARN.
    async fn described(&self, stack: &str) -> Result<Option<Described>, Error> {
        let asked = self.cloudformation.describe_stacks().stack_name(stack).send().await;
        let found = match asked.map_err(|error| said("cloudformation:DescribeStacks", error)) {
            Ok(found) => found.stacks.unwrap_or_default().into_iter().next(),
            Err(Error::Refused { code, message, .. })
                if code == "ValidationError" && message.contains("does not exist") =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        let Some(found) = found else { return Ok(None) };
        if found.stack_status == Some(StackStatus::DeleteComplete) && stack == self.name {
            return Ok(None);
        }
        let parameter = |parameter: aws_sdk_cloudformation::types::Parameter| {
            Some((parameter.parameter_key?, parameter.parameter_value.unwrap_or_default()))
        };
        let output =
            |output: aws_sdk_cloudformation::types::Output| Some((output.output_key?, output.output_value?));
        Ok(Some(Described {
            id: found.stack_id.unwrap_or_default(),
            status: found.stack_status.unwrap_or(StackStatus::CreateFailed),
            reason: found.stack_status_reason.filter(|reason| !reason.is_empty()),
            parameters: found.parameters.unwrap_or_default().into_iter().filter_map(parameter).collect(),
            outputs: found.outputs.unwrap_or_default().into_iter().filter_map(output).collect(),
        }))
    }

    /// What the stack tells others, such as `queueurl`.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is no such stack, or none that came to be.
    pub async fn outputs(&self) -> Result<BTreeMap<String, String>, Error> {
        match self.describe().await? {
            Some(found) if !found.outputs.is_empty() => Ok(found.outputs),
            _ => Err(self.missing()),
        }
    }

    fn missing(&self) -> Error {
        Error::Missing { stack: self.name.clone(), region: self.region.clone() }
    }
}
