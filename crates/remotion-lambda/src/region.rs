//! What differs between AWS and AWS in China, and addresses in AWS's console.

/// The parts of AWS's addresses in a region.
pub(crate) struct Partition {
    /// As in ARNs.
    pub(crate) name: &'static str,
    pub(crate) dns_suffix: &'static str,
    pub(crate) console: &'static str,
    pub(crate) currency: &'static str,
}

const AWS: Partition = Partition {
    name: "aws",
    dns_suffix: "amazonaws.com",
    console: "console.aws.amazon.com",
    currency: "USD",
};
const CHINA: Partition = Partition {
    name: "aws-cn",
    dns_suffix: "amazonaws.com.cn",
    console: "console.amazonaws.cn",
    currency: "CNY",
};

impl Partition {
    pub(crate) fn of(region: &str) -> &'static Self {
        if region.starts_with("cn-") { &CHINA } else { &AWS }
    }

    /// Whether functions can answer bit by bit.
    pub(crate) fn streams(&self) -> bool {
        self.name == "aws"
    }
}

/// The regions Remotion knows, to read them back from the names of buckets, which have no hyphens there.
pub(crate) const REGIONS: [&str; 25] = [
    "af-south-1",
    "ap-east-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-4",
    "ap-southeast-5",
    "ca-central-1",
    "cn-north-1",
    "cn-northwest-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// The address of a function's log, filtered by what Remotion writes there.
pub(crate) fn log_url(region: &str, function: &str, filter: &str) -> String {
    let console = Partition::of(region).console;
    let filter = console_escape(&format!("\"{filter}\""));
    format!(
        "https://{region}.{console}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/\
         $252Faws$252Flambda$252F{function}/log-events$3FfilterPattern$3D{filter}"
    )
}

/// Escapes as the console does within a fragment: like a component of a URL, with `$25` for the percent sign.
fn console_escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'!'
            | b'~'
            | b'*'
            | b'\''
            | b'('
            | b')' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("$25{byte:02X}")),
        }
    }
    escaped
}

/// The address of a function's page of Lambda Insights.
pub(crate) fn insights_url(region: &str, function: &str) -> String {
    let console = Partition::of(region).console;
    format!("https://{region}.{console}/cloudwatch/home?region={region}#lambda-insights:functions/{function}")
}

/// The address of a render's folder in the console.
pub(crate) fn folder_url(region: &str, bucket: &str, render_id: &str) -> String {
    let partition = Partition::of(region);
    let host = if partition.name == "aws" { "s3" } else { region };
    let console = partition.console;
    format!("https://{host}.{console}/s3/buckets/{bucket}?region={region}&prefix=renders/{render_id}/")
}

/// The address of a render's `progress.json` in the console.
pub(crate) fn progress_url(region: &str, bucket: &str, render_id: &str) -> String {
    let console = Partition::of(region).console;
    format!(
        "https://{region}.{console}/s3/object/{bucket}?region={region}&bucketType=general\
         &prefix=renders/{render_id}/progress.json"
    )
}
