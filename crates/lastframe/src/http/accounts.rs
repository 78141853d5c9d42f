//! People and tokens: signing in, and who may.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::JwkSet;
use lastframe_core::accounts::{AddUserError, ApiToken, Scopes, User};
use lastframe_core::request::check_name;
use lastframe_core::{FieldError, Scope, TenantId};
use serde::{Deserialize, Serialize};

use super::{Api, ApiError, Body, Path};
use crate::identity::{
    Caller, DEFAULT_TENANT, LONGEST_PASSWORD, NewToken, NewUser, SHORTEST_PASSWORD, SignInError, Tokens,
    normal,
};

/// Who signs in, and by what.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = SignIn)]
#[derive(Default)]
pub(super) struct SignIn {
    /// With `password`.
    email: Option<String>,
    /// With `email`.
    password: Option<String>,
    /// Instead of both: the one that was got last.
    refresh_token: Option<String>,
}

/// Sign in
///
/// With `email` and `password`, or with the `refreshToken` that was got last. Each refresh token is good once; using one
/// again ends its session. Passwords for an address may be tried ten times in a quarter of an hour: 429 says when again.
#[utoipa::path(
    post, path = "/v1/token", tag = "accounts", request_body = SignIn,
    responses((status = 200, description = "Tokens", body = Tokens), ApiError)
)]
pub(super) async fn sign_in(State(api): State<Api>, body: Body) -> Result<Response, ApiError> {
    let asked: SignIn = body.fields()?.into_typed()?;
    let tokens = match (asked.email, asked.password, asked.refresh_token) {
        (Some(email), Some(password), None) => {
            check_password("/password", &password)?;
            api.identity.sign_in(&email, password).await?
        }
        (None, None, Some(token)) => api.identity.refresh(&token).await?,
        _ => return Err(ApiError::invalid("", "say `email` and `password`, or `refreshToken`")),
    };
    // As OAuth has it: no cache may keep them.
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(tokens)).into_response())
}

/// Sign out
///
/// The session of that refresh token ends. An `idToken` is good until it expires.
#[utoipa::path(
    post, path = "/v1/token/revoke", tag = "accounts", request_body = SignOut,
    responses((status = 204, description = "No session has that token"), ApiError)
)]
pub(super) async fn sign_out(State(api): State<Api>, body: Body) -> Result<StatusCode, ApiError> {
    let asked: SignOut = body.fields()?.into_typed()?;
    api.identity.sign_out(&asked.refresh_token).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which session ends.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SignOut {
    /// The one that was got last.
    refresh_token: String,
}

/// Who a token speaks for.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Me)]
pub(crate) struct Me {
    /// `user:` and an address, `token:` and a name, or an issuer and its word for somebody.
    pub(crate) subject: String,
    /// Whose renders these are.
    pub(crate) tenant: String,
    /// What it allows.
    pub(crate) scopes: Vec<Scope>,
}

/// Say who I am
#[utoipa::path(
    get, path = "/v1/me", tag = "accounts", security(("token" = [])),
    responses((status = 200, description = "Who the token speaks for", body = Me), ApiError)
)]
pub(super) async fn me(caller: Caller) -> Json<Me> {
    Json(caller.into())
}

/// A person.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = User)]
pub(crate) struct UserView {
    /// What they sign in with.
    pub(crate) email: String,
    /// Whose renders are theirs.
    pub(crate) tenant: String,
    /// What they may do.
    pub(crate) scopes: Vec<Scope>,
    /// Whether they can do nothing now.
    pub(crate) disabled: bool,
    /// When they were added.
    pub(crate) created_at: Timestamp,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            email: user.email,
            tenant: user.tenant.as_str().to_owned(),
            scopes: user.scopes.iter().collect(),
            disabled: user.disabled,
            created_at: user.created_at,
        }
    }
}

/// People.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct Users {
    /// By address.
    pub(crate) users: Vec<UserView>,
}

/// List users
#[utoipa::path(
    get, path = "/v1/users", tag = "accounts", security(("token" = [])),
    responses((status = 200, description = "All, by address", body = Users), ApiError)
)]
pub(super) async fn users(State(api): State<Api>, caller: Caller) -> Result<Json<Users>, ApiError> {
    caller.need(Scope::Admin)?;
    Ok(Json(Users { users: api.accounts.users().await?.into_iter().map(UserView::from).collect() }))
}

/// A person to add.
#[derive(Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewUser)]
pub(crate) struct AddUser {
    /// What they sign in with.
    pub(crate) email: String,
    /// 8 to 1,024 bytes.
    pub(crate) password: String,
    /// `default` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// `renders:read` and `renders:write` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scopes: Option<Vec<Scope>>,
}

