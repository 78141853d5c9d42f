//! Where outputs go, and how they are fetched.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::optional_duration;

/// What keys of outputs begin with in the bucket of a stack.
pub(crate) const OF_STACK: &str = "outputs";

/// `[storage]` in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StorageSection {
    url: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    access_key_id: Option<String>,
    secret_access_key_file: Option<PathBuf>,
    download: Download,
    #[serde(deserialize_with = "optional_duration")]
    patience: Option<Duration>,
    min_free: Option<String>,
}

/// `[links]` in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LinksSection {
    #[serde(deserialize_with = "optional_duration", rename = "default")]
    usual: Option<Duration>,
    #[serde(deserialize_with = "optional_duration", rename = "max")]
    longest: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Download {
    #[default]
    Stream,
    Redirect,
}

/// A bucket, and what its keys begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bucket's name.
    pub bucket: String,
    /// Without a slash at either end; may be empty.
    pub prefix: String,
}

/// Where outputs go.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    /// Where new ones go; into the data folder when absent.
    pub place: Option<Place>,
    /// The URL of a service that speaks like S3; AWS when absent.
    pub endpoint: Option<String>,
    /// As AWS names it.
    pub region: Option<String>,
    /// From the environment when absent.
    pub access_key_id: Option<String>,
    /// The file that holds the secret which belongs to it.
    pub secret_access_key_file: Option<PathBuf>,
    /// Whether whoever asks for an output is sent to the storage for it.
    pub redirect: bool,
    /// How long a finished file waits for a storage that does not take it.
    pub patience: Duration,
    /// Bytes of the data folder's disk that must be free for a render to be accepted.
    pub min_free: u64,
    /// Whether posters of what goes to a bucket go there, too, for other machines to find.
    pub posters_beside: bool,
    /// Has the keys, where they are neither in the file nor in the environment.
    pub keys: Option<Arc<dyn AccessKeys>>,
}

/// Finds what requests to a storage are signed with.
#[async_trait]
pub trait AccessKeys: fmt::Debug + Send + Sync {
    /// The key that is good now.
    ///
    /// # Errors
    /// When there is none.
    async fn find(&self) -> io::Result<AccessKey>;
}

/// A key, with its secret.
pub struct AccessKey {
    /// Its name.
    pub id: String,
    /// What belongs to it.
    pub secret: String,
    /// What belongs to one that is good for a while.
    pub session: Option<String>,
}

/// How long links to outputs are good.
#[derive(Clone, Copy, Debug)]
pub struct LinkLives {
    /// When nobody says.
    pub usual: Duration,
    /// At most.
    pub longest: Duration,
}

impl Storage {
    /// The same, where outputs go to the bucket of a stack on AWS, which everybody who renders for it shares.
    #[must_use]
    pub fn of_stack(self, bucket: &str, region: Option<String>, keys: Arc<dyn AccessKeys>) -> Self {
        // The SDK's own variables; what puts files into buckets does not know them all.
        let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|url| !url.is_empty()));
        Self {
            place: Some(Place { bucket: bucket.into(), prefix: OF_STACK.into() }),
            endpoint,
            region,
            access_key_id: None,
            secret_access_key_file: None,
            redirect: true,
            posters_beside: true,
            keys: Some(keys),
            ..self
        }
    }

    /// Where whoever asks for an output may be sent, as origins; nowhere unless it redirects.
    pub(crate) fn origins(&self) -> Vec<String> {
        if !self.redirect {
            return Vec::new();
        }
        if let Some(endpoint) = &self.endpoint {
            let host = endpoint.find("://").map_or(0, |at| at + 3);
            return vec![
                endpoint[..endpoint[host..].find('/').map_or(endpoint.len(), |end| host + end)].to_owned(),
            ];
        }
        let Some(region) = &self.region else { return vec!["https://*.amazonaws.com".into()] };
        // By path, and by the name of the bucket.
        let host = format!("s3.{region}.amazonaws.com");
        let bucket = self.place.iter().map(|place| format!("https://{}.{host}", place.bucket));
        std::iter::once(format!("https://{host}")).chain(bucket).collect()
    }
}

