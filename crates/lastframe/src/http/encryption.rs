//! The keys of the secrets in the database.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use lastframe_core::Scope;
use serde::{Deserialize, Serialize};

use super::{Api, ApiError};
use crate::encryption::{KeyState, RotateError, SealingKeys, Status};
use crate::identity::Caller;

/// How secrets are kept.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Encryption)]
pub(crate) struct EncryptionView {
    /// Whether new secrets are sealed.
    pub(crate) enabled: bool,
    /// Where the keys are.
    pub(crate) source: String,
    /// The current one first.
    pub(crate) keys: Vec<KeyView>,
}

/// A key.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EncryptionKey)]
pub(crate) struct KeyView {
    /// Which one; it tells nothing about the key. Absent for secrets that are not sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// `current`; `leaving`, while what it has sealed is sealed anew; or `retired`, when only backups may need it.
    pub(crate) state: String,
    /// Since when it leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
}

impl From<Status> for EncryptionView {
    fn from(Status { enabled, source, keys }: Status) -> Self {
        let view = |(id, state): (Option<lastframe_store::KeyId>, KeyState)| {
            let (state, since) = match state {
                KeyState::Current => ("current", None),
                KeyState::Leaving(since) => ("leaving", Some(since)),
                KeyState::Retired => ("retired", None),
            };
            KeyView { id: id.map(|id| id.to_string()), state: state.into(), since }
        };
        Self { enabled, source, keys: keys.into_iter().map(view).collect() }
    }
}

/// Look at the encryption keys
#[utoipa::path(
    get, path = "/v1/encryption", tag = "server", security(("token" = [])),
    responses((status = 200, description = "How secrets are kept; never a key itself", body = EncryptionView), ApiError)
)]
pub(super) async fn get(State(api): State<Api>, caller: Caller) -> Result<Json<EncryptionView>, ApiError> {
    caller.need(Scope::Admin)?;
    Ok(Json(keys(&api)?.status().await.map_err(ApiError::Internal)?.into()))
}

fn keys(api: &Api) -> Result<&dyn SealingKeys, ApiError> {
    let away = "AWS encrypts its table, queues and buckets, with keys of its own";
    api.encryption.as_deref().ok_or(ApiError::NotHere(away))
}

/// Change the encryption key
///
/// A new key is made and seals from now on. What is sealed already is sealed anew in the background; the old key stays in
/// the key file, for backups of before.
#[utoipa::path(
    post, path = "/v1/encryption/rotate", tag = "server", security(("token" = [])),
    responses((status = 200, description = "The new key is in use", body = EncryptionView), ApiError)
)]
pub(super) async fn rotate(State(api): State<Api>, caller: Caller) -> Result<Json<EncryptionView>, ApiError> {
    caller.need(Scope::Admin)?;
    keys(&api)?.rotate().await.map_err(|error| match error {
        RotateError::Off | RotateError::NotOurs => ApiError::Conflict(error.to_string()),
        RotateError::Queue(error) => error.into(),
        RotateError::File(_) => ApiError::Internal(error.into()),
    })?;
    Ok(Json(keys(&api)?.status().await.map_err(ApiError::Internal)?.into()))
}
