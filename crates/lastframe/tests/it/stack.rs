//! The stack on AWS, on something that behaves like AWS: it is made, changed, looked at and taken away by commands alone.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse as _, Response};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::commands::{await_shown, in_a_terminal};
use crate::s3::S3;
use crate::server::{client, send_signal};

const PASSWORD: &str = "correct horse battery";

/// An account with nothing of ours in it.
struct Account {
    s3: S3,
    folder: tempfile::TempDir,
}

/// What a command printed, and its exit code.
#[derive(Debug)]
struct Ended {
    exit: i32,
    told: String,
    notes: String,
}

impl Account {
    async fn start() -> Self {
        let account = Self { s3: S3::of("anything-else").await, folder: tempfile::tempdir().unwrap() };
        // A function that says which one it is.
        let script = r#"#!/bin/sh
while true; do
  head=$(mktemp)
  curl -s -D "$head" "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next" >/dev/null
  id=$(grep -i lambda-runtime-aws-request-id "$head" | tr -d '\r' | cut -d' ' -f2)
  echo "asked as $LASTFRAME_FUNCTION"
  curl -s -X POST "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response" \
    -d "{\"statusCode\":200,\"body\":\"I am $LASTFRAME_FUNCTION\"}" >/dev/null
done
"#;
        let pack = "import sys, zipfile; info = zipfile.ZipInfo('bootstrap'); info.external_attr = 0o755 << 16; \
                    zipfile.ZipFile(sys.argv[1], 'w').writestr(info, sys.argv[2])";
        let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers/venv/bin/python");
        let packed =
            Command::new(python).args(["-c", pack]).arg(account.code()).arg(script).status().unwrap();
        assert!(packed.success());
        account
    }

    fn code(&self) -> std::path::PathBuf {
        self.folder.path().join("code.zip")
    }

    fn command(&self, endpoint: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastframe"));
        command.arg("aws").args(arguments).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in [
            ("HOME", self.folder.path().to_str().unwrap()),
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ] {
            command.env(name, value);
        }
        command
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.command(self.s3.url(), arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        ended(child)
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, "")
    }

    /// Deploys without being asked.
    fn deploy(&self, more: &[&str]) -> Ended {
        self.run(&[&["deploy", "--require-approval", "never", "--code", "code.zip"], more].concat())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ended.exit, 0, "{arguments:?}: {ended:?}");
        serde_json::from_str(&ended.told).unwrap()
    }

    async fn ask(&self, service: &str, target: &str, question: &Value) -> Value {
        let headers = [("x-amz-target", target), ("content-type", "application/x-amz-json-1.0")];
        let answer = self.s3.as_root_with(service, Method::POST, "/", &headers, question.to_string()).await;
        serde_json::from_str(&answer).unwrap()
    }

    async fn query(&self, service: &str, query: &str) -> String {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.s3.as_root_with(service, Method::POST, "/", &headers, query.to_owned()).await
    }

    /// Tables, buckets, user pools, queues and functions, stacks and logs.
    async fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = self.s3.buckets().await;
        for (service, target, list, name) in [
            ("dynamodb", "DynamoDB_20120810.ListTables", "TableNames", ""),
            ("sqs", "AmazonSQS.ListQueues", "QueueUrls", ""),
            ("cognito-idp", "AWSCognitoIdentityProviderService.ListUserPools", "UserPools", "Name"),
            ("events", "AWSEvents.ListRules", "Rules", "Name"),
            ("logs", "Logs_20140328.DescribeLogGroups", "logGroups", "logGroupName"),
        ] {
            let question = if service == "cognito-idp" { json!({"MaxResults": 60}) } else { json!({}) };
            let answer = self.ask(service, target, &question).await;
            for entry in answer[list].as_array().into_iter().flatten() {
                left.push(entry.as_str().or(entry[name].as_str()).unwrap().to_owned());
            }
        }
        let functions = self.s3.as_root("lambda", Method::GET, "/2015-03-31/functions", "").await;
        let functions: Value = serde_json::from_str(&functions).unwrap();
        let name = |function: &Value| function["FunctionName"].as_str().unwrap().to_owned();
        left.extend(functions["Functions"].as_array().unwrap().iter().map(name));
        let stacks = self.query("cloudformation", "Action=DescribeStacks&Version=2010-05-15").await;
        left.extend(
            stacks.split("<StackName>").skip(1).map(|part| part.split('<').next().unwrap().to_owned()),
        );
        let roles = self.query("iam", "Action=ListRoles&Version=2010-05-08").await;
        left.extend(roles.split("<RoleName>").skip(1).map(|part| part.split('<').next().unwrap().to_owned()));
        left.retain(|name| name != "anything-else");
        left
    }

    /// The change sets of the stack that were not carried out.
    async fn change_sets(&self) -> usize {
        let listed = self
            .query("cloudformation", "Action=ListChangeSets&StackName=lastframe&Version=2010-05-15")
            .await;
        listed.matches("<ExecutionStatus>AVAILABLE").count()
    }

    /// Asks the API that the stack has, by its own name.
    async fn api(&self, api: &str, path: &str, token: Option<&str>) -> (u16, String) {
        let host = api.trim_start_matches("http://").trim_end_matches('/');
        let mut request = client().post(format!("{}{path}", self.s3.url())).header("host", host).body("{}");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { exit: output.status.code().unwrap(), told: text(output.stdout), notes: text(output.stderr) }
}

