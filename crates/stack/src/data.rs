//! What outlives a stack: the table, the bucket, the people; and the code that its functions were made of.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, KeyType};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use crate::error::{is_there, said};
use crate::template::Parameters;
use crate::{Error, Stack};

/// The item of the table with the parameters of a stack that is no more. The queue has none whose key begins so.
const REMEMBERED: (&str, &str) = ("stack", "parameters");
/// The attribute of it that has them.
const VALUES: &str = "values";

/// What is there of a stack's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The table's name.
    pub table: Option<String>,
    /// The bucket's name.
    pub bucket: Option<String>,
    /// The user pool's id.
    pub user_pool: Option<String>,
}

impl Kept {
    /// Whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Name in the template, type, what identifies it, and its value.
    pub(crate) fn resources(&self) -> Vec<(&'static str, &'static str, &'static str, &str)> {
        let table = self.table.as_deref().map(|name| ("Table", "AWS::DynamoDB::Table", "TableName", name));
        let bucket = self.bucket.as_deref().map(|name| ("Bucket", "AWS::S3::Bucket", "BucketName", name));
        let pool =
            self.user_pool.as_deref().map(|id| ("UserPool", "AWS::Cognito::UserPool", "UserPoolId", id));
        table.into_iter().chain(bucket).chain(pool).collect()
    }

    /// In words, for whoever decides about it.
    #[must_use]
    pub fn describe(&self) -> String {
        let parts = [("table", &self.table), ("bucket", &self.bucket), ("user pool", &self.user_pool)];
        let part = |(what, name): (&str, &Option<String>)| Some(format!("{what} {}", name.as_ref()?));
        parts.into_iter().filter_map(part).collect::<Vec<_>>().join(", ")
    }
}

