//! Changes: planned as a change set, carried out, followed to their end.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use aws_sdk_cloudformation::operation::describe_change_set::DescribeChangeSetOutput;
use aws_sdk_cloudformation::types::{
    Capability, Change, ChangeSetStatus, ChangeSetType, EventFilter, OperationEvent, Parameter, Replacement,
    ResourceAttribute, ResourceToImport, StackEvent, Tag,
};
use serde::Serialize;

use crate::comparison::own;
use crate::data::Kept;
use crate::error::said;
use crate::template::Parameters;
use crate::{Described, Error, Stack, TEMPLATE};

/// How soon AWS is asked again, at first and at most: a stand-in is done at once, CloudFormation takes minutes.
const SOON: Duration = Duration::from_millis(200);
const LATER: Duration = Duration::from_secs(2);

/// What happens to a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResourceChange {
    /// `Add`, `Modify`, `Remove` or `Import`.
    pub action: String,
    /// Its name in the template.
    pub resource: String,
    /// What it is, such as `AWS::SQS::Queue`.
    pub kind: String,
    /// Whether another takes its place: `False`, `True` or `Conditional`.
    pub replacement: String,
    /// The properties that change.
    pub properties: Vec<String>,
}

/// A change set that is ready to be carried out.
#[derive(Clone, Debug)]
pub struct Plan {
    change_set: String,
    stack: String,
    /// Whether it makes the stack.
    pub is_new: bool,
    /// What happens to what.
    pub resources: Vec<ResourceChange>,
}

/// Something that CloudFormation is at.
#[derive(Clone, Debug)]
pub struct Operation {
    stack: String,
    /// What its events carry; `None` of one that somebody else has begun.
    token: Option<String>,
}

impl Operation {
    /// Whatever is under way with that stack.
    #[must_use]
    pub fn of_another(stack: &Described) -> Self {
        Self { stack: stack.id.clone(), token: None }
    }
}

/// Something that CloudFormation did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The resource's name in the template; the stack's own for the stack.
    pub resource: String,
    /// What it is.
    pub kind: String,
    /// How far it is, such as `CREATE_COMPLETE`.
    pub status: String,
    /// Why, where CloudFormation says so.
    pub reason: Option<String>,
}

impl Event {
    /// Whether it is about the stack as a whole.
    #[must_use]
    pub fn is_of_stack(&self) -> bool {
        self.kind == "AWS::CloudFormation::Stack"
    }

    /// Whether something failed by itself, and not because something else did.
    #[must_use]
    pub fn is_cause(&self) -> bool {
        let reason = self.reason.as_deref().unwrap_or_default();
        self.status.ends_with("_FAILED") && !self.is_of_stack() && !reason.contains("cancelled")
    }
}

/// How a change ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Where the stack stands now, such as `UPDATE_COMPLETE`.
    pub status: String,
    /// What failed by itself, in its order. Empty when all went well.
    pub causes: Vec<Event>,
}

impl Ended {
    /// Whether it did what was asked for.
    #[must_use]
    pub fn is_well(&self) -> bool {
        matches!(
            self.status.as_str(),
            "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" | "DELETE_COMPLETE"
        )
    }
}

impl Stack {
    /// Has CloudFormation work out what would happen. `None` when nothing would.
    ///
    /// # Errors
    /// [`Error::Change`] when CloudFormation does not take it; when AWS refuses or does not answer.
    pub async fn plan(&self, before: Option<&Described>, after: &Parameters) -> Result<Option<Plan>, Error> {
        let is_new = before.is_none_or(Described::is_plan);
        let kind = if is_new { ChangeSetType::Create } else { ChangeSetType::Update };
        self.change_set(kind, TEMPLATE, after, Vec::new()).await
    }

    /// The same for taking back what an earlier stack has left: those resources come first, alone.
    ///
    /// # Errors
    /// As for [`Stack::plan`].
    pub async fn plan_import(&self, kept: &Kept, after: &Parameters) -> Result<Option<Plan>, Error> {
        let import = |(resource, kind, identifier, value): (&str, &str, &str, &str)| {
            ResourceToImport::builder()
                .logical_resource_id(resource)
                .resource_type(kind)
                .resource_identifier(identifier, value)
                .build()
        };
        let resources = kept.resources();
        let template =
            own().only(&resources.iter().map(|(resource, ..)| *resource).collect::<Vec<_>>()).to_json();
        let imports = resources.into_iter().map(import).collect();
        self.change_set(ChangeSetType::Import, &template, after, imports).await
    }

