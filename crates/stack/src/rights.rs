//! Who may do what by a template, and what another template changes about that.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::template::Template;

/// One thing that somebody may do, or may not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Right {
    /// On what.
    pub resource: String,
    /// `Allow` or `Deny`.
    pub effect: String,
    /// What, such as `sqs:SendMessage`; of a managed policy, its ARN.
    pub action: String,
    /// Who.
    pub principal: String,
    /// When; empty for always.
    pub condition: String,
}

/// Rights that have the same said about them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Whether they come, or go.
    pub added: bool,
    /// On what.
    pub resources: Vec<String>,
    /// `Allow` or `Deny`.
    pub effect: String,
    /// What may be done.
    pub actions: Vec<String>,
    /// Who.
    pub principal: String,
    /// When; empty for always.
    pub condition: String,
}

impl Change {
    /// Whether somebody may do more than before.
    #[must_use]
    pub fn broadens(&self) -> bool {
        self.added == (self.effect == "Allow")
    }
}

/// Everything that a template gives and forbids. Its parameters are resolved.
#[must_use]
pub fn of(template: &Template) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for (name, resource) in template.section("Resources") {
        let properties = &resource["Properties"];
        let role = || vec![format!("AWS:${{{name}}}")];
        match resource["Type"].as_str().unwrap_or_default() {
            "AWS::IAM::Role" => {
                let trusted = &properties["AssumeRolePolicyDocument"];
                statements(trusted, &[], Some(&format!("${{{name}.Arn}}")), &mut rights);
                for policy in list(&properties["Policies"]) {
                    statements(&policy["PolicyDocument"], &role(), None, &mut rights);
                }
                for arn in list(&properties["ManagedPolicyArns"]) {
                    rights.insert(Right {
                        resource: "(managed policy)".into(),
                        effect: "Allow".into(),
                        action: text(arn),
                        principal: format!("AWS:${{{name}}}"),
                        condition: String::new(),
                    });
                }
            }
            "AWS::IAM::Policy" | "AWS::IAM::ManagedPolicy" => {
                let mut holders = Vec::new();
                for kind in ["Roles", "Users", "Groups"] {
                    holders.extend(
                        list(&properties[kind]).into_iter().map(|holder| format!("AWS:{}", text(holder))),
                    );
                }
                statements(&properties["PolicyDocument"], &holders, None, &mut rights);
            }
            "AWS::Lambda::Permission" => {
                let source = properties.get("SourceArn").map(|arn| format!("from {}", text(arn)));
                rights.insert(Right {
                    resource: text(&properties["FunctionName"]),
                    effect: "Allow".into(),
                    action: text(&properties["Action"]),
                    principal: format!("Service:{}", text(&properties["Principal"])),
                    condition: source.unwrap_or_default(),
                });
            }
            "AWS::S3::BucketPolicy" | "AWS::SQS::QueuePolicy" | "AWS::SNS::TopicPolicy" => {
                statements(&properties["PolicyDocument"], &[], None, &mut rights);
            }
            _ => {}
        }
    }
    rights
}

/// What one set of rights changes about another, for reading: what comes first, then what goes.
#[must_use]
pub fn changes(before: &BTreeSet<Right>, after: &BTreeSet<Right>) -> Vec<Change> {
    let added = after.difference(before).map(|right| (true, right));
    let removed = before.difference(after).map(|right| (false, right));
    // First the actions that are said of the same resource, then the resources that have the same actions.
    let mut actions: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for (added, right) in added.chain(removed) {
        let key = (!added, &right.principal, &right.effect, &right.condition, &right.resource);
        actions.entry(key).or_default().push(&right.action);
    }
    let mut resources: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for ((removed, principal, effect, condition, resource), actions) in &actions {
        let key = (*removed, principal.as_str(), effect.as_str(), condition.as_str(), actions.as_slice());
        resources.entry(key).or_default().push(resource);
    }
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let mut changes = Vec::new();
    for ((removed, principal, effect, condition, actions), resources) in resources {
        changes.push(Change {
            added: !removed,
            resources: owned(&resources),
            effect: effect.to_owned(),
            actions: owned(actions),
            principal: principal.to_owned(),
            condition: condition.to_owned(),
        });
    }
    changes
}