impl StorageSection {
    pub(super) fn read(self) -> anyhow::Result<Storage> {
        let place = self.url.as_deref().map(str::parse).transpose().map_err(anyhow::Error::msg)?;
        if let Some(endpoint) = &self.endpoint {
            let is_http = endpoint.starts_with("http://") || endpoint.starts_with("https://");
            anyhow::ensure!(is_http, "storage.endpoint must begin with http:// or https://");
        }
        anyhow::ensure!(
            self.access_key_id.is_some() == self.secret_access_key_file.is_some(),
            "storage.access_key_id and storage.secret_access_key_file go together"
        );
        let min_free = self.min_free.as_deref().map_or(Ok(1 << 30), bytes);
        Ok(Storage {
            place,
            endpoint: self.endpoint,
            region: self.region,
            access_key_id: self.access_key_id,
            secret_access_key_file: self.secret_access_key_file,
            redirect: self.download == Download::Redirect,
            patience: self.patience.unwrap_or(Duration::from_secs(15 * 60)),
            min_free: min_free.map_err(|why| anyhow::anyhow!("storage.min_free: {why}"))?,
            posters_beside: false,
            keys: None,
        })
    }
}

impl LinksSection {
    pub(super) fn read(self) -> anyhow::Result<LinkLives> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let longest = self.longest.unwrap_or(30 * DAY);
        let usual = self.usual.unwrap_or(longest.min(7 * DAY));
        anyhow::ensure!(usual <= longest, "links.default must not be longer than links.max");
        anyhow::ensure!(usual >= Duration::from_secs(1), "links.default must be at least 1s");
        Ok(LinkLives { usual, longest })
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let wrong = || format!("storage.url is `{url}`, and must be like s3://bucket/prefix");
        let (bucket, prefix) = match url.strip_prefix("s3://").ok_or_else(wrong)?.split_once('/') {
            Some((bucket, prefix)) => (bucket, prefix.trim_end_matches('/')),
            None => (url.trim_start_matches("s3://"), ""),
        };
        let is_bucket = (3..=63).contains(&bucket.len())
            && bucket
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
        // Names of which none means anything else anywhere.
        let is_part = |part: &str| {
            !part.is_empty()
                && !part.bytes().all(|byte| byte == b'.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if !is_bucket || !(prefix.is_empty() || prefix.len() <= 512 && prefix.split('/').all(is_part)) {
            return Err(wrong());
        }
        Ok(Self { bucket: bucket.into(), prefix: prefix.into() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "s3://{}{slash}{}", self.bucket, self.prefix)
    }
}

/// Reads a size with its unit: `500 MB`, `2 GiB`, `0 B`.
fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("B", 1),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim());
    let size = number.parse::<u64>().ok().zip(unit).and_then(|(number, (_, unit))| number.checked_mul(*unit));
    size.ok_or_else(|| format!("`{text}` is not a size such as 500 MB or 2 GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_bucket_and_names_below_it_and_is_told_as_it_was_given() {
        for (url, bucket, prefix) in [
            ("s3://renders", "renders", ""),
            ("s3://renders/", "renders", ""),
            ("s3://my.renders-2/a/b_c", "my.renders-2", "a/b_c"),
        ] {
            let place: Place = url.parse().unwrap();
            assert_eq!((place.bucket.as_str(), place.prefix.as_str()), (bucket, prefix));
            assert_eq!(place.to_string(), url.trim_end_matches('/'));
        }
        for wrong in [
            "",
            "renders",
            "s3://",
            "s3://UP",
            "gs://renders",
            "s3://renders/a//b",
            "s3://renders/../a",
            "s3://renders/a b",
        ] {
            assert!(wrong.parse::<Place>().unwrap_err().contains("s3://bucket/prefix"), "{wrong}");
        }
    }

    #[test]
    fn sizes_need_a_unit_and_say_so() {
        assert_eq!(bytes("2 GiB"), Ok(2 << 30));
        assert_eq!(bytes("500MB"), Ok(500_000_000));
        assert_eq!(bytes("0 B"), Ok(0));
        for wrong in ["", "2", "GiB", "-1 GB", "1.5 GB", "99999999999 TiB", "2 gigs"] {
            assert!(bytes(wrong).unwrap_err().contains("2 GiB"), "{wrong}");
        }
    }

    #[test]
    fn half_a_credential_and_a_link_that_lives_longer_than_it_may_are_refused() {
        let storage = |text: &str| toml::from_str::<StorageSection>(text).unwrap().read();
        assert!(storage("access_key_id = \"a\"").unwrap_err().to_string().contains("go together"));
        assert!(storage("endpoint = \"minio:9000\"").unwrap_err().to_string().contains("http://"));
        let links = |text: &str| toml::from_str::<LinksSection>(text).unwrap().read();
        assert!(links("default = \"31d\"").is_err());
        assert_eq!(links("max = \"1d\"").unwrap().usual, Duration::from_secs(24 * 60 * 60));
    }
}
