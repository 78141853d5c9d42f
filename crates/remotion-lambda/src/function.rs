//! Names of functions, which tell how they were deployed.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// What every name of a render function begins with.
const PREFIX: &str = "remotion-render-";

/// How much of a version fits into a name, in characters.
const SLUG_LIMIT: usize = 10;

/// A function's name, by Remotion's convention: `remotion-render-4-0-527-mem2048mb-disk10240mb-120sec`.
///
/// ```
/// use remotion_lambda::FunctionName;
///
/// let name: FunctionName = "remotion-render-4-0-527-mem2048mb-disk10240mb-120sec".parse()?;
/// assert_eq!(name.version().as_deref(), Some("4.0.527"));
/// assert_eq!((name.memory_size_in_mb(), name.disk_size_in_mb(), name.timeout_in_seconds()), (2048, 10240, 120));
/// # Ok::<(), remotion_lambda::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionName {
    name: String,
    slug: String,
    memory_size_in_mb: u32,
    disk_size_in_mb: u32,
    timeout_in_seconds: u32,
}

impl FunctionName {
    /// The version of Remotion, such as `4.0.527`. `None` where the name does not tell: only versions of three numbers can be
    /// read back, because names end theirs after ten characters.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        let numbers: Vec<&str> = self.slug.split('-').collect();
        let plain = |number: &&str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        (numbers.len() == 3 && numbers.iter().all(plain) && self.slug.len() < SLUG_LIMIT)
            .then(|| numbers.join("."))
    }

    /// Whether a function of that version would have this name.
    #[must_use]
    pub fn is_of_version(&self, version: &str) -> bool {
        self.slug == slug(version)
    }

    /// Its memory, in MB.
    #[must_use]
    pub fn memory_size_in_mb(&self) -> u32 {
        self.memory_size_in_mb
    }

    /// Its disk, in MB.
    #[must_use]
    pub fn disk_size_in_mb(&self) -> u32 {
        self.disk_size_in_mb
    }

    /// How long it may run, in seconds.
    #[must_use]
    pub fn timeout_in_seconds(&self) -> u32 {
        self.timeout_in_seconds
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl FromStr for FunctionName {
    type Err = Error;

    /// Takes a name, or an ARN that ends with one.
    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| {
            let message =
                format!("{text} does not follow https://www.remotion.dev/docs/lambda/naming-convention");
            Error::Invalid { option: "functionName", message }
        })
    }
}

fn parse(text: &str) -> Option<FunctionName> {
    let name = &text[text.find(PREFIX)?..];
    let rest = name.strip_prefix(PREFIX)?.strip_suffix("sec")?;
    let (rest, timeout) = rest.rsplit_once("mb-")?;
    let (rest, disk) = rest.rsplit_once("mb-disk")?;
    let (version, memory) = rest.rsplit_once("-mem")?;
    let number = |digits: &str| {
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    Some(FunctionName {
        name: name.to_owned(),
        slug: version.to_owned(),
        memory_size_in_mb: number(memory)?,
        disk_size_in_mb: number(disk)?,
        timeout_in_seconds: number(timeout)?,
    })
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A version as names have it.
fn slug(version: &str) -> String {
    version.replace(['.', '+'], "-").chars().take(SLUG_LIMIT).collect()
}

/// How a function was deployed, or would be; see [`speculate_function_name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeculateFunctionNameOptions {
    /// Remotion's version, such as `4.0.527`.
    pub version: String,
    /// Memory, in MB.
    pub memory_size_in_mb: u32,
    /// Disk, in MB.
    pub disk_size_in_mb: u32,
    /// How long it may run, in seconds.
    pub timeout_in_seconds: u32,
}

/// The name a function has that was deployed so. It asks nobody whether there is one.
///
/// # Errors
/// [`Error::Invalid`] if a size is zero, or the version is empty.
pub fn speculate_function_name(options: &SpeculateFunctionNameOptions) -> Result<FunctionName, Error> {
    let SpeculateFunctionNameOptions { version, memory_size_in_mb, disk_size_in_mb, timeout_in_seconds } =
        options;
    for (option, size) in [
        ("memorySizeInMb", memory_size_in_mb),
        ("diskSizeInMb", disk_size_in_mb),
        ("timeoutInSeconds", timeout_in_seconds),
    ] {
        if *size == 0 {
            return Err(Error::Invalid { option, message: "it must be more than zero".to_owned() });
        }
    }
    if version.is_empty() {
        return Err(Error::Invalid { option: "version", message: "it is empty".to_owned() });
    }
    let slug = slug(version);
    format!("{PREFIX}{slug}-mem{memory_size_in_mb}mb-disk{disk_size_in_mb}mb-{timeout_in_seconds}sec").parse()
}

/// Whether a function may be one of Remotion's.
pub(crate) fn is_remotion(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The version to call a function with: what the options say, or what its name says.
pub(crate) fn version(function: &str, chosen: Option<&str>) -> Result<String, Error> {
    if let Some(version) = chosen {
        return Ok(version.to_owned());
    }
    let named = FunctionName::from_str(function).ok().and_then(|name| name.version());
    named.ok_or_else(|| Error::VersionUnknown { function: function.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        let name = speculate_function_name(&SpeculateFunctionNameOptions {
            version: "4.0.527".to_owned(),
            memory_size_in_mb: 2048,
            disk_size_in_mb: 10240,
            timeout_in_seconds: 120,
        })
        .unwrap();
        assert_eq!(name.as_str(), "remotion-render-4-0-527-mem2048mb-disk10240mb-120sec");
        assert_eq!(name.version().as_deref(), Some("4.0.527"));
        assert!(name.is_of_version("4.0.527") && !name.is_of_version("4.0.52"));
        let arn = format!("arn:aws:lambda:eu-central-1:123456789012:function:{name}");
        assert_eq!(arn.parse::<FunctionName>().unwrap(), name);
    }

    #[test]
    fn a_version_that_does_not_fit_is_not_guessed() {
        for (version, known) in [
            ("4.0.0-alpha.217", None),
            ("3.3.42", Some("3.3.42")),
            ("4.0.0+main", None),
            ("14.10.5278", None),
            ("4.0", None),
        ] {
            let options = SpeculateFunctionNameOptions {
                version: version.to_owned(),
                memory_size_in_mb: 1,
                disk_size_in_mb: 1,
                timeout_in_seconds: 1,
            };
            let name = speculate_function_name(&options).unwrap();
            assert_eq!(name.version().as_deref(), known, "{name}");
            assert!(name.is_of_version(version));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "my-function",
            "remotion-render-4-0-527",
            "remotion-render-4-0-527-mem2048mb-disk10240mb-120",
            "remotion-render-4-0-527-mem2048mb-disk10240mb-sec",
            "remotion-render-4-0-527-mem99999999999mb-disk10240mb-120sec",
            "remotion-render-4-0-527-mem+48mb-disk10240mb-120sec",
        ] {
            assert!(matches!(text.parse::<FunctionName>(), Err(Error::Invalid { .. })), "{text}");
        }
        assert!(matches!(version("my-function", None), Err(Error::VersionUnknown { .. })));
        assert_eq!(version("my-function", Some("4.0.1")).unwrap(), "4.0.1");
    }
}