/// Add a user
#[utoipa::path(
    post, path = "/v1/users", tag = "accounts", security(("token" = [])), request_body = AddUser,
    responses((status = 201, description = "Added", body = UserView), ApiError)
)]
pub(super) async fn add_user(
    State(api): State<Api>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<UserView>), ApiError> {
    caller.need(Scope::Admin)?;
    people_are_here(&api)?;
    let new: AddUser = body.fields()?.into_typed()?;
    check_password("/password", &new.password)?;
    let address = normal(&new.email);
    let parts = address.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    if !parts || address.len() > 254 || address.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(ApiError::invalid("/email", "is no e-mail address"));
    }
    let tenant = tenant(new.tenant)?;
    let scopes = new.scopes.map_or(Scopes::USUAL, Scopes::from_iter);
    let user = NewUser { email: address, password: new.password, tenant, scopes };
    match api.identity.add_user(user).await? {
        Ok(user) => Ok((StatusCode::CREATED, Json(user.into()))),
        Err(AddUserError::Exists) => Err(ApiError::Conflict(AddUserError::Exists.to_string())),
        Err(AddUserError::Queue(error)) => Err(error.into()),
    }
}

/// What is to be changed of a person; what is absent stays.
#[derive(Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = UserChange)]
pub(crate) struct ChangeUser {
    /// Another password; their sessions end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<String>,
    /// What they may do from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scopes: Option<Vec<Scope>>,
    /// Whether they can do nothing, from now on; their sessions end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disabled: Option<bool>,
}

/// Change a user
///
/// All of it takes effect at once, also for tokens that they have.
#[utoipa::path(
    patch, path = "/v1/users/{email}", tag = "accounts", security(("token" = [])), request_body = ChangeUser,
    params(("email" = String, Path, description = "Their address, percent-encoded")),
    responses((status = 200, description = "As they are now", body = UserView), ApiError)
)]
pub(super) async fn change_user(
    State(api): State<Api>,
    caller: Caller,
    Path(email): Path<String>,
    body: Body,
) -> Result<Json<UserView>, ApiError> {
    caller.need(Scope::Admin)?;
    people_are_here(&api)?;
    let change: ChangeUser = body.fields()?.into_typed()?;
    if let Some(password) = change.password {
        check_password("/password", &password)?;
        if !api.identity.set_password(&email, password).await? {
            return Err(ApiError::NotFound("user"));
        }
    }
    let scopes = change.scopes.map(Scopes::from_iter);
    let user = api.identity.change_user(&email, scopes, change.disabled).await?;
    Ok(Json(user.ok_or(ApiError::NotFound("user"))?.into()))
}

/// The token of a program, without its text.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Token)]
pub(crate) struct TokenView {
    /// What it is called here.
    pub(crate) id: String,
    /// What a person calls it.
    pub(crate) name: String,
    /// Whose renders are its own.
    pub(crate) tenant: String,
    /// What it allows.
    pub(crate) scopes: Vec<Scope>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it ends; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    /// When somebody ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<Timestamp>,
}

impl From<ApiToken> for TokenView {
    fn from(token: ApiToken) -> Self {
        Self {
            id: token.id,
            name: token.name,
            tenant: token.tenant.as_str().to_owned(),
            scopes: token.scopes.iter().collect(),
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
        }
    }
}

/// Tokens of programs.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ApiTokens)]
pub(crate) struct TokenList {
    /// Oldest first, those that have ended too.
    pub(crate) tokens: Vec<TokenView>,
}

/// List tokens of programs
#[utoipa::path(
    get, path = "/v1/tokens", tag = "accounts", security(("token" = [])),
    responses((status = 200, description = "All, without their texts", body = TokenList), ApiError)
)]
pub(super) async fn tokens(State(api): State<Api>, caller: Caller) -> Result<Json<TokenList>, ApiError> {
    caller.need(Scope::Admin)?;
    Ok(Json(TokenList { tokens: api.accounts.tokens().await?.into_iter().map(TokenView::from).collect() }))
}

/// A token to make.
#[derive(Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewToken)]
pub(crate) struct CreateToken {
    /// What a person calls it.
    pub(crate) name: String,
    /// `default` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// `renders:read` and `renders:write` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scopes: Option<Vec<Scope>>,
    /// Never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_in_seconds: Option<u32>,
}

/// A token that was made, with its text, which nobody can read again.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct CreatedToken {
    /// For `Authorization: Bearer`.
    pub(crate) token: String,
    /// What is known of it.
    #[serde(flatten)]
    pub(crate) view: TokenView,
}

/// Make a token for a program
#[utoipa::path(
    post, path = "/v1/tokens", tag = "accounts", security(("token" = [])), request_body = CreateToken,
    responses((status = 201, description = "Made; its text is told this once", body = CreatedToken), ApiError)
)]
pub(super) async fn create_token(
    State(api): State<Api>,
    caller: Caller,
    body: Body,
) -> Result<Response, ApiError> {
    caller.need(Scope::Admin)?;
    let new: CreateToken = body.fields()?.into_typed()?;
    if let Some(error) = check_name("/name", &new.name) {
        return Err(ApiError::Invalid(vec![error]));
    }
    if new.expires_in_seconds == Some(0) {
        return Err(ApiError::invalid("/expiresInSeconds", "must be at least 1"));
    }
    let lifetime = new.expires_in_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
    let new = NewToken {
        name: new.name,
        tenant: tenant(new.tenant)?,
        scopes: new.scopes.map_or(Scopes::USUAL, Scopes::from_iter),
        expires_at: lifetime.map(|lifetime| api.clock.now() + lifetime),
    };
    let (made, token) = api.identity.create_token(new).await?;
    let created = CreatedToken { token, view: made.into() };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(created)).into_response())
}