/// Passes everything on. Who asks for that action of CloudFormation waits: it is asked, and the answer is held back until `go`.
async fn hold(to: &str, action: &str) -> (String, mpsc::UnboundedReceiver<()>, mpsc::UnboundedSender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, hear) = mpsc::unbounded_channel();
    let (go, wait) = mpsc::unbounded_channel::<()>();
    let wait = std::sync::Arc::new(tokio::sync::Mutex::new(wait));
    let (to, action) = (to.to_owned(), format!("Action={action}&"));
    let pass = async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| -> Response {
        let held = String::from_utf8_lossy(&body).contains(&action);
        let mut headers = headers;
        headers.remove("content-length");
        let sent =
            client().request(method, format!("{to}{uri}")).headers(headers).body(body).send().await.unwrap();
        let mut answer = (sent.status(), sent.headers().clone()).into_response();
        answer.headers_mut().remove("transfer-encoding");
        *answer.body_mut() = Body::from(sent.bytes().await.unwrap());
        if held {
            asked.send(()).ok();
            wait.lock().await.recv().await;
        }
        answer
    };
    tokio::spawn(axum::serve(listener, Router::new().fallback(pass)).into_future());
    (url, hear, go)
}

fn interrupt(child: &Child) {
    send_signal("INT", i32::try_from(child.id()).unwrap());
}

