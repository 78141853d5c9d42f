//! Everything that the guide's stack has is in the template, or there is a reason why not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

use std::collections::{BTreeMap, BTreeSet};

use lastframe_stack::TEMPLATE;
use lastframe_stack::rights;
use lastframe_stack::template::{Parameters, Template};
use serde_json::{Value, json};

const GUIDE: &str = include_str!("guide-stack.json");

/// The guide's names, and ours.
const SAME: &[(&str, &str)] = &[
    ("userpool", "UserPool"),
    ("remotion-starter-userpool-client", "UserPoolClient"),
    ("remotionSQSLambdaRole", "RenderRole"),
    ("remotionSQSLambdaRole/DefaultPolicy", "RenderPolicy"),
    ("api-integration-role", "ApiRole"),
    ("api-integration-role/DefaultPolicy", "CommonPolicy"),
    ("queue", "Queue"),
    ("enqueue-function", "ApiFunction"),
    ("render-function", "RenderFunction"),
    ("render-function/SqsEventSource", "RenderMapping"),
    ("api", "Api"),
    ("api/DefaultStage", "Stage"),
    ("api/POST--enqueue/integration", "Integration"),
    ("api/POST--enqueue/permission", "ApiMayInvoke"),
    ("api/POST--enqueue", "EnqueueRoute"),
    ("api/remotion-user-pool-authorizer", "Authorizer"),
];

/// Resources that the guide's stack has and ours does not.
const WITHOUT: &[(&str, &str)] = &[
    (
        "api/OPTIONS--enqueue",
        "The gateway answers preflights itself (CorsConfiguration). A route with the authorizer refuses them: browsers send no token",
    ),
    ("api/OPTIONS--enqueue/permission", "There is one function for all routes, so one permission"),
];

/// Properties that differ: resource, how the path begins, why.
const DIFFERENT: &[(&str, &str, &str)] = &[
    (
        "userpool",
        "AdminCreateUserConfig",
        "Self-sign-up is off unless SelfSignUp says otherwise: whoever signs up would render at the owner's cost",
    ),
    ("userpool", "EmailVerification", "Cognito's own texts, which are the same"),
    ("userpool", "VerificationMessageTemplate", "Cognito's own texts, which are the same"),
    ("userpool", "SmsVerificationMessage", "Nobody is sent a text message"),
    ("userpool", "Policies.PasswordPolicy.MinimumLength", "6 characters are guessed; 12 are not"),
    ("userpool", "UserPoolName", "The stack's name, so that two stacks can be told from each other"),
    (
        "remotion-starter-userpool-client",
        "AllowedOAuth",
        "They belong to Cognito's sign-in page, which has no domain in either stack",
    ),
    (
        "remotion-starter-userpool-client",
        "CallbackURLs",
        "https://example.com is a stranger's, and would be sent tokens",
    ),
    (
        "remotion-starter-userpool-client",
        "ExplicitAuthFlows.ALLOW_CUSTOM_AUTH",
        "It needs triggers, which neither stack has",
    ),
    (
        "remotionSQSLambdaRole",
        "RoleName",
        "IAM is one for all regions: with a name, a second stack cannot be made",
    ),
    (
        "queue",
        "QueueName",
        "A name of one's own bars a second stack, and for a minute after its deletion the next one",
    ),
    ("enqueue-function", "Environment", "All three functions have the same, LASTFRAME_QUEUE_URL among it"),
    ("enqueue-function", "Handler", "A program, and no Node"),
    ("enqueue-function", "Runtime", "A program, and no Node"),
    ("render-function", "Handler", "A program, and no Node"),
    ("render-function", "Runtime", "A program, and no Node"),
    (
        "render-function/SqsEventSource",
        "MaximumBatchingWindowInSeconds",
        "FIFO queues refuse a batching window; with batches of one it would only delay",
    ),
    ("api", "Name", "The stack's name, so that two stacks can be told from each other"),
    ("api/POST--enqueue/permission", "SourceArn", "Of the API as a whole: the function has all its routes"),
    ("api/remotion-user-pool-authorizer", "Name", "It is within the API, where there is no other"),
    (
        "api/remotion-user-pool-authorizer",
        "JwtConfiguration.Issuer",
        "With the suffix of the partition, so that it holds in all of them",
    ),
];

