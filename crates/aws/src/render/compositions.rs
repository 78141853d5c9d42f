//! What is in a site, as a browser in a function sees it.

use lastframe_core::Failure;
use lastframe_core::site::Composition;
use remotion_lambda::{GetCompositionsOptions, VideoConfig};
use serde_json::Value;

use super::client::{refusal, unreachable};
use crate::{Accounts, Function};

/// The compositions of the site at a URL, which ends with a slash.
///
/// # Errors
/// Why the function cannot tell.
pub async fn compositions(
    function: &Function,
    accounts: &Accounts,
    url: &str,
) -> Result<Vec<Composition>, Failure> {
    let client =
        accounts.client(function.account, &function.region).await.map_err(|error| unreachable(&error))?;
    let mut options = GetCompositionsOptions::new(function.name.as_str(), format!("{url}index.html"));
    options.bucket_name.clone_from(&function.bucket);
    let found = client.get_compositions_on_lambda(&options).await.map_err(|error| refusal(&error))?;
    Ok(found.into_iter().map(composition).collect())
}

fn composition(found: VideoConfig) -> Composition {
    Composition {
        width: whole(found.width),
        height: whole(found.height),
        fps: found.fps,
        duration_in_frames: whole(found.duration_in_frames),
        default_props: found.extra.get("defaultProps").cloned().unwrap_or(Value::Null),
        error: None,
        id: found.id,
    }
}

/// Remotion refuses what is not whole, not positive or larger than this holds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "such casts saturate")]
fn whole(number: f64) -> u32 {
    number as u32
}
