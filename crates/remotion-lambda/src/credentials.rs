//! Where credentials come from, in Remotion's order.

use aws_config::ConfigLoader;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_lambda::config::{Credentials, Region, SharedHttpClient};

/// What the environment says. Remotion's own variables come before AWS's, profiles before keys.
#[derive(PartialEq, Eq)]
enum Source {
    Profile(String),
    Keys {
        id: String,
        secret: String,
        session: Option<String>,
    },
    /// AWS's own chain: roles of functions and machines among others.
    Chain,
}

impl Source {
    /// An empty variable counts as none.
    fn find(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: String| variable(&name).filter(|value| !value.is_empty());
        for prefix in ["REMOTION_AWS", "AWS"] {
            if let Some(profile) = variable(format!("{prefix}_PROFILE")) {
                return Self::Profile(profile);
            }
            let id = variable(format!("{prefix}_ACCESS_KEY_ID"));
            let secret = variable(format!("{prefix}_SECRET_ACCESS_KEY"));
            if let (Some(id), Some(secret)) = (id, secret) {
                return Self::Keys { id, secret, session: variable(format!("{prefix}_SESSION_TOKEN")) };
            }
        }
        Self::Chain
    }
}

/// Lets `loader` take its credentials where Remotion's clients would.
pub(crate) fn from_env(loader: ConfigLoader, region: &str, http: &SharedHttpClient) -> ConfigLoader {
    match Source::find(|name| std::env::var(name).ok()) {
        Source::Profile(profile) => {
            // A profile may name a role, which is asked for over HTTP.
            let asking = ProviderConfig::default()
                .with_region(Some(Region::new(region.to_owned())))
                .with_http_client(http.clone());
            let provider =
                ProfileFileCredentialsProvider::builder().configure(&asking).profile_name(profile).build();
            loader.credentials_provider(provider)
        }
        Source::Keys { id, secret, session } => {
            loader.credentials_provider(Credentials::new(id, secret, session, None, "environment"))
        }
        Source::Chain => loader,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Source {
        Source::find(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn keys(id: &str, secret: &str, session: Option<&str>) -> Source {
        Source::Keys { id: id.to_owned(), secret: secret.to_owned(), session: session.map(str::to_owned) }
    }

    #[test]
    fn remotions_variables_come_first_and_profiles_before_keys() {
        let aws = [("AWS_PROFILE", "p"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
        let remotion = [("REMOTION_AWS_ACCESS_KEY_ID", "c"), ("REMOTION_AWS_SECRET_ACCESS_KEY", "d")];
        assert!(found(&[]) == Source::Chain);
        assert!(found(&aws[1..]) == keys("a", "b", None));
        assert!(found(&aws) == Source::Profile("p".to_owned()));
        assert!(found(&[&aws[..], &remotion[..]].concat()) == keys("c", "d", None));
        let profile = [("REMOTION_AWS_PROFILE", "q")];
        assert!(found(&[&aws[..], &remotion[..], &profile[..]].concat()) == Source::Profile("q".to_owned()));
        let session = [("REMOTION_AWS_SESSION_TOKEN", "s")];
        assert!(found(&[&remotion[..], &session[..]].concat()) == keys("c", "d", Some("s")));
    }

    #[test]
    fn half_a_key_and_an_empty_variable_are_none() {
        assert!(found(&[("AWS_ACCESS_KEY_ID", "a")]) == Source::Chain);
        assert!(found(&[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "")]) == Source::Chain);
        let mixed =
            [("REMOTION_AWS_ACCESS_KEY_ID", "c"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
        assert!(found(&mixed) == keys("a", "b", None));
    }
}