    async fn change_set(
        &self,
        kind: ChangeSetType,
        template: &str,
        parameters: &Parameters,
        imports: Vec<ResourceToImport>,
    ) -> Result<Option<Plan>, Error> {
        let is_new = kind != ChangeSetType::Update;
        let parameter = |(name, value): (&String, &String)| {
            Parameter::builder().parameter_key(name).parameter_value(value).build()
        };
        let asked = self
            .cloudformation
            .create_change_set()
            .stack_name(&self.name)
            .change_set_name(unique())
            .change_set_type(kind)
            .template_body(template)
            .set_parameters(Some(parameters.iter().map(parameter).collect()))
            // What is imported may not be changed meanwhile.
            .set_tags(
                imports.is_empty().then(|| vec![Tag::builder().key("lastframe").value(&self.name).build()]),
            )
            .set_resources_to_import((!imports.is_empty()).then_some(imports))
            .capabilities(Capability::CapabilityNamedIam)
            .send()
            .await;
        let made = match asked.map_err(|error| said("cloudformation:CreateChangeSet", error)) {
            // What is wrong with values is said right here.
            Err(Error::Refused { code, message, .. }) if code == "ValidationError" => {
                return Err(Error::Change { reason: message, causes: Vec::new() });
            }
            made => made?,
        };
        let mut plan = Plan {
            change_set: made.id.ok_or(Error::Answer("a change set"))?,
            stack: made.stack_id.ok_or(Error::Answer("a change set"))?,
            is_new,
            resources: Vec::new(),
        };
        match self.changes_of(&plan.change_set).await {
            Ok(Ok(changes)) => plan.resources = changes,
            Ok(Err(reason)) => {
                let nothing = ["didn't contain changes", "No updates are to be performed"];
                if nothing.iter().any(|nothing| reason.contains(nothing)) {
                    self.discard(&plan).await?;
                    return Ok(None);
                }
                // Nobody can ask any more once it is gone.
                let causes = self.objections(&plan.change_set).await;
                self.discard(&plan).await?;
                return Err(Error::Change { reason, causes });
            }
            Err(error) => return Err(error),
        }
        Ok(Some(plan))
    }

    /// What is in a change set, once CloudFormation has worked it out; or why it did not.
    async fn changes_of(&self, change_set: &str) -> Result<Result<Vec<ResourceChange>, String>, Error> {
        let mut pause = Pause::default();
        let (mut changes, mut next) = (Vec::new(), None);
        loop {
            let asked = self.cloudformation.describe_change_set().change_set_name(change_set);
            let asked = asked.set_next_token(next.clone()).send().await;
            let found: DescribeChangeSetOutput =
                asked.map_err(|error| said("cloudformation:DescribeChangeSet", error))?;
            match found.status {
                Some(ChangeSetStatus::CreateComplete) => {
                    changes.extend(found.changes.unwrap_or_default().into_iter().filter_map(resource_change));
                    next = found.next_token;
                    if next.is_none() {
                        return Ok(Ok(changes));
                    }
                }
                Some(ChangeSetStatus::Failed) => {
                    return Ok(Err(found.status_reason.unwrap_or_else(|| "it does not say why".into())));
                }
                _ => pause.wait().await,
            }
        }
    }

    /// What CloudFormation has against which resource of a change set. It is more than its reason says, and nothing where
    /// that may not be asked.
    async fn objections(&self, change_set: &str) -> Vec<Event> {
        let failed = EventFilter::builder().failed_events(true).build();
        let asked = self.cloudformation.describe_events().change_set_name(change_set).filters(failed);
        let found = asked.send().await.ok().and_then(|found| found.operation_events);
        found.unwrap_or_default().into_iter().filter_map(objection).collect()
    }