#[test]
fn the_table_of_the_stack_is_the_one_that_the_queue_knows() {
    use lastframe_aws::queue::schema::{EXPIRES, INDEXES, KEY};
    use lastframe_stack::template::{Parameters, Template};
    let template = Template::parse(lastframe_stack::TEMPLATE).unwrap().resolved(&Parameters::new());
    let table = &template.section("Resources").find(|(name, _)| *name == "Table").unwrap().1["Properties"];
    let keys = |partition: &str, sort: &str| json!([{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]);
    let index = |index: &lastframe_aws::queue::schema::Index| {
        let projection = match index.include {
            [] => json!({"ProjectionType": "KEYS_ONLY"}),
            include => json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": include}),
        };
        json!({"IndexName": index.name, "KeySchema": keys(index.partition, index.sort), "Projection": projection})
    };
    assert_eq!(table["KeySchema"], keys(KEY.0, KEY.1));
    assert_eq!(table["TimeToLiveSpecification"]["AttributeName"], EXPIRES);
    assert_eq!(table["GlobalSecondaryIndexes"], INDEXES.iter().map(index).collect::<Value>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_made_once_changed_when_something_changes_and_taken_away_with_or_without_its_data() {
    let account = Account::start().await;
    let remotion = ["-p", "RemotionFunction=remotion-render-x", "-p", "RemotionBucket=remotionlambda-x"];
    let made = account.deploy(&[&remotion[..], &["-p", "MaximumConcurrency=7", "--json"]].concat());
    assert_eq!(made.exit, 0, "{made:?}");
    assert!(
        made.notes.contains("CREATE_COMPLETE") && made.notes.contains("sqs:SendMessage"),
        "{}",
        made.notes
    );
    let outputs = serde_json::from_str::<Value>(&made.told).unwrap()["outputs"].clone();
    let names = [
        "apiUrl",
        "queuearn",
        "queuename",
        "queueurl",
        "region",
        "userPoolClientId",
        "userPoolId",
        "tableName",
    ];
    assert!(names.iter().all(|name| outputs[*name].is_string()), "{outputs}");
    let api = outputs["apiUrl"].as_str().unwrap();

    // The same again changes nothing.
    let again = account.deploy(&[]);
    assert!(again.exit == 0 && again.notes.contains("no changes"), "{again:?}");
    assert!(account.run(&["diff", "--code", "code.zip"]).told.contains("nothing changes"));

    // What would change is shown, and nothing is done.
    let diff = account.json(&["diff", "--code", "code.zip", "-p", "MailFrom=renders@example.com"]);
    assert_eq!(diff["rights"][0]["actions"], json!(["ses:SendEmail", "ses:SendRawEmail"]), "{diff}");
    assert!(
        diff["resources"].as_array().unwrap().iter().any(|change| change["resource"] == "MailPolicy"),
        "{diff}"
    );
    assert_eq!(account.change_sets().await, 0);

    // A parameter that is named changes, the others stay; and the code is not sent again.
    let changed =
        account.deploy(&["-p", "RequestsBurst=300", "-p", "Tenancy=per-user", "-p", "SelfSignUp=yes"]);
    assert!(changed.exit == 0 && changed.notes.contains("it is there already"), "{changed:?}");
    let status = account.json(&["status"]);
    assert_eq!((&status["maximumConcurrency"], &status["status"]), (&json!(7), &json!("UPDATE_COMPLETE")));
    assert_eq!(
        (status["functions"].as_array().unwrap().len(), &status["claimable"]),
        (3, &json!(0)),
        "{status}"
    );

    // Somebody signs in, and the gateway lets them through.
    let user = account.run_with(&["user", "add", "ana@example.com", "--token", "--json"], PASSWORD);
    assert_eq!(user.exit, 0, "{user:?}");
    let user: Value = serde_json::from_str(&user.told).unwrap();
    let token = user["idToken"].as_str().unwrap();
    for path in ["/enqueue", "/dev/enqueue"] {
        assert_eq!(account.api(api, path, None).await.0, 401, "{path}");
        assert_eq!(account.api(api, path, Some(token)).await, (200, "I am api".into()), "{path}");
    }
    assert_eq!(account.api(api, "/anything", None).await, (200, "I am api".into()));
    let logs = account.run(&["logs", "--function", "api"]);
    // What a function prints, the stand-in gives only when its process has ended.
    assert!(logs.exit == 0 && logs.told.contains("api    START"), "{logs:?}");
    let twice = account.run_with(&["user", "add", "ana@example.com"], PASSWORD);
    assert!(twice.exit == 2 && twice.notes.contains("--reset"), "{twice:?}");
    let weak = account.run_with(&["user", "add", "bob@example.com"], "short");
    assert!(weak.exit == 2 && weak.notes.contains("password"), "{weak:?}");
    let made_up = account.json(&["user", "add", "bob@example.com", "--generate", "--token", "--admin"]);
    assert!(made_up["idToken"].is_string() && made_up["password"].as_str().unwrap().len() > 20, "{made_up}");

    // Data that is kept is taken back.
    let kept = account.run(&["destroy", "--keep-data", "--yes"]);
    assert!(kept.exit == 0 && kept.notes.contains("kept: table lastframe"), "{kept:?}");
    assert!(account.left().await.len() == 4, "table, bucket, user pool, code: {:?}", account.left().await);
    let back = account.deploy(&["--json"]);
    assert!(back.exit == 0 && back.notes.contains("takes back"), "{back:?}");
    // So is what was said about it: nobody's people share a tenant because the stack was made anew.
    assert!(back.notes.contains("per-user"), "{}", back.notes);
    assert_eq!(account.json(&["status"])["maximumConcurrency"], 7);
    let joined = ["diff", "--code", "code.zip", "-p", "Tenancy=shared", "-p", "SelfSignUp=no"];
    let joined = account.json(&joined);
    let tenancy = json!({"name": "Tenancy", "before": "per-user", "after": "shared"});
    assert!(joined["parameters"].as_array().unwrap().contains(&tenancy), "{joined}");
    let asked = account.run(&["deploy", "--code", "code.zip", "-p", "Tenancy=shared", "-p", "SelfSignUp=no"]);
    assert!(asked.exit == 2 && asked.notes.contains("each other's renders"), "{asked:?}");
    let back: Value = serde_json::from_str(&back.told).unwrap();
    assert_eq!(back["outputs"]["userPoolId"], outputs["userPoolId"]);
    let ana = account.run_with(&["user", "add", "ana@example.com", "--reset", "--token"], PASSWORD);
    assert!(ana.exit == 0 && ana.told.contains("Authorization: Bearer ey"), "{ana:?}");

    // Where CloudFormation alone has deleted the stack, nobody knows what it was made with.
    account.query("cloudformation", "Action=DeleteStack&StackName=lastframe&Version=2010-05-15").await;
    while account
        .query("cloudformation", "Action=DescribeStacks&Version=2010-05-15")
        .await
        .contains("<StackName>lastframe<")
    {}
    let unknown = account.deploy(&[]);
    assert!(unknown.exit == 2 && unknown.notes.contains("-p Tenancy=per-user"), "{unknown:?}");
    let told = account.deploy(&["-p", "Tenancy=per-user"]);
    assert_eq!(told.exit, 0, "{told:?}");

    let gone = account.run(&["destroy", "--delete-data", "--yes"]);
    assert_eq!(gone.exit, 0, "{gone:?}");
    assert_eq!(account.left().await, [""; 0]);
    let again = account.run(&["destroy", "--delete-data", "--yes"]);
    assert!(again.exit == 0 && again.notes.contains("there is no stack"), "{again:?}");
    let none = account.run(&["status"]);
    assert!(none.exit == 2 && none.notes.contains("lastframe aws deploy"), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_asked_sees_who_may_do_what_and_no_changes_nothing() {
    let account = Account::start().await;
    let deploy = ["deploy", "--code", "code.zip"];
    let nobody = account.run(&deploy);
    assert!(nobody.exit == 2 && nobody.notes.contains("--require-approval never"), "{nobody:?}");
    assert_eq!(account.left().await, [""; 0]);

    let in_terminal = |arguments: &[&str]| in_a_terminal(account.command(account.s3.url(), arguments));
    let (mut child, mut terminal) = in_terminal(&deploy);
    let shown = await_shown(&mut terminal, "Deploy these changes?");
    assert!(shown.contains("AWS:${RenderRole}") && shown.contains("sqs:SendMessage"), "{shown}");
    terminal.write_all(b"n\n").unwrap();
    await_shown(&mut terminal, "nothing was changed");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(account.left().await, [""; 0]);

    let (mut child, mut terminal) = in_terminal(&deploy);
    await_shown(&mut terminal, "Deploy these changes?");
    interrupt(&child);
    await_shown(&mut terminal, "interrupted; nothing was changed");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(account.left().await, [""; 0]);

    let (mut child, mut terminal) = in_terminal(&deploy);
    await_shown(&mut terminal, "Deploy these changes?");
    terminal.write_all(b"y\n").unwrap();
    await_shown(&mut terminal, "Next: lastframe aws user add");
    assert_eq!(child.wait().unwrap().code(), Some(0));

    // What takes rights away, or leaves them as they are, needs nobody.
    let quiet = account.run(&["deploy", "--code", "code.zip", "-p", "RequestsBurst=250"]);
    assert_eq!(quiet.exit, 0, "{quiet:?}");
    let broader = account.run(&["deploy", "--code", "code.zip", "-p", "MailFrom=a@example.com"]);
    assert_eq!(broader.exit, 2, "{broader:?}");
    assert_eq!(account.change_sets().await, 0);

    let (mut child, mut terminal) = in_terminal(&["destroy"]);
    await_shown(&mut terminal, "[keep/delete]");
    terminal.write_all(b"delete\n").unwrap();
    await_shown(&mut terminal, "Type its name");
    terminal.write_all(b"other\n").unwrap();
    await_shown(&mut terminal, "nothing was destroyed");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(account.run(&["status"]).exit, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_fails_says_what_failed_and_what_became_of_it_and_the_next_one_goes_on() {
    let account = Account::start().await;
    let first = account.deploy(&["-p", "ExistingUserPool=us-east-1_nothing", "-p", "RequestsBurst=250"]);
    assert_eq!(first.exit, 1, "{first:?}");
    for part in [
        "UserPoolClient (AWS::Cognito::UserPoolClient)",
        "us-east-1_nothing",
        "ROLLBACK_COMPLETE",
        "deletes before it begins anew",
    ] {
        assert!(first.notes.contains(part), "{part}: {}", first.notes);
    }
    assert!(
        !account.left().await.iter().any(|name| name == "lastframe-000000000000-us-east-1"),
        "a new bucket is no data"
    );
    let asked = account.run(&["deploy", "--code", "code.zip", "-p", "ExistingUserPool="]);
    assert!(asked.exit == 2 && asked.notes.contains("never came to be"), "{asked:?}");
    let second = account.deploy(&["-p", "ExistingUserPool="]);
    assert_eq!(second.exit, 0, "{second:?}");
    let kept = account.json(&["diff", "--code", "code.zip", "-p", "RequestsBurst=260"]);
    assert_eq!(kept["parameters"][0]["before"], "250", "what the first one was told: {kept}");

    let third = account.deploy(&["-p", "ExistingUserPool=us-east-1_nothing"]);
    assert!(third.exit == 1 && third.notes.contains("works as it did before"), "{third:?}");
    assert_eq!(account.json(&["status"])["status"], "UPDATE_ROLLBACK_COMPLETE");
    let fourth = account.deploy(&["-p", "RequestsBurst=400"]);
    assert_eq!(fourth.exit, 0, "{fourth:?}");

    // What is wrong is said before anything is done.
    for (wrong, said) in [
        (["-p", "MaximumConcurrency=1"], "MaximumConcurrency"),
        (["-p", "SelfSignUp=yes"], "Tenancy=per-user"),
        (["-p", "RemotionFunction=remotion-render-x"], "npm run deploy"),
        (["-p", "Nonsense=1"], "there is no parameter Nonsense"),
        (["--stack", "Capitals"], "lower-case"),
        (["--code", "nowhere.zip"], "make lambda"),
    ] {
        let refused = account.run(
            &[
                &["deploy", "--require-approval", "never"],
                &wrong[..],
                &["--code", "code.zip"][..if wrong[0] == "--code" { 0 } else { 2 }],
            ]
            .concat(),
        );
        assert!(refused.exit == 2 && refused.notes.contains(said), "{refused:?}");
    }
    assert_eq!(account.change_sets().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_leaves_nothing_half_planned_and_says_that_cloudformation_goes_on() {
    let account = Account::start().await;
    let arguments = ["deploy", "--require-approval", "never", "--code", "code.zip"];

    let (url, mut asked, go) = hold(account.s3.url(), "CreateChangeSet").await;
    let child = account.command(&url, &arguments).spawn().unwrap();
    asked.recv().await.unwrap();
    interrupt(&child);
    // The signal was sent before the answer is given.
    go.send(()).unwrap();
    let planning = ended(child);
    assert!(planning.exit == 130 && planning.notes.contains("nothing was changed"), "{planning:?}");
    assert_eq!(account.left().await, [""; 0]);

    let (url, mut asked, go) = hold(account.s3.url(), "DescribeStackEvents").await;
    let child = account.command(&url, &arguments).spawn().unwrap();
    asked.recv().await.unwrap();
    interrupt(&child);
    let following = ended(child);
    assert!(
        following.exit == 130 && following.notes.contains("CloudFormation goes on by itself"),
        "{following:?}"
    );
    drop(go);
    let after = account.deploy(&[]);
    assert!(after.exit == 0, "{after:?}");
    assert_eq!(account.json(&["status"])["status"], "CREATE_COMPLETE");
}
