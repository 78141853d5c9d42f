//! Sites that stay where they are: the browser fetches them from their URL.
//!
//! A bundle has no list of its files, so it cannot be copied. What tells one version from another is its `index.html`
//! and its `bundle.js`: both are kept when the site is added, and compared before it is rendered.

use std::path::Path;

use lastframe_core::Failure;

/// The files that make the version of a site at a URL.
pub const FILES: [&str; 2] = ["index.html", "bundle.js"];
/// Bytes that they may have together: they are held in memory.
pub const MOST: u64 = 64 << 20;

/// Why they cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server there does not answer with them.
    #[error("{0} cannot be fetched: {1}")]
    Unreachable(String, String),
    /// They have more bytes than they may.
    #[error("the index.html and bundle.js below {0} have more than {1} bytes")]
    TooLarge(String, u64),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Unreachable(..) => Self::new("site_unreachable", error.to_string(), true),
            FetchError::TooLarge(url, _) => changed(&url),
        }
    }
}

/// What lies at the URL is another version than what was asked for.
#[must_use]
pub fn changed(url: &str) -> Failure {
    let message = format!(
        "what lies at {url} is not the version that the render was submitted with: add it again with `lastframe site add`, \
         and submit the render again"
    );
    Failure::new("site_changed", message, false)
}

/// Fetches [`FILES`] from below `url`, which ends with a slash, in that order.
///
/// # Errors
/// When one cannot be had, or together they have more than `most` bytes.
pub async fn fetch(http: &reqwest::Client, url: &str, most: u64) -> Result<[Vec<u8>; 2], FetchError> {
    let mut left = most;
    let mut found = [Vec::new(), Vec::new()];
    for (name, content) in FILES.iter().zip(&mut found) {
        let place = format!("{url}{name}");
        let failed = |error: reqwest::Error| {
            FetchError::Unreachable(place.clone(), lastframe_core::error_chain(&error.without_url()))
        };
        let mut answer = http.get(&place).send().await.map_err(failed)?;
        if answer.status() != 200 {
            return Err(FetchError::Unreachable(place, format!("the answer is {}", answer.status())));
        }
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            left = left
                .checked_sub(chunk.len() as u64)
                .ok_or_else(|| FetchError::TooLarge(url.to_owned(), most))?;
            content.extend_from_slice(&chunk);
        }
    }
    Ok(found)
}

/// Looks whether what lies at the URL is still what is kept in `folder`.
pub(super) async fn unchanged(http: &reqwest::Client, url: &str, folder: &Path) -> Result<(), Failure> {
    let mut kept = Vec::new();
    for name in FILES {
        let content = tokio::fs::read(folder.join(name)).await;
        let lost =
            |error| Failure::new("internal", format!("what is kept of {url} cannot be read: {error}"), true);
        kept.push(content.map_err(lost)?);
    }
    // A byte more than it should be is enough to know.
    let most = kept.iter().map(Vec::len).sum::<usize>() as u64 + 1;
    match fetch(http, url, most).await {
        Ok(found) if found[..] == kept[..] => Ok(()),
        Ok(_) => Err(changed(url)),
        Err(error) => Err(error.into()),
    }
}
