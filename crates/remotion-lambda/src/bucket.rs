//! The bucket: finding it, making it, and what is read and written there.

use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketCannedAcl, BucketLifecycleConfiguration, BucketLocationConstraint, CreateBucketConfiguration,
    ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, Object, ObjectCannedAcl,
};
use serde_json::json;

use crate::region::{Partition, REGIONS};
use crate::{Client, Error};

/// What the names of Remotion's buckets begin with.
const PREFIX: &str = "remotionlambda-";

/// The largest object that is read whole, in bytes: a `progress.json` or an `index.html`.
const READ_LIMIT: usize = 64 * 1024 * 1024;

/// How long putting an object may take, once: props may be large, and lines slow.
const PUT_LIMIT: Duration = Duration::from_secs(600);

/// After how many days each folder's outputs are deleted; see [`DeleteAfter`](crate::DeleteAfter).
const EXPIRY: [(&str, i32); 4] = [("1-day", 1), ("3-days", 3), ("7-days", 7), ("30-days", 30)];

/// How a bucket is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetOrCreateBucketOptions {
    /// Whether the bucket gets the lifecycle rules that `delete_after` needs (`Some(true)`), loses all its rules
    /// (`Some(false)`), or keeps what it has (`None`). Default: `None`.
    pub enable_folder_expiry: Option<bool>,
}

/// A bucket of Remotion's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetOrCreateBucketOutput {
    /// Its name.
    pub bucket_name: String,
    /// Whether it was there before.
    pub already_existed: bool,
}

/// A bucket of Remotion's, as [`Client::get_sites`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub region: String,
    /// When it was made, in milliseconds since 1970.
    pub creation_date: i64,
}

impl Client {
    /// The account's bucket of Remotion in the region; it is made if there is none.
    ///
    /// One that is made lets everybody read its objects, and nobody else list them: Remotion's outputs are public unless they
    /// are asked to be private. Nothing is made where that cannot be set.
    ///
    /// # Errors
    /// [`Error::SeveralBuckets`] if there is more than one; and see [`Error`].
    pub async fn get_or_create_bucket(
        &self,
        options: &GetOrCreateBucketOptions,
    ) -> Result<GetOrCreateBucketOutput, Error> {
        let mut buckets = self.buckets(None).await?;
        if buckets.len() > 1 {
            let buckets = buckets.into_iter().map(|bucket| bucket.name).collect();
            return Err(Error::SeveralBuckets { region: self.region().to_owned(), buckets });
        }
        let (bucket_name, already_existed) = match buckets.pop() {
            Some(bucket) => (bucket.name, true),
            None => (self.create_bucket().await?, false),
        };
        if let Some(expire) = options.enable_folder_expiry {
            self.set_expiry(&bucket_name, expire).await?;
        }
        Ok(GetOrCreateBucketOutput { bucket_name, already_existed })
    }

