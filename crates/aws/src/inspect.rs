//! Whether all that rendering on Lambda needs is there, and a queue on AWS.

mod queue;

pub use self::queue::inspect_queue;

use remotion_lambda::{Error, GetSitesOptions, LogLevel};

use crate::{Accounts, Function};

/// What AWS guarantees an account at least, and what many get by default: enough for one render at a time.
const FEW: i32 = 100;

/// What was found of one function, or of one queue.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Its name and region.
    pub what: String,
    /// What is well with it.
    pub well: Vec<String>,
    /// What may go wrong, each with what would mend it.
    pub doubts: Vec<(String, String)>,
    /// What is wrong, each with what would mend it.
    pub faults: Vec<(String, String)>,
}

/// Looks at a function: whether it is there, answers, is of the version that its name tells, has a role and a bucket with
/// sites of its version, and how many functions the account may run at once. It changes nothing.
pub async fn inspect(function: &Function, accounts: &Accounts) -> Sight {
    let mut sight = Sight {
        what: format!("{} in {}", function.name, function.region),
        well: Vec::new(),
        doubts: Vec::new(),
        faults: Vec::new(),
    };
    if let Err(error) = look(function, accounts, &mut sight).await {
        sight.faults.push(error);
    }
    sight
}

async fn look(function: &Function, accounts: &Accounts, sight: &mut Sight) -> Result<(), (String, String)> {
    let keys = "set the keys of the account in the server's environment";
    let client = accounts
        .client(function.account, &function.region)
        .await
        .map_err(|error| (error.to_string(), keys.to_owned()))?;
    let lambda = client.lambda();
    let found = lambda.get_function_configuration().function_name(&function.name).send().await;
    let found = found.map_err(|error| {
        let code =
            aws_sdk_lambda::error::ProvideErrorMetadata::code(&error).unwrap_or("no answer").to_owned();
        let mend = match code.as_str() {
            "ResourceNotFoundException" => {
                "deploy it: `npm run deploy` in remotion-app, or `npx remotion lambda functions deploy`"
            }
            "AccessDeniedException" => "allow lambda:GetFunctionConfiguration to the server's credentials",
            _ => "look at the credentials and at the way to AWS",
        };
        (format!("it cannot be looked at: {code}"), mend.to_owned())
    })?;
    sight.well.push(format!(
        "{} MB, {} s",
        found.memory_size.unwrap_or_default(),
        found.timeout.unwrap_or_default()
    ));
    match found.role {
        Some(role) => sight.well.push(format!("role {}", role.rsplit('/').next().unwrap_or_default())),
        None => sight.faults.push((
            "it has no role".into(),
            "deploy it again with Remotion's role: https://www.remotion.dev/docs/lambda/permissions".into(),
        )),
    }
    version(function, &client, sight).await;
    buckets(function, &client, sight).await;
    quota(lambda, sight).await;
    Ok(())
}

/// Calls it, which its role must allow, and compares what it says with what its name tells.
async fn version(function: &Function, client: &remotion_lambda::Client, sight: &mut Sight) {
    match client.get_function_version(&function.name, &LogLevel::default()).await {
        Ok(version) => match crate::version_of(&function.name) {
            Some(named) if named != version => sight.faults.push((
                format!("it is of Remotion {version}, and its name says {named}"),
                "deploy it again under its own name".into(),
            )),
            _ => sight.well.push(format!("Remotion {version}")),
        },
        Err(error) => sight.faults.push((format!("it does not answer: {error}"), advice(&error))),
    }
}

/// Looks for the bucket, and makes none; and for the sites in it.
async fn buckets(function: &Function, client: &remotion_lambda::Client, sight: &mut Sight) {
    let options = GetSitesOptions { bucket_name: function.bucket.clone(), ..GetSitesOptions::default() };
    let found = match client.get_sites(&options).await {
        Ok(found) => found,
        Err(error) => return sight.faults.push((format!("no bucket: {error}"), advice(&error))),
    };
    match found.buckets.as_slice() {
        [bucket] => sight.well.push(format!("bucket {}", bucket.name)),
        [] => sight.faults.push((
            format!("there is no bucket of Remotion in {}", function.region),
            "`npm run deploy` in remotion-app makes one".into(),
        )),
        several => sight.faults.push((
            format!("there are {} buckets of Remotion in {}", several.len(), function.region),
            "name one: `bucket` of [[lambda.function]]".into(),
        )),
    }
    let of_function = crate::version_of(&function.name);
    let others: Vec<_> = found
        .sites
        .iter()
        .filter(|site| site.version.is_some() && of_function.is_some() && site.version != of_function)
        .map(|site| format!("{} ({})", site.id, site.version.as_deref().unwrap_or_default()))
        .collect();
    sight.well.push(format!("{} sites", found.sites.len()));
    if !others.is_empty() {
        let found = format!("sites of other versions of Remotion: {}", others.join(", "));
        let mend = "deploy a function of their version beside it, or add them again with the Remotion of the function";
        sight.doubts.push((found, mend.into()));
    }
}

async fn quota(lambda: &aws_sdk_lambda::Client, sight: &mut Sight) {
    let mend = "ask for more: https://console.aws.amazon.com/servicequotas, Lambda, concurrent executions";
    match lambda.get_account_settings().send().await {
        Ok(settings) => {
            let most = settings.account_limit.map_or(0, |limit| limit.concurrent_executions);
            let found = format!("{most} functions at once in the account");
            if most < FEW { sight.doubts.push((found, mend.into())) } else { sight.well.push(found) }
        }
        Err(_) => sight.doubts.push((
            "how many functions may run at once is not known".into(),
            "allow lambda:GetAccountSettings to the server's credentials".into(),
        )),
    }
}

fn advice(error: &Error) -> String {
    error.advice().unwrap_or("look at the credentials and at the way to AWS").to_owned()
}
