//! Whose tokens are good.

use std::time::Duration;

use anyhow::Context as _;
use jiff::SignedDuration;
use jsonwebtoken::Algorithm;
use lastframe_core::accounts::Scopes;
use lastframe_core::request::check_name;
use serde::Deserialize;
use url::Url;

use super::optional_duration;
use crate::identity::check_url;

/// Algorithms that are allowed where nobody says which: those of public keys that are in use.
const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// The longest that a token or a session may be good for.
const LONGEST_LIFETIME: SignedDuration = SignedDuration::from_hours(3_650 * 24);
/// Claims that people commonly write themselves, in the profile that their provider lets them edit. All that begin with
/// `custom:` are such, too, unless Cognito's app client is told otherwise.
const OWN_WORD: [&str; 16] = [
    "email",
    "phone_number",
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "profile",
    "picture",
    "website",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "address",
];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IdentitySection {
    #[serde(deserialize_with = "optional_duration")]
    token_lifetime: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    refresh_lifetime: Option<Duration>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerSection {
    url: String,
    audience: Vec<String>,
    tenant: Option<String>,
    tenant_claim: Option<String>,
    #[serde(default)]
    tenant_prefix: String,
    #[serde(default)]
    trust_tenant_claim: bool,
    scopes: Option<Vec<String>>,
    algorithms: Option<Vec<String>>,
    jwks: Option<Url>,
}

/// How tokens are issued, and whose are good beside our own.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// How long an `idToken` is good.
    pub token_lifetime: SignedDuration,
    /// How long a session goes on without being used.
    pub refresh_lifetime: SignedDuration,
    /// Foreign issuers.
    pub issuers: Vec<IssuerConfig>,
}

/// A foreign issuer of tokens.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// `iss`, to the letter.
    pub issuer: String,
    /// The same, as a URL.
    pub url: Url,
    /// `aud`, or `client_id` of a Cognito access token: one of these.
    pub audience: Vec<String>,
    /// Algorithms that its signatures may have.
    pub algorithms: Vec<Algorithm>,
    /// Whose its tokens are.
    pub tenant: TenantSource,
    /// The most that its tokens may allow; what those allow that name no scope of ours.
    pub scopes: Scopes,
    /// A claim that no user can write, and the word in it that allows everything; nobody by it when absent.
    pub admins: Option<(String, String)>,
    /// Where its keys are; asked of its discovery document when absent.
    pub jwks: Option<Url>,
}

/// How a token says whose it is.
#[derive(Clone, Debug)]
pub enum TenantSource {
    /// All are of one tenant.
    Fixed(String),
    /// A claim says it.
    Claim {
        /// Its name.
        name: String,
        /// Put before what it says.
        prefix: String,
    },
}

impl IdentitySection {
    pub(super) fn with(self, issuers: Vec<IssuerSection>) -> anyhow::Result<IdentityConfig> {
        let lifetime = |name: &str, given: Option<Duration>, usual: SignedDuration| {
            let lifetime = given.map(SignedDuration::try_from).transpose()?.unwrap_or(usual);
            let fine = SignedDuration::from_secs(60)..=LONGEST_LIFETIME;
            anyhow::ensure!(fine.contains(&lifetime), "identity.{name} must be 60s to 3650d");
            Ok(lifetime)
        };
        let issuers = issuers.into_iter().map(|issuer| {
            let url = issuer.url.clone();
            issuer.checked().with_context(|| format!("in the [[issuer]] {url}"))
        });
        let issuers = issuers.collect::<anyhow::Result<Vec<_>>>()?;
        for (index, issuer) in issuers.iter().enumerate() {
            let again = issuers[..index].iter().any(|before| before.issuer == issuer.issuer);
            anyhow::ensure!(!again, "there are two [[issuer]] {}", issuer.issuer);
        }
        Ok(IdentityConfig {
            token_lifetime: lifetime("token_lifetime", self.token_lifetime, SignedDuration::from_hours(1))?,
            refresh_lifetime: lifetime(
                "refresh_lifetime",
                self.refresh_lifetime,
                SignedDuration::from_hours(30 * 24),
            )?,
            issuers,
        })
    }
}