/// Rights that the guide's functions have and ours do not.
const WITHOUT_RIGHTS: &[(&str, &str)] = &[
    ("AWSLambdaBasicExecutionRole", "It may write every log of the account; ours may write their own"),
    (
        "remotion-executionrole-policy",
        "It is in the template (RemotionPolicy), and need not be made by hand first",
    ),
];

fn ours() -> Template {
    Template::parse(TEMPLATE).unwrap().resolved(&Parameters::new())
}

/// Our name where the guide's stands, within texts too.
fn renamed(text: &str) -> String {
    SAME.iter().fold(text.to_owned(), |text, (guide, ours)| {
        text.replace(&format!("${{{guide}}}"), &format!("${{{ours}}}"))
            .replace(&format!("${{{guide}.Arn}}"), &format!("${{{ours}.Arn}}"))
    })
}

/// Every scalar, with the way to it. In a list of scalars, each is on a way of its own: their order means nothing.
fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    let under = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| leaves(value, &under(name), found)),
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                match item {
                    Value::Object(_) | Value::Array(_) => leaves(item, &under(&at.to_string()), found),
                    scalar => drop(found.insert(under(&renamed(&text(scalar))), "listed".into())),
                }
            }
        }
        scalar => drop(found.insert(path.to_owned(), renamed(&text(scalar)))),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn every_resource_of_the_guides_stack_is_here_or_has_a_reason_and_so_has_every_property() {
    let guide: Value = serde_json::from_str(GUIDE).unwrap();
    let ours = ours();
    let ours: BTreeMap<_, _> = ours.section("Resources").collect();
    let resources = guide["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 18);
    let mut used = BTreeSet::new();
    for resource in resources {
        let name = resource["name"].as_str().unwrap();
        if WITHOUT.iter().any(|(without, _)| *without == name) {
            continue;
        }
        let (_, own) =
            SAME.iter().find(|(guide, _)| *guide == name).unwrap_or_else(|| panic!("{name} is missing"));
        let (mut theirs, mut mine) = (BTreeMap::new(), BTreeMap::new());
        // What policies say is compared as rights.
        if resource["type"] == "AWS::IAM::Policy" {
            continue;
        }
        assert_eq!(resource["type"], ours[own]["Type"], "{name}");
        leaves(&resource["properties"], "", &mut theirs);
        leaves(&ours[own]["Properties"], "", &mut mine);
        for (path, value) in theirs.iter().filter(|(path, _)| !path.starts_with("ManagedPolicyArns")) {
            let reason = DIFFERENT.iter().find(|(of, begin, _)| *of == name && path.starts_with(begin));
            match (mine.get(path) == Some(value), reason) {
                (true, _) => {}
                (false, Some(reason)) => {
                    used.insert(reason);
                }
                (false, None) => panic!("{name}: {path} is {value} there and {:?} here", mine.get(path)),
            }
        }
    }
    let idle: Vec<_> = DIFFERENT.iter().filter(|reason| !used.contains(reason)).collect();
    assert!(idle.is_empty(), "reasons for what does not differ: {idle:?}");
}

#[test]
fn the_functions_may_do_what_the_guides_may() {
    let guide: Value = serde_json::from_str(GUIDE).unwrap();
    let member = |resource: &Value| {
        let body = json!({"Type": resource["type"], "Properties": resource["properties"]});
        (resource["name"].as_str().unwrap().to_owned(), body)
    };
    let resources: serde_json::Map<_, _> =
        guide["resources"].as_array().unwrap().iter().map(member).collect();
    let theirs = rights::of(&Template::parse(&json!({"Resources": resources}).to_string()).unwrap());
    let ours = rights::of(&ours());
    assert!(theirs.len() > 10);
    let missing = theirs.into_iter().filter(|right| !right.action.starts_with("lambda:")).filter(|right| {
        let same = |own: &rights::Right| {
            own.principal == renamed(&right.principal)
                && own.resource == renamed(&right.resource)
                && own.action == right.action
                && own.effect == right.effect
        };
        !ours.iter().any(same) && !WITHOUT_RIGHTS.iter().any(|(without, _)| right.action.contains(without))
    });
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_outputs_have_the_guides_names() {
    let guide: Value = serde_json::from_str(GUIDE).unwrap();
    let ours = ours();
    let ours: BTreeSet<_> = ours.section("Outputs").map(|(name, _)| name).collect();
    let theirs: Vec<_> = guide["outputs"].as_object().unwrap().keys().collect();
    assert_eq!(theirs.len(), 7);
    for name in theirs {
        assert!(ours.contains(name.as_str()), "{name}");
    }
}

/// Whether something that a rule says holds, once parameters are in it.
fn holds(condition: &Value) -> bool {
    let (function, argument) = condition.as_object().unwrap().iter().next().unwrap();
    match function.as_str() {
        "Fn::Equals" => argument[0] == argument[1],
        "Fn::Not" => !holds(&argument[0]),
        other => panic!("{other} is not known here"),
    }
}

/// What the template's rules have against these parameters.
fn objections(parameters: &Parameters) -> Vec<String> {
    let template = Template::parse(TEMPLATE).unwrap().resolved(parameters);
    let rules = template.section("Rules").filter(|(_, rule)| holds(&rule["RuleCondition"]));
    let broken = rules.filter(|(_, rule)| !holds(&rule["Assertions"][0]["Assert"]));
    broken.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn what_is_said_about_plain_cloudformation_is_what_the_template_takes() {
    let template = Template::parse(TEMPLATE).unwrap();
    for (place, text) in [("docs/aws.md", include_str!("../../../docs/aws.md")), ("the template", TEMPLATE)] {
        let said = text.split_once("--parameter-overrides").unwrap().1;
        let said = said.split_once(if place == "the template" { "\n#\n" } else { "```" }).unwrap().0;
        let given: Parameters = said
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        assert!(given.contains_key("RemotionFunction"), "{place}: {given:?}");
        assert_eq!(objections(&given), [""; 0], "{place}");
        for (name, default) in template.defaults() {
            assert!(default.is_some() || given.contains_key(name), "{place} does not say {name}");
        }
        assert!(
            given.keys().all(|name| template.defaults().contains_key(name.as_str())),
            "{place}: {given:?}"
        );
    }
    let alone = |name: &str, value: &str| Parameters::from([(name.to_owned(), value.to_owned())]);
    assert_eq!(objections(&alone("RemotionFunction", "remotion-render-x")), ["RemotionFunctionHasItsBucket"]);
    assert_eq!(objections(&alone("SelfSignUp", "yes")), ["SelfSignUpIsForTenantsOfTheirOwn"]);
}

#[test]
fn what_can_never_be_changed_again_is_as_it_should_be() {
    let ours = ours();
    let pool = ours.section("Resources").find(|(name, _)| *name == "UserPool").unwrap().1;
    assert_eq!(pool["Properties"]["UsernameConfiguration"], json!({"CaseSensitive": false}));
}

#[test]
fn cloudformation_takes_the_template_as_it_is() {
    // More must lie in a bucket, and `aws cloudformation deploy` would need one.
    assert!(TEMPLATE.len() < 51_200, "{} bytes", TEMPLATE.len());
    assert!(!TEMPLATE.lines().any(|line| line.contains(": *") || line.contains(": &")), "an alias");
    let template = Template::parse(TEMPLATE).unwrap();
    assert!(template.section("Parameters").count() <= 200);
    for (name, resource) in template.section("Resources") {
        let stays = resource.get("DeletionPolicy").is_some_and(|policy| policy != "Delete");
        assert_eq!(stays, ["Table", "Bucket", "UserPool"].contains(&name), "{name}");
    }
}