/// The statements of a policy: of the principals that hold it, or of those it names itself.
fn statements(policy: &Value, holders: &[String], resource: Option<&str>, rights: &mut BTreeSet<Right>) {
    for statement in list(&policy["Statement"]) {
        let principals =
            if holders.is_empty() { principals(&statement["Principal"]) } else { holders.to_vec() };
        let resources = match resource {
            Some(resource) => vec![resource.to_owned()],
            None => texts(statement, "Resource"),
        };
        let condition = statement.get("Condition").map(Value::to_string).unwrap_or_default();
        for principal in &principals {
            for resource in &resources {
                for action in texts(statement, "Action") {
                    rights.insert(Right {
                        resource: resource.clone(),
                        effect: text(&statement["Effect"]),
                        action,
                        principal: principal.clone(),
                        condition: condition.clone(),
                    });
                }
            }
        }
    }
}

fn principals(value: &Value) -> Vec<String> {
    match value {
        Value::Object(kinds) => {
            let of_kind = |(kind, names): (&String, &Value)| {
                list(names).into_iter().map(|name| format!("{kind}:{}", text(name))).collect::<Vec<_>>()
            };
            kinds.iter().flat_map(of_kind).collect()
        }
        other => list(other).into_iter().map(text).collect(),
    }
}

/// What a statement says of actions or resources, also where it says what is meant by what is not.
fn texts(statement: &Value, name: &str) -> Vec<String> {
    let said = list(&statement[name]).into_iter().map(text);
    let not = format!("Not{name}");
    said.chain(list(&statement[&not]).into_iter().map(|value| format!("all but {}", text(value)))).collect()
}

fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TEMPLATE;
    use crate::template::Parameters;

    fn rights(parameters: &[(&str, &str)]) -> BTreeSet<Right> {
        let given: Parameters =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        of(&Template::parse(TEMPLATE).unwrap().resolved(&given))
    }

    #[test]
    fn mail_gives_one_right_to_one_function_and_says_so() {
        let (before, after) = (rights(&[]), rights(&[("MailFrom", "renders@example.com")]));
        let found = changes(&before, &after);
        assert_eq!(found.len(), 1, "{found:#?}");
        let [change] = found.as_slice() else { panic!() };
        assert!(change.added && change.broadens());
        assert_eq!(
            (change.actions.as_slice(), change.principal.as_str()),
            (&["ses:SendEmail".to_owned(), "ses:SendRawEmail".to_owned()][..], "AWS:${TendRole}")
        );
        assert!(change.condition.contains("renders@example.com"), "{change:?}");
        let place = "arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:";
        assert_eq!(change.resources, [format!("{place}configuration-set/*"), format!("{place}identity/*")]);
        let back = changes(&after, &before);
        assert!(back.len() == 1 && !back[0].added && !back[0].broadens(), "{back:?}");
    }

    #[test]
    fn another_bucket_takes_the_rights_of_the_one_before() {
        let named = |bucket| rights(&[("RemotionFunction", "remotion-render-x"), ("RemotionBucket", bucket)]);
        let found = changes(&named("remotionlambda-one"), &named("remotionlambda-two"));
        let (added, removed): (Vec<_>, Vec<_>) = found.iter().partition(|change| change.added);
        assert!(added.len() == 6 && removed.len() == 6, "{found:#?}");
        let all = |changes: &[&Change], text: &str| {
            changes.iter().all(|change| change.resources.iter().all(|resource| resource.contains(text)))
        };
        assert!(all(&added, "remotionlambda-two") && all(&removed, "remotionlambda-one"), "{found:#?}");
    }

    #[test]
    fn less_that_is_forbidden_is_more_that_is_allowed() {
        let denied: BTreeSet<_> = rights(&[]).into_iter().filter(|right| right.effect == "Deny").collect();
        assert!(!denied.is_empty());
        assert!(changes(&denied, &BTreeSet::new()).iter().all(Change::broadens));
        assert!(!changes(&BTreeSet::new(), &denied).iter().any(Change::broadens));
    }

    #[test]
    fn no_function_may_do_everything_with_anything() {
        for right in
            rights(&[("MailFrom", "a@b.example"), ("RemotionFunction", "f"), ("RemotionBucket", "b")])
                .iter()
                .filter(|right| right.effect == "Allow")
        {
            assert!(!right.action.contains('*'), "{right:?}");
            assert!(right.resource != "*", "{right:?}");
        }
    }
}
