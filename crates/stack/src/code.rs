//! The functions' code, where Lambda fetches it: a bucket of the account, with zips named by what is in them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, Tag, Tagging, VersioningConfiguration,
};
use flate2::read::DeflateDecoder;
use sha2::{Digest as _, Sha256};

use crate::error::said;
use crate::{Error, Stack};

/// A zip with the program in it.
#[derive(Clone, Debug)]
pub struct Code {
    file: PathBuf,
    bytes: Vec<u8>,
    /// Where it goes.
    pub bucket: String,
    /// Under what: its SHA-256, so that what is there is the same.
    pub key: String,
    /// Whose the bucket must be: names of buckets are guessed, and made first, by others.
    owner: String,
}

/// What a program runs on, as Lambda calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Graviton.
    Arm64,
    /// Intel and AMD.
    X86_64,
}

impl Architecture {
    /// Lambda's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86_64 => "x86_64",
        }
    }
}

impl Stack {
    /// Reads a zip and says where it goes. Nothing is sent yet.
    ///
    /// # Errors
    /// When the file cannot be read or is no zip with a `bootstrap`, and when it was made for other processors.
    pub async fn code(&self, file: &Path, architecture: Architecture) -> Result<Code, Error> {
        let wrong = |message: String| Error::File { file: file.display().to_string(), message };
        let bytes = std::fs::read(file)
            .map_err(|error| wrong(format!("{error}; `make lambda` makes it, --code names another")))?;
        let program = bootstrap(&bytes).ok_or_else(|| {
            wrong("this is no zip whose first file is `bootstrap`; `make lambda` makes one".into())
        })?;
        if let Some(found) = made_for(&program)
            && found != architecture
        {
            let (found, wanted) = (found.as_str(), architecture.as_str());
            return Err(wrong(format!(
                "it was made for {found}, and the functions run on {wanted}: --architecture {found}"
            )));
        }
        let digest = format!("{:x}", Sha256::digest(&bytes));
        let owner = self.account().await?;
        let bucket = self.code_bucket(&owner);
        Ok(Code { file: file.to_owned(), bytes, bucket, key: format!("{digest}.zip"), owner })
    }

    /// Brings code to its bucket, which is made when it is missing. Says whether it had to be sent.
    ///
    /// # Errors
    /// When AWS refuses or does not answer.
    pub async fn upload(&self, code: &Code) -> Result<bool, Error> {
        self.make_code_bucket(&code.bucket, &code.owner).await?;
        let there =
            self.s3.head_object().bucket(&code.bucket).key(&code.key).expected_bucket_owner(&code.owner);
        if there.send().await.is_ok() {
            return Ok(false);
        }
        let put = self.s3.put_object().bucket(&code.bucket).key(&code.key).expected_bucket_owner(&code.owner);
        let put = put.content_type("application/zip");
        let sent = put.body(ByteStream::from(code.bytes.clone())).send().await;
        sent.map_err(|error| said("s3:PutObject", error))?;
        Ok(true)
    }

    /// Where code lies, for all stacks of the account in this region.
    pub(crate) fn code_bucket(&self, account: &str) -> String {
        format!("lastframe-code-{account}-{}", self.region)
    }

    async fn make_code_bucket(&self, bucket: &str, owner: &str) -> Result<(), Error> {
        if self.has_bucket(bucket, owner).await? {
            return Ok(());
        }
        let mut create = self.s3.create_bucket().bucket(bucket);
        // The first region is the one that must not be named.
        if self.region != "us-east-1" {
            let place = BucketLocationConstraint::from(self.region.as_str());
            create = create.create_bucket_configuration(
                CreateBucketConfiguration::builder().location_constraint(place).build(),
            );
        }
        create.send().await.map_err(|error| said("s3:CreateBucket", error))?;
        let private = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .block_public_policy(true)
            .ignore_public_acls(true)
            .restrict_public_buckets(true)
            .build();
        let asked =
            self.s3.put_public_access_block().bucket(bucket).public_access_block_configuration(private);
        asked.send().await.map_err(|error| said("s3:PutBucketPublicAccessBlock", error))?;
        let answer = |_| Error::Answer("a bucket's settings");
        let sealed = ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256);
        let rule = ServerSideEncryptionRule::builder()
            .apply_server_side_encryption_by_default(sealed.build().map_err(answer)?)
            .build();
        let sealed = ServerSideEncryptionConfiguration::builder().rules(rule).build().map_err(answer)?;
        let asked =
            self.s3.put_bucket_encryption().bucket(bucket).server_side_encryption_configuration(sealed);
        asked.send().await.map_err(|error| said("s3:PutEncryptionConfiguration", error))?;
        let versions = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let asked = self.s3.put_bucket_versioning().bucket(bucket).versioning_configuration(versions);
        asked.send().await.map_err(|error| said("s3:PutBucketVersioning", error))?;
        let tag = Tag::builder().key("lastframe").value("code").build().map_err(answer)?;
        let tags = Tagging::builder().tag_set(tag).build().map_err(answer)?;
        let asked = self.s3.put_bucket_tagging().bucket(bucket).tagging(tags);
        asked.send().await.map_err(|error| said("s3:PutBucketTagging", error))?;
        Ok(())
    }
}

impl Code {
    /// The file it was read from.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// The beginning of the program in a zip, whose first file it is.
fn bootstrap(zip: &[u8]) -> Option<Vec<u8>> {
    let number = |at: usize, length: usize| {
        let bytes = zip.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    if zip.get(..4)? != b"PK\x03\x04" {
        return None;
    }
    let (method, name, extra) = (number(8, 2)?, number(26, 2)?, number(28, 2)?);
    if zip.get(30..30 + name)? != b"bootstrap" {
        return None;
    }
    let data = zip.get(30 + name + extra..)?;
    let mut head = Vec::new();
    match method {
        0 => head.extend_from_slice(data.get(..data.len().min(64))?),
        8 => {
            DeflateDecoder::new(data).take(64).read_to_end(&mut head).ok()?;
        }
        _ => return None,
    }
    Some(head)
}

/// What the head of an ELF file says; `None` of a script.
fn made_for(program: &[u8]) -> Option<Architecture> {
    if program.get(..4)? != b"\x7fELF" {
        return None;
    }
    match program.get(18..20)? {
        [0x3e, 0] => Some(Architecture::X86_64),
        [0xb7, 0] => Some(Architecture::Arm64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zip(name: &str, program: &[u8]) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend([u8::try_from(name.len()).unwrap(), 0, 0, 0]);
        bytes.extend(name.as_bytes());
        bytes.extend(program);
        bytes
    }

    #[test]
    fn a_zip_tells_which_processors_its_program_is_for() {
        let elf = |machine| [b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0", &[machine, 0u8][..]].concat();
        for (program, expected) in [
            (elf(0x3e), Some(Architecture::X86_64)),
            (elf(0xb7), Some(Architecture::Arm64)),
            (b"#!/bin/sh\n".to_vec(), None),
        ] {
            assert_eq!(made_for(&bootstrap(&zip("bootstrap", &program)).unwrap()), expected);
        }
        assert!(bootstrap(&zip("index.js", b"x")).is_none());
        assert!(bootstrap(b"PK").is_none() && bootstrap(b"text").is_none());
    }
}
