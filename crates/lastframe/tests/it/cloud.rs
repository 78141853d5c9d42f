//! The system on AWS, on something that behaves like AWS and looks at the rights of every function: the program deploys it,
//! and its functions are the real ones.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse as _, Response};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::time::timeout;

use crate::function::{FUNCTION, Function};
use crate::s3::S3;
use crate::server::{PATIENCE, bundle, client, send_signal};

/// The bucket of Remotion Lambda.
pub(crate) const REMOTION_BUCKET: &str = "remotionlambda-useast1-abcdefghij";
/// The role of its functions.
const ROLE: &str = "remotion-lambda-role";
/// A site that Remotion's tools have put there.
pub(crate) const SITE: &str = "test";
/// Whom mails come from.
pub(crate) const FROM: &str = "renders@example.org";
/// Who uses it.
const USER: &str = "zoe@example.org";
const PASSWORD: &str = "correct horse battery";

/// An account with what Remotion needs in it, and nothing of ours.
pub(crate) struct Cloud {
    pub(crate) s3: Arc<S3>,
    pub(crate) remotion: Function,
    folder: tempfile::TempDir,
}

impl Cloud {
    pub(crate) async fn start() -> Self {
        let s3 = Arc::new(S3::of(REMOTION_BUCKET).await);
        let remotion = Function::deployed(&s3).await;
        let cloud = Self { s3, remotion, folder: tempfile::tempdir().unwrap() };
        let trust = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
        ]});
        let trust = lastframe_core::percent::encode(&trust.to_string());
        let role =
            format!("Action=CreateRole&Version=2010-05-08&RoleName={ROLE}&AssumeRolePolicyDocument={trust}");
        cloud.query("iam", &role).await;
        // Whoever calls it needs the right to; what it does then happens in this process.
        let passed_on =
            json!({"Variables": {"MINISTACK_LAMBDA_PROXY_URL": format!("{}/", cloud.remotion.url)}});
        let function = json!({
            "FunctionName": FUNCTION, "Runtime": "nodejs22.x", "Handler": "index.handler", "Timeout": 120, "MemorySize": 2048,
            "Role": format!("arn:aws:iam::000000000000:role/{ROLE}"), "Environment": passed_on,
            "Code": {"ZipFile": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="},
        });
        cloud.lambda(Method::POST, "/2015-03-31/functions", &function).await;
        cloud.put_site().await;
        let identity = json!({"EmailIdentity": FROM}).to_string();
        cloud.s3.as_root("ses", Method::POST, "/v2/email/identities", identity).await;
        cloud
    }

    /// Puts the test site where Remotion's tools put sites, for everybody to read.
    async fn put_site(&self) {
        let packed = self.folder.path().join("site.tar.gz");
        std::fs::write(&packed, bundle()).unwrap();
        let unpacked = Command::new("tar").arg("-xzf").arg(&packed).current_dir(self.folder.path()).status();
        assert!(unpacked.unwrap().success());
        for file in ["index.html", "bundle.js"] {
            let content = std::fs::read(self.folder.path().join(file)).unwrap();
            self.s3.put_in(REMOTION_BUCKET, &format!("sites/{SITE}/{file}"), content).await;
        }
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
            "Resource": format!("arn:aws:s3:::{REMOTION_BUCKET}/sites/*"),
        }]});
        let blocked = format!("/{REMOTION_BUCKET}?publicAccessBlock");
        self.s3.as_root("s3", Method::DELETE, &blocked, "").await;
        let path = format!("/{REMOTION_BUCKET}?policy");
        self.s3.as_root("s3", Method::PUT, &path, policy.to_string()).await;
    }

    async fn lambda(&self, method: Method, path: &str, body: &Value) -> String {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.s3.as_root("lambda", method, path, body).await
    }

    /// `lastframe work` on a machine of that name, which has a data folder of its own and starts renders on Lambda.
    pub(crate) fn work(&self, name: &str) -> Child {
        let data = self.folder.path().join(name);
        std::fs::create_dir(&data).unwrap();
        std::fs::copy(self.folder.path().join("lastframe.toml"), data.join("lastframe.toml")).unwrap();
        let log = std::fs::File::create(data.join("work.log")).unwrap();
        let command = self.command(&["work", "--renderer", "lambda", "--name", name]);
        let mut command = tokio::process::Command::from(command);
        command.env("LASTFRAME_DATA", data).stdout(log.try_clone().unwrap()).stderr(log);
        command.kill_on_drop(true).spawn().unwrap()
    }

    /// What the stand-in has written about itself, and what machines have said.
    fn log(&self) -> String {
        let machines = std::fs::read_dir(self.folder.path()).unwrap();
        let said =
            machines.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("work.log")).ok());
        said.fold(self.s3.log(), |log, said| format!("{log}\n{said}"))
    }

    /// The program, as the owner of the account runs it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastframe"));
        command.args(arguments).stdin(Stdio::null()).current_dir(self.folder.path());
        for (name, value) in [
            ("HOME", self.folder.path().to_str().unwrap()),
            ("LASTFRAME_DATA", self.folder.path().to_str().unwrap()),
            ("AWS_ENDPOINT_URL", self.s3.url()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ] {
            command.env(name, value);
        }
        command
    }

    /// Runs it, and gives what it printed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::from(self.command(arguments));
        let output = timeout(PATIENCE, command.kill_on_drop(true).output()).await.expect("it ends").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (told, errors) = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "{arguments:?}: {told}\n{errors}");
        told
    }

    /// Deploys the stack with these settings and parameters, gives a user an account, and signs them in.
    pub(crate) async fn deploy(self, settings: &str, parameters: &[&str]) -> Stack {
        let file = self.folder.path().join("lastframe.toml");
        std::fs::write(&file, settings).unwrap();
        let usual = [
            format!("RemotionFunction={FUNCTION}"),
            format!("RemotionBucket={REMOTION_BUCKET}"),
            format!("MailFrom={FROM}"),
        ];
        let mut arguments = vec!["aws", "deploy", "--require-approval", "never", "--architecture", "x86_64"];
        arguments.extend(["--code", code().to_str().unwrap(), "--settings", file.to_str().unwrap()]);
        for parameter in usual.iter().map(String::as_str).chain(parameters.iter().copied()) {
            arguments.extend(["-p", parameter]);
        }
        self.run(&arguments).await;
        let stack = Stack::of(self).await;
        stack.mend_the_stand_in().await;
        stack
    }

    /// Asks a service that speaks JSON.
    pub(crate) async fn ask(&self, service: &str, target: &str, question: &Value) -> Value {
        let headers = [("x-amz-target", target), ("content-type", "application/x-amz-json-1.0")];
        let body = question.to_string();
        let answer = self.s3.as_root_with(service, Method::POST, "/", &headers, body).await;
        if answer.is_empty() { Value::Null } else { serde_json::from_str(&answer).unwrap() }
    }

    async fn query(&self, service: &str, query: &str) -> String {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.s3.as_root_with(service, Method::POST, "/", &headers, query.to_owned()).await
    }

    /// Everything there is in the account, but for what was there before the stack.
    pub(crate) async fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = self.s3.buckets().await;
        let named =
            async |service: &str, target: &str, question: Value, list: &str, name: &str| -> Vec<String> {
                let answer = self.ask(service, target, &question).await;
                let entries = answer[list].as_array().cloned().unwrap_or_default();
                let of = |entry: &Value| entry.as_str().or(entry[name].as_str()).unwrap().to_owned();
                entries.iter().map(|entry| format!("{service} {}", of(entry))).collect()
            };
        left.extend(named("dynamodb", "DynamoDB_20120810.ListTables", json!({}), "TableNames", "").await);
        left.extend(named("sqs", "AmazonSQS.ListQueues", json!({}), "QueueUrls", "").await);
        let pools = "AWSCognitoIdentityProviderService.ListUserPools";
        left.extend(named("cognito-idp", pools, json!({"MaxResults": 60}), "UserPools", "Name").await);
        left.extend(named("events", "AWSEvents.ListRules", json!({}), "Rules", "Name").await);
        let groups = "Logs_20140328.DescribeLogGroups";
        left.extend(named("logs", groups, json!({}), "logGroups", "logGroupName").await);
        for (service, path, list, name) in [
            ("lambda", "/2015-03-31/functions", "Functions", "FunctionName"),
            ("lambda", "/2015-03-31/event-source-mappings", "EventSourceMappings", "UUID"),
            ("apigateway", "/v2/apis", "items", "name"),
            ("scheduler", "/schedules", "Schedules", "Name"),
        ] {
            let answer: Value =
                serde_json::from_str(&self.s3.as_root(service, Method::GET, path, "").await).unwrap();
            let list = answer[list].as_array().cloned().unwrap_or_default();
            left.extend(list.iter().map(|entry| format!("{service} {}", entry[name].as_str().unwrap())));
        }
        for (service, query, tag) in [
            ("iam", "Action=ListRoles&Version=2010-05-08", "RoleName"),
            ("iam", "Action=ListPolicies&Scope=Local&Version=2010-05-08", "PolicyName"),
            ("monitoring", "Action=DescribeAlarms&Version=2010-08-01", "AlarmName"),
            ("sns", "Action=ListTopics&Version=2010-03-31", "TopicArn"),
            ("cloudformation", "Action=DescribeStacks&Version=2010-05-15", "StackName"),
        ] {
            let listed = self.query(service, query).await;
            left.extend(between(&listed, tag).map(|name| format!("{service} {name}")));
        }
        let before =
            |name: &String| name == REMOTION_BUCKET || name.contains(FUNCTION) || name.contains(ROLE);
        left.retain(|name| !before(name));
        left
    }
}

