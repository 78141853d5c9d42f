//! Sites that stay where they are: the browser fetches them from their URL.
//!
//! A bundle has no list of its files, so it cannot be copied. What tells one version from another is its `index.html`
//! and its `bundle.js`: both are kept when the site is added, and compared before it is rendered.

use std::path::Path;

use lastframe_core::Failure;

/// The files that make the version of a site at a URL.
pub const FILES: [&str; 2] = ["index.html", "bundle.js"];

/// Fetches [`FILES`] from below `url`, which ends with a slash, in that order.
///
/// # Errors
/// A sentence that says why one cannot be had: the server there does not answer with it, or they have more than `most`
/// bytes.
pub async fn fetch(http: &reqwest::Client, url: &str, most: u64) -> Result<[Vec<u8>; 2], String> {
    let mut left = most;
    let mut found = [Vec::new(), Vec::new()];
    for (name, content) in FILES.iter().zip(&mut found) {
        let place = format!("{url}{name}");
        let failed = |error: reqwest::Error| format!("{place} cannot be fetched: {}", crate::error_chain(&error.without_url()));
        let mut answer = http.get(&place).send().await.map_err(failed)?;
        if answer.status() != 200 {
            return Err(format!("{place} cannot be fetched: the answer is {}", answer.status()));
        }
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            left = left
                .checked_sub(chunk.len() as u64)
                .ok_or_else(|| format!("{} of {url} have more than {most} bytes", FILES.join(" and ")))?;
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
        let lost = |error| Failure::new("internal", format!("what is kept of {url} cannot be read: {error}"), true);
        kept.push(content.map_err(lost)?);
    }
    // A byte more than it should be is enough to know.
    let most = kept.iter().map(Vec::len).sum::<usize>() as u64 + 1;
    let found = fetch(http, url, most).await;
    if found.as_ref().is_ok_and(|found| found[..] == kept[..]) {
        return Ok(());
    }
    match found {
        Err(why) if !why.ends_with(" bytes") => Err(Failure::new("site_unreachable", why, true)),
        _ => {
            let message = format!(
                "what lies at {url} is not the version that the render was submitted with: add it again with `lastframe site add`, \
                 and submit the render again"
            );
            Err(Failure::new("site_changed", message, false))
        }
    }
}