impl IssuerSection {
    fn checked(self) -> anyhow::Result<IssuerConfig> {
        let url: Url = self.url.parse().context("url is not a URL")?;
        check_url(&url)?;
        if let Some(jwks) = &self.jwks {
            check_url(jwks)?;
        }
        let audience_named = !self.audience.is_empty() && self.audience.iter().all(|name| !name.is_empty());
        anyhow::ensure!(
            audience_named,
            "audience must name whom its tokens are for: the id of the client, usually"
        );
        let algorithms = match self.algorithms {
            None => ALGORITHMS.to_vec(),
            Some(names) => names.iter().map(|name| algorithm(name)).collect::<anyhow::Result<_>>()?,
        };
        let tenant = match (self.tenant, self.tenant_claim) {
            (Some(tenant), None) => {
                anyhow::ensure!(self.tenant_prefix.is_empty(), "tenant_prefix goes with tenant_claim");
                anyhow::ensure!(check_name("", &tenant).is_none(), "tenant is no name of a tenant");
                TenantSource::Fixed(tenant)
            }
            (None, Some(name)) => {
                let own = name.starts_with("custom:") || OWN_WORD.contains(&name.as_str());
                anyhow::ensure!(
                    !own || self.trust_tenant_claim,
                    "users can commonly write the claim `{name}` themselves, and so choose their tenant: take another, or \
                     say trust_tenant_claim = true where only you can write it (in Cognito: the app client's writable \
                     attributes)"
                );
                TenantSource::Claim { name, prefix: self.tenant_prefix }
            }
            _ => anyhow::bail!(
                "say whose its tokens are: either tenant = \"name\" or tenant_claim = \"claim\""
            ),
        };
        let scopes = match self.scopes {
            None => Scopes::USUAL,
            Some(words) => words.join(" ").parse().map_err(anyhow::Error::msg).context("in scopes")?,
        };
        Ok(IssuerConfig {
            issuer: self.url,
            url,
            audience: self.audience,
            algorithms,
            tenant,
            scopes,
            admins: None,
            jwks: self.jwks,
        })
    }
}

fn algorithm(name: &str) -> anyhow::Result<Algorithm> {
    let algorithm: Algorithm = name.parse().map_err(|_| anyhow::anyhow!("`{name}` is no algorithm"))?;
    let secret = matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
    anyhow::ensure!(!secret, "{name} needs a shared secret: only algorithms with public keys can be allowed");
    Ok(algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(text: &str) -> anyhow::Result<IssuerConfig> {
        toml::from_str::<IssuerSection>(text)?.checked()
    }

    #[test]
    fn an_issuer_whose_users_choose_their_tenant_is_refused_unless_somebody_vouches() {
        let usual = "url = \"https://issuer.example\"\naudience = [\"app\"]\n";
        let fine = issuer(&format!("{usual}tenant_claim = \"cognito:groups\"")).unwrap();
        assert_eq!((fine.scopes, fine.algorithms.len()), (Scopes::USUAL, 6));
        let error = issuer(&format!("{usual}tenant_claim = \"custom:tenant\"")).unwrap_err().to_string();
        assert!(error.contains("trust_tenant_claim"), "{error}");
        issuer(&format!("{usual}tenant_claim = \"custom:tenant\"\ntrust_tenant_claim = true")).unwrap();
    }

    #[test]
    fn what_would_let_in_anybody_is_refused() {
        for (text, why) in [
            ("url = \"http://issuer.example\"\naudience = [\"app\"]\ntenant = \"t\"", "https://"),
            ("url = \"https://issuer.example\"\naudience = []\ntenant = \"t\"", "audience"),
            ("url = \"https://issuer.example\"\naudience = [\"app\"]", "say whose"),
            (
                "url = \"https://issuer.example\"\naudience = [\"app\"]\ntenant = \"t\"\nalgorithms = [\"HS256\"]",
                "shared secret",
            ),
            (
                "url = \"https://issuer.example\"\naudience = [\"app\"]\ntenant = \"t\"\nalgorithms = [\"none\"]",
                "no algorithm",
            ),
            (
                "url = \"https://issuer.example\"\naudience = [\"app\"]\ntenant = \"t\"\nscopes = [\"root\"]",
                "scopes",
            ),
        ] {
            let error = format!("{:#}", issuer(text).unwrap_err());
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
