//! Outputs where Remotion Lambda has put them.

use crate::render::Address;

/// What keys of such outputs begin with.
const SCHEME: &str = "lambda://";

/// The key of an output: `lambda://ACCOUNT@REGION/BUCKET/PATH`, without `ACCOUNT@` where the usual credentials are good.
pub(crate) fn key(address: &Address, path: &str) -> String {
    let account = address.account.map(|account| format!("{account}@")).unwrap_or_default();
    format!("{SCHEME}{account}{}/{}/{path}", address.region, address.bucket)
}