/// What stands between the tags of that name.
fn between<'a>(xml: &'a str, tag: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let parts: Vec<_> = xml.split(open.as_str()).skip(1).collect();
    parts.into_iter().map(move |part| part.split_once(close.as_str()).unwrap().0)
}

/// The stack, deployed, and somebody who may use it.
pub(crate) struct Stack {
    pub(crate) cloud: Cloud,
    pub(crate) outputs: Value,
    /// Where its API answers: names that end in localhost are not known everywhere.
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Stack {
    async fn of(cloud: Cloud) -> Self {
        let status: Value = serde_json::from_str(&cloud.run(&["aws", "status", "--json"]).await).unwrap();
        let outputs = status["outputs"].clone();
        let password = cloud.folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let added =
            ["aws", "user", "add", USER, "--token", "--json", "--password-file", password.to_str().unwrap()];
        let added: Value = serde_json::from_str(&cloud.run(&added).await).unwrap();
        let token = added["idToken"].as_str().unwrap().to_owned();
        let host = outputs["apiUrl"].as_str().unwrap().trim_start_matches("http://").trim_end_matches('/');
        let url = gateway(cloud.s3.url().to_owned(), host.to_owned()).await;
        Self { cloud, outputs, url, token }
    }

    /// Where what stands for AWS differs from what AWS documents, it is brought to do as documented, or to let through what AWS
    /// lets through.
    async fn mend_the_stand_in(&self) {
        let s3 = &self.cloud.s3;
        // It is reached without TLS, which the bucket's policy forbids.
        s3.as_root("s3", Method::DELETE, &format!("/{}?policy", self.output("bucketName")), "").await;
        // It wants rights to send from any address where there is one for this address, and rights for batches, which AWS
        // has in those for single messages.
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "sqs:SendMessageBatch", "Resource": self.output("queuearn")},
            {"Effect": "Allow", "Action": "sqs:ChangeMessageVisibilityBatch", "Resource": "*"},
        ]});
        let mails = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "ses:SendEmail", "Resource": "*"},
        ]});
        let roles = self.cloud.query("iam", "Action=ListRoles&Version=2010-05-08").await;
        for role in between(&roles, "RoleName") {
            let mut policies = vec![("batches", &policy)];
            if role.contains("TendRole") {
                policies.push(("mails", &mails));
            }
            for (name, policy) in policies.into_iter().filter(|_| role != ROLE) {
                let policy = lastframe_core::percent::encode(&policy.to_string());
                let put = format!(
                    "Action=PutRolePolicy&Version=2010-05-08&RoleName={role}&PolicyName={name}&PolicyDocument={policy}"
                );
                self.cloud.query("iam", &put).await;
            }
        }
    }

    pub(crate) fn output(&self, name: &str) -> &str {
        self.outputs[name].as_str().unwrap_or_else(|| panic!("{name} in {}", self.outputs))
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.request(Method::GET, path).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{path}: {text}\n{}", self.cloud.s3.log());
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.request(Method::POST, path).json(body).send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}\n{}", self.cloud.s3.log())))
    }

    /// Asks for a render that must be accepted.
    pub(crate) async fn submit(&self, fields: Value) -> String {
        let mut body = json!({"serveUrl": SITE, "composition": "main"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, answer) = self.post("/v1/renders", &body).await;
        assert_eq!(status, 202, "{answer}\n{}", self.cloud.s3.log());
        answer["renderId"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn render(&self, id: &str) -> Value {
        self.get(&format!("/v1/renders/{id}")).await
    }

    /// Asks until the condition holds: there are no live events on AWS.
    pub(crate) async fn until(&self, id: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let asked = async {
            loop {
                let render = self.render(id).await;
                if condition(&render) {
                    return render;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match timeout(PATIENCE, asked).await {
            Ok(render) => render,
            Err(_) => panic!("waited in vain: {}\n{}", self.render(id).await, self.cloud.log()),
        }
    }

    pub(crate) async fn ended(&self, id: &str) -> Value {
        let over = |render: &Value| {
            ["succeeded", "failed", "cancelled"].map(Value::from).contains(&render["status"])
        };
        self.until(id, over).await
    }

    pub(crate) async fn succeeded(&self, id: &str) -> Value {
        let render = self.ended(id).await;
        assert_eq!(render["status"], "succeeded", "{render}\n{}", self.cloud.s3.log());
        render
    }

    /// Lets a minute pass, as the schedule does.
    pub(crate) async fn minute(&self) {
        let event = json!({
            "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "detail-type": "Scheduled Event",
            "source": "aws.events", "account": "000000000000", "time": "2026-01-01T00:00:00Z", "region": "us-east-1",
            "resources": ["arn:aws:events:us-east-1:000000000000:rule/lastframe-Schedule"], "detail": {},
        });
        self.invoke("tend", &event).await;
    }

    /// Invokes a function of the stack.
    pub(crate) async fn invoke(&self, function: &str, event: &Value) -> Value {
        let path = format!("/2015-03-31/functions/lastframe-{function}/invocations");
        let answer = self.cloud.lambda(Method::POST, &path, event).await;
        let answer: Value =
            if answer.is_empty() { Value::Null } else { serde_json::from_str(&answer).unwrap() };
        assert!(answer["errorType"].is_null(), "{function}: {answer}\n{}", self.cloud.s3.log());
        answer
    }

    /// Whether renders of the queue are given to functions.
    pub(crate) async fn listen(&self, enabled: bool) {
        let all = self.cloud.lambda(Method::GET, "/2015-03-31/event-source-mappings", &Value::Null).await;
        let all: Value = serde_json::from_str(&all).unwrap();
        let ours = all["EventSourceMappings"].as_array().unwrap().iter();
        let mut ours = ours.filter(|mapping| mapping["EventSourceArn"] == self.outputs["queuearn"]);
        let id = ours.next().unwrap()["UUID"].as_str().unwrap();
        let path = format!("/2015-03-31/event-source-mappings/{id}");
        self.cloud.lambda(Method::PUT, &path, &json!({"Enabled": enabled})).await;
    }

    /// The messages that are in the queue, and stay there.
    pub(crate) async fn rings(&self) -> Vec<Value> {
        let question =
            json!({"QueueUrl": self.output("queueurl"), "MaxNumberOfMessages": 10, "VisibilityTimeout": 0});
        let answer = self.cloud.ask("sqs", "AmazonSQS.ReceiveMessage", &question).await;
        answer["Messages"].as_array().cloned().unwrap_or_default()
    }

    /// Runs a command of the program against the API, and gives what it printed.
    pub(crate) async fn client(&self, arguments: &[&str]) -> String {
        let whom = ["--server", &self.url, "--token", &self.token];
        self.cloud.run(&[arguments, &whom].concat()).await
    }

    /// Changes how a function of the stack is configured.
    pub(crate) async fn configure(&self, function: &str, changes: &Value) {
        let path = format!("/2015-03-31/functions/lastframe-{function}/configuration");
        self.cloud.lambda(Method::PUT, &path, changes).await;
    }

    /// How many messages are in a queue, seen or unseen.
    pub(crate) async fn messages(&self, url: &str) -> u64 {
        let question = json!({"QueueUrl": url, "AttributeNames": ["All"]});
        let answer = self.cloud.ask("sqs", "AmazonSQS.GetQueueAttributes", &question).await;
        let count = |name: &str| answer["Attributes"][name].as_str().unwrap().parse::<u64>().unwrap();
        count("ApproximateNumberOfMessages") + count("ApproximateNumberOfMessagesNotVisible")
    }

    /// The processes that functions of that name run in.
    pub(crate) fn processes(&self, function: &str) -> Vec<i32> {
        let marks =
            [format!("LASTFRAME_FUNCTION={function}"), format!("AWS_ENDPOINT_URL={}", self.cloud.s3.url())];
        let has = |process: &i32| {
            let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
            let variables: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
            marks.iter().all(|mark| variables.contains(&mark.as_bytes()))
        };
        let all = std::fs::read_dir("/proc").unwrap();
        all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(has).collect()
    }

    /// `kill -9` for whatever runs as that function.
    pub(crate) fn kill(&self, function: &str) {
        let processes = self.processes(function);
        assert!(!processes.is_empty(), "{function} runs");
        processes.into_iter().for_each(|process| send_signal("KILL", process));
    }

    /// The mails that were sent.
    pub(crate) async fn mails(&self) -> Vec<Value> {
        let url = format!("{}/_ministack/ses/messages", self.cloud.s3.url());
        let answer: Value = client().get(url).send().await.unwrap().json().await.unwrap();
        let all = answer["messages"].as_object().unwrap().values();
        all.flat_map(|mails| mails.as_array().unwrap().clone()).collect()
    }
}

/// Stands for the name of the API: what comes here goes there, as if it had been asked by that name.
async fn gateway(to: String, host: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let pass = async move |method: Method, uri: Uri, mut headers: HeaderMap, body: Bytes| -> Response {
        headers.insert("host", host.parse().unwrap());
        headers.remove("content-length");
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let sent =
            client.request(method, format!("{to}{uri}")).headers(headers).body(body).send().await.unwrap();
        let mut answer = (sent.status(), sent.headers().clone()).into_response();
        answer.headers_mut().remove("transfer-encoding");
        *answer.body_mut() = Body::from(sent.bytes().await.unwrap());
        answer
    };
    tokio::spawn(axum::serve(listener, Router::new().fallback(pass)).into_future());
    url
}

/// The code of the functions: the program for them that was built beside the one that is tested.
fn code() -> &'static Path {
    static CODE: OnceLock<PathBuf> = OnceLock::new();
    CODE.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_lastframe")).with_file_name("bootstrap");
        assert!(built.exists(), "{}: `cargo test --workspace --no-run` builds it", built.display());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(folder).unwrap();
        let own = tempfile::tempdir_in(folder).unwrap();
        let (bare, zip) = (own.path().join("bootstrap"), own.path().join("bootstrap.zip"));
        let done = Command::new("strip").arg("-o").args([&bare, &built]).status().unwrap();
        assert!(done.success(), "strip");
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/venv/bin/python");
        // Every test uploads it: what is not packed at all takes longer.
        let pack = "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w', 8, compresslevel=1).write(sys.argv[2], 'bootstrap')";
        let done = Command::new(python).args(["-c", pack]).args([&zip, &bare]).status().unwrap();
        assert!(done.success(), "python's zipfile");
        let packed = folder.join("bootstrap.zip");
        std::fs::rename(&zip, &packed).unwrap();
        packed
    })
}