/// Revoke the token of a program
///
/// It is not good any more when this answers.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "accounts", security(("token" = [])),
    params(("id" = String, Path, description = "What it is called here")),
    responses((status = 200, description = "As it is now", body = TokenView), ApiError)
)]
pub(super) async fn revoke_token(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TokenView>, ApiError> {
    caller.need(Scope::Admin)?;
    let token = api.identity.revoke_token(id).await?;
    Ok(Json(token.ok_or(ApiError::NotFound("token"))?.into()))
}

/// How the signing keys are rotated.
#[derive(Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RotateKeys {
    /// The keys until now have leaked: what they have signed is not good any more. People get new tokens by their refresh
    /// tokens.
    pub(crate) distrust: bool,
}

/// The signing keys.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct SigningKeyIds {
    /// Their ids, newest first. The newest signs.
    pub(crate) keys: Vec<String>,
}

/// Sign tokens with a new key
///
/// What the keys before it have signed stays good, so nobody is logged out.
#[utoipa::path(
    post, path = "/v1/signing-keys/rotate", tag = "accounts", security(("token" = [])), request_body = RotateKeys,
    responses((status = 200, description = "The keys as they are now", body = SigningKeyIds), ApiError)
)]
pub(super) async fn rotate_keys(
    State(api): State<Api>,
    caller: Caller,
    body: Body,
) -> Result<Json<SigningKeyIds>, ApiError> {
    caller.need(Scope::Admin)?;
    if api.identity.has_people_elsewhere() {
        return Err(ApiError::NotHere("Cognito signs its tokens, with keys of its own"));
    }
    let asked: RotateKeys = body.fields()?.into_typed()?;
    let identity = api.identity;
    let rotated = tokio::task::spawn_blocking(move || identity.rotate(asked.distrust)).await;
    let keys = rotated.map_err(anyhow::Error::from).flatten()?;
    Ok(Json(SigningKeyIds { keys }))
}

/// What others need to verify our tokens (OpenID Connect Discovery 1.0).
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Discovery {
    issuer: String,
    jwks_uri: String,
    token_endpoint: String,
    id_token_signing_alg_values_supported: [&'static str; 1],
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    claims_supported: [&'static str; 8],
}

/// The built-in issuer, as others discover it
#[utoipa::path(
    get, path = "/.well-known/openid-configuration", tag = "accounts",
    responses((status = 200, description = "Discovery document", body = Discovery), ApiError)
)]
pub(super) async fn discovery(State(api): State<Api>) -> Json<Discovery> {
    let url = &api.public_url;
    Json(Discovery {
        issuer: url.to_string(),
        jwks_uri: format!("{url}/.well-known/jwks.json"),
        token_endpoint: format!("{url}/v1/token"),
        id_token_signing_alg_values_supported: ["ES256"],
        response_types_supported: ["id_token"],
        subject_types_supported: ["public"],
        claims_supported: ["iss", "aud", "sub", "email", "tenant", "scope", "iat", "exp"],
    })
}

/// The public keys of the built-in issuer
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "accounts",
    responses((status = 200, description = "JSON Web Key Set", body = Object), ApiError)
)]
pub(super) async fn jwks(State(api): State<Api>) -> Json<JwkSet> {
    Json(api.identity.public_keys())
}

/// # Errors
/// Where a user pool has them.
fn people_are_here(api: &Api) -> Result<(), ApiError> {
    if api.identity.has_people_elsewhere() {
        return Err(ApiError::NotHere("people are added to its user pool: `lastframe aws user add`"));
    }
    Ok(())
}

pub(super) fn check_password(pointer: &str, password: &str) -> Result<(), ApiError> {
    if (SHORTEST_PASSWORD..=LONGEST_PASSWORD).contains(&password.len()) {
        return Ok(());
    }
    let detail = format!("must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} bytes");
    Err(ApiError::Invalid(vec![FieldError::new(pointer, detail)]))
}

fn tenant(name: Option<String>) -> Result<TenantId, ApiError> {
    let name = name.unwrap_or_else(|| DEFAULT_TENANT.to_owned());
    match check_name("/tenant", &name) {
        Some(error) => Err(ApiError::Invalid(vec![error])),
        None => Ok(TenantId::new(name)),
    }
}

impl From<SignInError> for ApiError {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Wrong => Self::NotLetIn,
            SignInError::TooMany(wait) => Self::TooManyAttempts(wait),
            SignInError::Unfinished(_) => Self::Conflict(error.to_string()),
            SignInError::Failed(error) => error.into(),
        }
    }
}
