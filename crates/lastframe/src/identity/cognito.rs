//! Signing people in where a user pool of Amazon Cognito knows them. Its tokens are verified like those of any foreign issuer.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::issue::{SignInError, Tokens};

/// How long Cognito may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long whoever asked it too often should wait.
const BREATHER: Duration = Duration::from_secs(30);

/// A client of a user pool: what an app without a secret may ask.
pub(crate) struct Cognito {
    http: reqwest::Client,
    endpoint: Url,
    client_id: String,
}

impl std::fmt::Debug for Cognito {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cognito({})", self.client_id)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    authentication_result: Option<Granted>,
    challenge_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Granted {
    id_token: String,
    /// Not with a renewal, unless the pool replaces them.
    refresh_token: Option<String>,
    expires_in: i64,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "__type")]
    kind: String,
}

impl Cognito {
    /// `endpoint` is that of the region, such as `https://cognito-idp.eu-central-1.amazonaws.com/`.
    pub(crate) fn new(endpoint: Url, client_id: String) -> anyhow::Result<Self> {
        let http = super::jwks::http()?;
        Ok(Self { http, endpoint, client_id })
    }

    pub(super) async fn sign_in(&self, email: &str, password: &str) -> Result<Tokens, SignInError> {
        let shown = json!({"USERNAME": email, "PASSWORD": password});
        self.initiate("USER_PASSWORD_AUTH", shown, None).await
    }

    pub(super) async fn refresh(&self, token: &str) -> Result<Tokens, SignInError> {
        self.initiate("REFRESH_TOKEN_AUTH", json!({"REFRESH_TOKEN": token}), Some(token)).await
    }

    /// Ends the session, and with it the access tokens that it gave. An `idToken` is good until it expires.
    pub(super) async fn sign_out(&self, token: &str) -> anyhow::Result<()> {
        let asked = json!({"Token": token, "ClientId": self.client_id});
        match self.ask("RevokeToken", &asked).await? {
            Ok(_) => Ok(()),
            // Whether there was one is nobody's business.
            Err(kind) => {
                tracing::debug!(kind, "Cognito does not revoke a token");
                Ok(())
            }
        }
    }

    async fn initiate(&self, flow: &str, shown: Value, former: Option<&str>) -> Result<Tokens, SignInError> {
        let asked = json!({"AuthFlow": flow, "ClientId": self.client_id, "AuthParameters": shown});
        let answer = match self.ask("InitiateAuth", &asked).await? {
            Ok(answer) => answer,
            Err(kind) => return Err(refusal(&kind)),
        };
        let answer: Answer =
            serde_json::from_value(answer).context("Cognito answers what this program does not know")?;
        let Some(granted) = answer.authentication_result else {
            return Err(SignInError::Unfinished(answer.challenge_name.unwrap_or_default()));
        };
        let refresh_token = granted.refresh_token.or_else(|| former.map(str::to_owned)).unwrap_or_default();
        Ok(Tokens {
            id_token: granted.id_token,
            refresh_token,
            expires_in: granted.expires_in,
            token_type: "Bearer".into(),
        })
    }

    /// The answer, or the kind of a refusal.
    async fn ask(&self, what: &str, asked: &Value) -> anyhow::Result<Result<Value, String>> {
        let request = self
            .http
            .post(self.endpoint.clone())
            .timeout(PATIENCE)
            .header("x-amz-target", format!("AWSCognitoIdentityProviderService.{what}"))
            .header(CONTENT_TYPE, "application/x-amz-json-1.1")
            .body(asked.to_string());
        let asking = async {
            let answer = request.send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.bytes().await?))
        };
        let (status, body) = asking.await.context("Cognito cannot be asked")?;
        if status.is_success() {
            let answer = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&body) };
            return Ok(Ok(answer.context("Cognito answers no JSON")?));
        }
        let refusal: Refusal =
            serde_json::from_slice(&body).with_context(|| format!("Cognito answers {status}"))?;
        Ok(Err(refusal.kind.rsplit('#').next().unwrap_or_default().to_owned()))
    }
}

fn refusal(kind: &str) -> SignInError {
    match kind {
        // The same words for both: nobody learns who is known here.
        "NotAuthorizedException" | "UserNotFoundException" => SignInError::Wrong,
        "UserNotConfirmedException" => SignInError::Unfinished("a confirmed address".into()),
        "PasswordResetRequiredException" => SignInError::Unfinished("a new password".into()),
        "TooManyRequestsException" | "LimitExceededException" => SignInError::TooMany(BREATHER),
        kind => SignInError::Failed(anyhow::anyhow!("Cognito answers {kind}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;
    use std::sync::{Arc, Mutex};

    type Asked = Arc<Mutex<Vec<(String, Value)>>>;

    async fn pool(answer: (StatusCode, Value)) -> (Cognito, Asked) {
        let asked = Asked::default();
        let handler = move |State(asked): State<Asked>, headers: HeaderMap, body: String| async move {
            let target = headers["x-amz-target"].to_str().unwrap().to_owned();
            asked.lock().unwrap().push((target, serde_json::from_str(&body).unwrap()));
            (answer.0, answer.1.to_string())
        };
        let router = Router::new().route("/", post(handler)).with_state(Arc::clone(&asked));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });
        (Cognito::new(endpoint, "client".into()).unwrap(), asked)
    }

    #[tokio::test]
    async fn a_password_and_a_renewal_bring_tokens_and_a_renewal_keeps_its_own() {
        let granted = json!({"AuthenticationResult": {"IdToken": "id", "ExpiresIn": 3600, "TokenType": "Bearer"}});
        let (cognito, asked) = pool((StatusCode::OK, granted)).await;
        let tokens = cognito.refresh("refresh").await.unwrap();
        assert_eq!((tokens.id_token.as_str(), tokens.refresh_token.as_str()), ("id", "refresh"));
        cognito.sign_in("ana@example.com", "secret").await.unwrap();
        let asked = asked.lock().unwrap();
        assert_eq!(asked[0].1["AuthFlow"], "REFRESH_TOKEN_AUTH");
        assert_eq!(asked[1].0, "AWSCognitoIdentityProviderService.InitiateAuth");
        assert_eq!(asked[1].1["AuthParameters"], json!({"USERNAME": "ana@example.com", "PASSWORD": "secret"}));
        assert!(!format!("{cognito:?}").contains("secret"));
    }

    #[tokio::test]
    async fn why_nobody_is_let_in_is_told_in_our_words() {
        for (kind, expected) in [
            ("com.amazonaws#NotAuthorizedException", "this does not let you in"),
            ("UserNotFoundException", "this does not let you in"),
            ("TooManyRequestsException", "too many attempts to sign in"),
            ("UserNotConfirmedException", "the user pool wants a confirmed address first"),
        ] {
            let (cognito, _) = pool((StatusCode::BAD_REQUEST, json!({"__type": kind}))).await;
            assert_eq!(cognito.sign_in("a", "b").await.unwrap_err().to_string(), expected, "{kind}");
        }
        let challenge = json!({"ChallengeName": "NEW_PASSWORD_REQUIRED", "Session": "s"});
        let (cognito, _) = pool((StatusCode::OK, challenge)).await;
        let error = cognito.sign_in("a", "b").await.unwrap_err().to_string();
        assert!(error.contains("NEW_PASSWORD_REQUIRED"), "{error}");
    }
}