    /// The buckets of Remotion's in the region, or the one of that name.
    pub(crate) async fn buckets(&self, name: Option<&str>) -> Result<Vec<Bucket>, Error> {
        let mut found = Vec::new();
        let mut pages = self.s3.list_buckets().into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Error::aws("s3:ListAllMyBuckets", &error))?;
            for bucket in page.buckets.unwrap_or_default() {
                let Some(bucket_name) = bucket.name else { continue };
                let ours = name.map_or_else(|| bucket_name.starts_with(PREFIX), |name| bucket_name == name);
                if !ours {
                    continue;
                }
                let Some(region) = self.region_of(&bucket_name).await? else { continue };
                if region == self.region() {
                    let creation_date =
                        bucket.creation_date.and_then(|date| date.to_millis().ok()).unwrap_or_default();
                    found.push(Bucket { name: bucket_name, region, creation_date });
                }
            }
        }
        Ok(found)
    }

    /// `None` if it has gone meanwhile.
    async fn region_of(&self, bucket: &str) -> Result<Option<String>, Error> {
        if let Some(region) = region_in_name(bucket) {
            return Ok(Some(region.to_owned()));
        }
        match self.s3.get_bucket_location().bucket(bucket).send().await {
            Ok(location) => {
                let region = location.location_constraint.map(|region| region.as_str().to_owned());
                Ok(Some(region.filter(|region| !region.is_empty()).unwrap_or_else(|| "us-east-1".to_owned())))
            }
            Err(error) if error.code() == Some("NoSuchBucket") => Ok(None),
            Err(error) => Err(Error::aws("s3:GetBucketLocation", &error)),
        }
    }

    async fn create_bucket(&self) -> Result<String, Error> {
        let region = self.region();
        let bucket = format!("{PREFIX}{}-{}", region.replace('-', ""), random_hash()?);
        // S3 knows its first region as no place at all.
        let place = (region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        let s3 = &self.s3;
        s3.create_bucket()
            .bucket(&bucket)
            .set_create_bucket_configuration(place)
            .send()
            .await
            .map_err(|error| Error::aws("s3:CreateBucket", &error))?;
        if let Err(error) = self.open_bucket(&bucket).await {
            // Half a bucket would be found and used the next time.
            return match s3.delete_bucket().bucket(&bucket).send().await {
                Ok(_) => Err(error),
                Err(_) => Err(Error::Invalid {
                    option: "bucketName",
                    message: format!("{bucket} was made and could not be set up; delete it. {error}"),
                }),
            };
        }
        Ok(bucket)
    }

    /// Lets everybody read what is in the bucket, by its address.
    async fn open_bucket(&self, bucket: &str) -> Result<(), Error> {
        let s3 = &self.s3;
        s3.delete_bucket_ownership_controls()
            .bucket(bucket)
            .send()
            .await
            .map_err(|error| Error::aws("s3:PutBucketOwnershipControls", &error))?;
        s3.delete_public_access_block()
            .bucket(bucket)
            .send()
            .await
            .map_err(|error| Error::aws("s3:PutBucketPublicAccessBlock", &error))?;
        let partition = Partition::of(self.region()).name;
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Sid": "PublicReadGetObject",
                "Effect": "Allow",
                "Principal": "*",
                "Action": "s3:GetObject",
                "Resource": format!("arn:{partition}:s3:::{bucket}/*"),
            }],
        });
        s3.put_bucket_policy()
            .bucket(bucket)
            .policy(policy.to_string())
            .send()
            .await
            .map_err(|error| Error::aws("s3:PutBucketPolicy", &error))?;
        s3.put_bucket_acl()
            .bucket(bucket)
            .acl(BucketCannedAcl::Private)
            .send()
            .await
            .map_err(|error| Error::aws("s3:PutBucketAcl", &error))?;
        Ok(())
    }

    async fn set_expiry(&self, bucket: &str, expire: bool) -> Result<(), Error> {
        let action = "s3:PutLifecycleConfiguration";
        if !expire {
            let deleted = self.s3.delete_bucket_lifecycle().bucket(bucket).send().await;
            return deleted.map(|_| ()).map_err(|error| Error::aws(action, &error));
        }
        let odd = |error: aws_sdk_s3::error::BuildError| Error::Reply { action, message: error.to_string() };
        let mut rules = BucketLifecycleConfiguration::builder();
        for (folder, days) in EXPIRY {
            let rule = LifecycleRule::builder()
                .id(format!("delete-after-{folder}"))
                .filter(LifecycleRuleFilter::builder().prefix(format!("renders/{folder}")).build())
                .expiration(LifecycleExpiration::builder().days(days).build())
                .status(ExpirationStatus::Enabled);
            rules = rules.rules(rule.build().map_err(odd)?);
        }
        let put = self.s3.put_bucket_lifecycle_configuration().bucket(bucket);
        let put = put.lifecycle_configuration(rules.build().map_err(odd)?).send().await;
        put.map(|_| ()).map_err(|error| Error::aws(action, &error))
    }

    pub(crate) async fn put_json(
        &self,
        bucket: &str,
        key: &str,
        body: Vec<u8>,
        owner: Option<&str>,
        acl: bool,
    ) -> Result<(), Error> {
        let limit = TimeoutConfig::builder().operation_attempt_timeout(PUT_LIMIT).build();
        let put = self.s3.put_object().bucket(bucket).key(key).content_type("application/json");
        put.body(ByteStream::from(body))
            .set_acl(acl.then_some(ObjectCannedAcl::Private))
            .set_expected_bucket_owner(owner.map(str::to_owned))
            .customize()
            .config_override(aws_sdk_s3::config::Builder::new().timeout_config(limit))
            .send()
            .await
            .map_err(|error| Error::aws("s3:PutObject", &error))?;
        Ok(())
    }

    /// An object, whole; `None` if there is none.
    pub(crate) async fn read_object(
        &self,
        bucket: &str,
        key: &str,
        owner: Option<&str>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let action = "s3:GetObject";
        let asked = self.s3.get_object().bucket(bucket).key(key);
        let object = match asked.set_expected_bucket_owner(owner.map(str::to_owned)).send().await {
            Ok(object) => object,
            Err(error) if matches!(error.code(), Some("NoSuchKey" | "NotFound")) => return Ok(None),
            Err(error) => return Err(Error::aws(action, &error)),
        };
        let mut body = object.body;
        let mut read = Vec::new();
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| Error::Unreachable {
                action,
                message: error.to_string(),
                sent: true,
            })?;
            if read.len() + bytes.len() > READ_LIMIT {
                return Err(Error::Reply {
                    action,
                    message: format!("{key} is larger than {READ_LIMIT} bytes"),
                });
            }
            read.extend_from_slice(&bytes);
        }
        Ok(Some(read))
    }

    /// Every object whose key begins so.
    pub(crate) async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        owner: &str,
    ) -> Result<Vec<Object>, Error> {
        let asked = self.s3.list_objects_v2().bucket(bucket).prefix(prefix).expected_bucket_owner(owner);
        let mut objects = Vec::new();
        let mut pages = asked.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Error::aws("s3:ListBucket", &error))?;
            objects.extend(page.contents.unwrap_or_default());
        }
        Ok(objects)
    }
}

/// The region a bucket's name tells: `remotionlambda-useast1-abcdef`.
fn region_in_name(bucket: &str) -> Option<&'static str> {
    let (region, hash) = bucket.strip_prefix(PREFIX)?.rsplit_once('-')?;
    if hash.is_empty() || !hash.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    REGIONS.into_iter().find(|known| known.replace('-', "") == region)
}

/// Ten random characters of `a` to `z` and `0` to `9`.
pub(crate) fn random_hash() -> Result<String, Error> {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Invalid { option: "hash", message: format!("no random bytes: {error}") })?;
    // The first four characters come a little more often; nothing depends on it.
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_tells_its_region() {
        assert_eq!(region_in_name("remotionlambda-useast1-abc123"), Some("us-east-1"));
        assert_eq!(region_in_name("remotionlambda-apsoutheast2-ABC"), Some("ap-southeast-2"));
        for other in
            ["remotionlambda-useast1-", "remotionlambda-mars1-abc", "remotionlambda-abc", "useast1-abc", ""]
        {
            assert_eq!(region_in_name(other), None, "{other}");
        }
    }

    #[test]
    fn hashes_differ() {
        let (one, other) = (random_hash().unwrap(), random_hash().unwrap());
        assert_eq!(one.len(), 10);
        assert_ne!(one, other);
    }
}