    /// Takes a plan back, so that nothing of it is left.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn discard(&self, plan: &Plan) -> Result<(), Error> {
        let asked = self.cloudformation.delete_change_set().change_set_name(&plan.change_set).send().await;
        asked.map_err(|error| said("cloudformation:DeleteChangeSet", error))?;
        self.sweep_plan().await
    }

    /// Removes the empty shell that a plan for a new stack leaves, whoever left it.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn sweep_plan(&self) -> Result<(), Error> {
        if let Some(found) = self.describe().await?
            && found.is_plan()
        {
            let asked = self.cloudformation.delete_stack().stack_name(&found.id).send().await;
            asked.map_err(|error| said("cloudformation:DeleteStack", error))?;
        }
        Ok(())
    }

    /// Has CloudFormation carry a plan out.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn carry_out(&self, plan: &Plan) -> Result<Operation, Error> {
        let token = unique();
        let asked = self.cloudformation.execute_change_set().change_set_name(&plan.change_set);
        let asked = asked.client_request_token(&token).send().await;
        asked.map_err(|error| said("cloudformation:ExecuteChangeSet", error))?;
        Ok(Operation { stack: plan.stack.clone(), token: Some(token) })
    }

    /// Has CloudFormation delete the stack; what its template retains stays.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn delete(&self, stack: &Described) -> Result<Operation, Error> {
        let token = unique();
        let asked = self.cloudformation.delete_stack().stack_name(&stack.id).client_request_token(&token);
        asked.send().await.map_err(|error| said("cloudformation:DeleteStack", error))?;
        Ok(Operation { stack: stack.id.clone(), token: Some(token) })
    }

    /// Has CloudFormation try again to undo a change that could not be undone.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn undo(&self, stack: &Described) -> Result<Operation, Error> {
        let token = unique();
        let asked = self.cloudformation.continue_update_rollback().stack_name(&stack.id);
        let asked = asked.client_request_token(&token).send().await;
        asked.map_err(|error| said("cloudformation:ContinueUpdateRollback", error))?;
        Ok(Operation { stack: stack.id.clone(), token: Some(token) })
    }

    /// Follows an operation to its end, and tells what happens. When this future is dropped, CloudFormation goes on.
    ///
    /// # Errors
    /// When AWS refuses or does not answer. That something failed is in what is returned.
    pub async fn follow(&self, operation: &Operation, mut tell: impl FnMut(&Event)) -> Result<Ended, Error> {
        let (mut seen, mut causes) = (HashSet::new(), Vec::new());
        let mut pause = Pause::default();
        loop {
            let fresh = self.events(operation, &mut seen).await?;
            if !fresh.is_empty() {
                pause = Pause::default();
            }
            for event in fresh {
                tell(&event);
                let over = event.is_of_stack() && event.resource == self.name && is_end(&event.status);
                if over {
                    return Ok(Ended { status: event.status, causes });
                }
                if event.is_cause() {
                    causes.push(event);
                }
            }
            pause.wait().await;
        }
    }

    /// The events of an operation that were not seen before, oldest first.
    async fn events(&self, operation: &Operation, seen: &mut HashSet<String>) -> Result<Vec<Event>, Error> {
        let token = operation.token.as_deref();
        let (mut fresh, mut next) = (Vec::new(), None);
        'pages: loop {
            let asked = self.cloudformation.describe_stack_events().stack_name(&operation.stack);
            let asked = asked.set_next_token(next).send().await;
            let page = asked.map_err(|error| said("cloudformation:DescribeStackEvents", error))?;
            for event in page.stack_events.unwrap_or_default() {
                let of_another = token.is_some() && event.client_request_token.as_deref() != token;
                if of_another || !seen.insert(event.event_id.clone().unwrap_or_default()) {
                    break 'pages;
                }
                let event = read(event);
                let of_stack = event.is_of_stack() && event.resource == self.name;
                // Where nobody knows a token, an operation begins where it says so.
                let begins = token.is_none() && of_stack && is_begin(&event.status);
                fresh.push(event);
                if begins {
                    break 'pages;
                }
            }
            next = page.next_token;
            if next.is_none() {
                break;
            }
        }
        fresh.reverse();
        Ok(fresh)
    }
}

fn read(event: StackEvent) -> Event {
    Event {
        resource: event.logical_resource_id.unwrap_or_default(),
        kind: event.resource_type.unwrap_or_default(),
        status: event.resource_status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
        reason: event.resource_status_reason.filter(|reason| !reason.is_empty()),
    }
}

/// What was found wrong with a resource before anything was done.
fn objection(event: OperationEvent) -> Option<Event> {
    let OperationEvent { validation_status_reason, hook_status_reason, resource_status_reason, .. } = event;
    let reasons = [validation_status_reason, hook_status_reason, resource_status_reason];
    let reason = reasons.into_iter().flatten().find(|reason| !reason.is_empty())?;
    Some(Event {
        resource: event.logical_resource_id.unwrap_or_default(),
        kind: event.resource_type.unwrap_or_default(),
        status: event.validation_status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
        reason: Some(reason),
    })
}

fn is_end(status: &str) -> bool {
    !status.ends_with("_IN_PROGRESS")
}

fn is_begin(status: &str) -> bool {
    matches!(
        status,
        "CREATE_IN_PROGRESS" | "UPDATE_IN_PROGRESS" | "DELETE_IN_PROGRESS" | "IMPORT_IN_PROGRESS"
    )
}

fn resource_change(change: Change) -> Option<ResourceChange> {
    let change = change.resource_change?;
    let property = |detail: &aws_sdk_cloudformation::types::ResourceChangeDetail| {
        let target = detail.target()?;
        Some(target.name().or_else(|| target.attribute().map(ResourceAttribute::as_str))?.to_owned())
    };
    let properties: BTreeSet<_> = change.details().iter().filter_map(property).collect();
    Some(ResourceChange {
        action: change.action.map(|action| action.as_str().to_owned()).unwrap_or_default(),
        resource: change.logical_resource_id.unwrap_or_default(),
        kind: change.resource_type.unwrap_or_default(),
        replacement: change.replacement.unwrap_or(Replacement::False).as_str().to_owned(),
        properties: properties.into_iter().collect(),
    })
}

/// A name that nothing else has.
fn unique() -> String {
    format!("lastframe-{:016x}", fastrand::u64(..))
}

/// Waiting between questions, longer each time.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(SOON)
    }
}

impl Pause {
    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 3 / 2).min(LATER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_wrong_beforehand_is_told_of_its_resource() {
        let found = OperationEvent::builder()
            .logical_resource_id("RemotionLambdaRole")
            .resource_type("AWS::IAM::Role")
            .validation_status_reason("Resource with identifier 'remotion-lambda-role' already exists");
        let told = objection(found.build()).unwrap();
        assert_eq!((told.resource.as_str(), told.kind.as_str()), ("RemotionLambdaRole", "AWS::IAM::Role"));
        assert!(told.reason.unwrap().contains("already exists"));
        assert_eq!(objection(OperationEvent::builder().logical_resource_id("Queue").build()), None);
    }
}