impl Stack {
    /// The data of the stack that is there now.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn data(&self) -> Result<Kept, Error> {
        let asked = self.cloudformation.describe_stack_resources().stack_name(&self.name).send().await;
        let found = asked.map_err(|error| said("cloudformation:DescribeStackResources", error))?;
        let mut kept = Kept::default();
        for resource in found.stack_resources.unwrap_or_default() {
            let id = resource.physical_resource_id.filter(|id| !id.is_empty());
            match resource.logical_resource_id.as_deref() {
                Some("Table") => kept.table = id,
                Some("Bucket") => kept.bucket = id,
                Some("UserPool") => kept.user_pool = id,
                _ => {}
            }
        }
        // What was deleted by hand, or never made, is listed all the same.
        let there = self.kept().await?;
        kept.table = kept.table.filter(|_| there.table.is_some());
        kept.bucket = kept.bucket.filter(|_| there.bucket.is_some());
        if let Some(pool) = &kept.user_pool {
            let asked = self.cognito.describe_user_pool().user_pool_id(pool).send().await;
            if !is_there("cognito-idp:DescribeUserPool", asked)? {
                kept.user_pool = None;
            }
        }
        Ok(kept)
    }

    /// What a stack of this name has left when it was destroyed.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is a table of this name that is none of Lastframe's; when AWS refuses or does not answer.
    pub async fn kept(&self) -> Result<Kept, Error> {
        let mut kept = Kept::default();
        let asked = self.dynamodb.describe_table().table_name(&self.name).send().await;
        match asked.map_err(|error| said("dynamodb:DescribeTable", error)) {
            Ok(found) => {
                let keys = found.table.and_then(|table| table.key_schema).unwrap_or_default();
                let names: Vec<_> = keys.iter().map(|key| (key.attribute_name(), key.key_type())).collect();
                if names != [("pk", &KeyType::Hash), ("sk", &KeyType::Range)] {
                    return Err(Error::Usage(format!(
                        "there is a table {} that is none of Lastframe's: --stack names the stack otherwise",
                        self.name
                    )));
                }
                kept.table = Some(self.name.clone());
            }
            Err(Error::Refused { code, .. }) if code == "ResourceNotFoundException" => {}
            Err(error) => return Err(error),
        }
        let account = self.account().await?;
        let bucket = format!("{}-{account}-{}", self.name, self.region);
        if self.has_bucket(&bucket, &account).await? {
            kept.bucket = Some(bucket);
        }
        // A pool has no name of its own, so one that only looks like it is left alone.
        if kept.table.is_some() {
            let mut pages = self.cognito.list_user_pools().max_results(60).into_paginator().send();
            let mut found = Vec::new();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| said("cognito-idp:ListUserPools", error))?;
                let of_this = page.user_pools.unwrap_or_default().into_iter();
                found.extend(
                    of_this.filter(|pool| pool.name() == Some(self.name.as_str())).filter_map(|pool| pool.id),
                );
            }
            if let [pool] = found.as_slice() {
                kept.user_pool = Some(pool.clone());
            }
        }
        Ok(kept)
    }

    /// Whether this account has that bucket.
    pub(crate) async fn has_bucket(&self, bucket: &str, account: &str) -> Result<bool, Error> {
        let asked = self.s3.head_bucket().bucket(bucket).expected_bucket_owner(account).send().await;
        is_there("s3:ListBucket", asked)
    }

    /// Writes the parameters of a stack that goes into the table that stays, so that the next one begins with them.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn remember(&self, parameters: &Parameters) -> Result<(), Error> {
        let values = parameters.iter().map(|(name, value)| (name.clone(), AttributeValue::S(value.clone())));
        let (pk, sk) = REMEMBERED;
        let put = self.dynamodb.put_item().table_name(&self.name);
        let put = put.item("pk", AttributeValue::S(pk.into())).item("sk", AttributeValue::S(sk.into()));
        let put = put.item(VALUES, AttributeValue::M(values.collect())).send().await;
        put.map_err(|error| said("dynamodb:PutItem", error))?;
        Ok(())
    }

    /// The parameters that the last stack of this name had; `None` where nothing says so.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn remembered(&self, kept: &Kept) -> Result<Option<Parameters>, Error> {
        let Some(table) = &kept.table else { return Ok(None) };
        let asked = self.dynamodb.get_item().table_name(table).set_key(Some(key())).consistent_read(true);
        let found = asked.send().await.map_err(|error| said("dynamodb:GetItem", error))?;
        let values = found.item.as_ref().and_then(|item| item.get(VALUES)?.as_m().ok());
        let value =
            |(name, value): (&String, &AttributeValue)| Some((name.clone(), value.as_s().ok()?.clone()));
        Ok(values.map(|values| values.iter().filter_map(value).collect()))
    }

    /// Forgets them: the stack that took the table back has its own.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn forget(&self) -> Result<(), Error> {
        let gone = self.dynamodb.delete_item().table_name(&self.name).set_key(Some(key())).send().await;
        gone.map_err(|error| said("dynamodb:DeleteItem", error))?;
        Ok(())
    }

    /// The bucket of Remotion Lambda in this region.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is none, or more than one; when AWS refuses or does not answer.
    pub async fn remotion_bucket(&self) -> Result<String, Error> {
        let begin = format!("remotionlambda-{}-", self.region.replace('-', ""));
        let asked = self.s3.list_buckets().send().await;
        let all = asked.map_err(|error| said("s3:ListAllMyBuckets", error))?.buckets.unwrap_or_default();
        let names = all.into_iter().filter_map(|bucket| bucket.name);
        let found: Vec<_> = names.filter(|name| name.starts_with(&begin)).collect();
        match found.as_slice() {
            [bucket] => Ok(bucket.clone()),
            [] => Err(Error::Usage(format!(
                "RemotionFunction needs a bucket of Remotion, and {} has none ({begin}...): `npm run deploy` in remotion-app makes it",
                self.region
            ))),
            several => Err(Error::Usage(format!("RemotionBucket: say which, {}", several.join(" or ")))),
        }
    }

    /// Deletes data for good, and tells what is gone.
    ///
    /// # Errors
    /// When AWS refuses or does not answer; what is gone by then stays gone.
    pub async fn remove(&self, kept: &Kept, mut tell: impl FnMut(String)) -> Result<(), Error> {
        if let Some(pool) = &kept.user_pool {
            let gone = self.cognito.delete_user_pool().user_pool_id(pool).send().await;
            gone.map_err(|error| said("cognito-idp:DeleteUserPool", error))?;
            tell(format!("user pool {pool}"));
        }
        if let Some(bucket) = &kept.bucket {
            let count = self.empty(bucket).await?;
            let gone = self.s3.delete_bucket().bucket(bucket).send().await;
            gone.map_err(|error| said("s3:DeleteBucket", error))?;
            tell(format!("bucket {bucket}, with {count} objects"));
        }
        // Last, because it is by the table that the rest is known for ours.
        if let Some(table) = &kept.table {
            let gone = self.dynamodb.delete_table().table_name(table).send().await;
            gone.map_err(|error| said("dynamodb:DeleteTable", error))?;
            tell(format!("table {table}"));
        }
        Ok(())
    }

    /// Deletes the functions' code, unless another stack of the region was made of what lies there. Says which bucket went.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn remove_code(&self) -> Result<Option<String>, Error> {
        let account = self.account().await?;
        let bucket = self.code_bucket(&account);
        if !self.has_bucket(&bucket, &account).await? {
            return Ok(None);
        }
        let mut pages = self.cloudformation.describe_stacks().into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| said("cloudformation:DescribeStacks", error))?;
            let uses = |stack: &aws_sdk_cloudformation::types::Stack| {
                stack.stack_status.as_ref().is_some_and(|status| status.as_str() != "DELETE_COMPLETE")
                    && stack
                        .parameters()
                        .iter()
                        .any(|parameter| parameter.parameter_value() == Some(bucket.as_str()))
            };
            if page.stacks().iter().any(uses) {
                return Ok(None);
            }
        }
        self.empty(&bucket).await?;
        let gone = self.s3.delete_bucket().bucket(&bucket).send().await;
        gone.map_err(|error| said("s3:DeleteBucket", error))?;
        Ok(Some(bucket))
    }

    /// Deletes all versions of all objects, and what was never finished. Says how many objects there were.
    async fn empty(&self, bucket: &str) -> Result<usize, Error> {
        let mut count = 0;
        loop {
            let asked = self.s3.list_object_versions().bucket(bucket).send().await;
            let page = asked.map_err(|error| said("s3:ListBucketVersions", error))?;
            let versions = page.versions().iter().map(|version| (version.key(), version.version_id()));
            let markers = page.delete_markers().iter().map(|marker| (marker.key(), marker.version_id()));
            let mut objects = Vec::new();
            for (key, version) in versions.chain(markers) {
                let object = ObjectIdentifier::builder().set_key(key.map(str::to_owned));
                let object =
                    object.set_version_id(version.filter(|id| *id != "null").map(str::to_owned)).build();
                objects.push(object.map_err(|_| Error::Answer("the key of an object"))?);
            }
            if objects.is_empty() {
                break;
            }
            count += objects.len();
            let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build();
            let delete = delete.map_err(|_| Error::Answer("objects"))?;
            let asked = self.s3.delete_objects().bucket(bucket).delete(delete).send().await;
            let gone = asked.map_err(|error| said("s3:DeleteObject", error))?;
            if let Some(kept) = gone.errors().first() {
                return Err(Error::Refused {
                    action: "s3:DeleteObjectVersion",
                    code: kept.code().unwrap_or("no code").into(),
                    message: format!(
                        "{}: {}",
                        kept.key().unwrap_or_default(),
                        kept.message().unwrap_or_default()
                    ),
                });
            }
        }
        let asked = self.s3.list_multipart_uploads().bucket(bucket).send().await;
        for upload in asked.map_err(|error| said("s3:ListBucketMultipartUploads", error))?.uploads() {
            let abort = self.s3.abort_multipart_upload().bucket(bucket);
            let abort =
                abort.set_key(upload.key.clone()).set_upload_id(upload.upload_id.clone()).send().await;
            abort.map_err(|error| said("s3:AbortMultipartUpload", error))?;
        }
        Ok(count)
    }
}

fn key() -> HashMap<String, AttributeValue> {
    let (pk, sk) = REMEMBERED;
    let part = |name: &str, value: &str| (name.to_owned(), AttributeValue::S(value.to_owned()));
    HashMap::from([part("pk", pk), part("sk", sk)])
}
