//! Through which server mail is sent, and as whom.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use lettre::Address;
use lettre::message::Mailbox;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::optional_duration;

/// Holds the password, instead of a file.
const PASSWORD: &str = "LASTFRAME_EMAIL_PASSWORD";
/// Names the file of the password.
const PASSWORD_FILE: &str = "LASTFRAME_EMAIL_PASSWORD_FILE";
/// The longest that a mail may take: who brings a delivery is cut off after a minute.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(55);

/// `[email]` in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EmailSection {
    host: Option<String>,
    port: Option<u16>,
    tls: MailTls,
    ca: Option<PathBuf>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    from: Option<String>,
    reply_to: Option<String>,
    #[serde(deserialize_with = "optional_duration")]
    timeout: Option<Duration>,
}

/// How a connection to the mail server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// From `STARTTLS` on; a server that does not know it is sent nothing.
    #[default]
    StartTls,
    /// From the first byte.
    Tls,
    /// Not at all.
    None,
}

/// How mail is sent.
#[derive(Clone, Debug)]
pub struct Email {
    /// The mail server: a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: MailTls,
    /// Certificates in PEM that are trusted beside those of the system.
    pub ca: Option<PathBuf>,
    /// How we are let in, where the server asks for it.
    pub login: Option<MailLogin>,
    /// Whom mail is from.
    pub from: Mailbox,
    /// Where answers go.
    pub reply_to: Option<Mailbox>,
    /// How long one mail may take, from the wait for a free connection to the server's last word.
    pub timeout: Duration,
}

/// A user of a mail server.
#[derive(Clone, Debug)]
pub struct MailLogin {
    /// Its name.
    pub username: String,
    /// Where its password is.
    pub password: Password,
}

/// Where a password is.
#[derive(Clone)]
pub enum Password {
    /// In a variable of the environment; what it held.
    Variable(Zeroizing<String>),
    /// In a file, beside whitespace at its end.
    File(PathBuf),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(_) => f.write_str(PASSWORD),
            Self::File(file) => file.fmt(f),
        }
    }
}

impl Password {
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn read(&self) -> anyhow::Result<Zeroizing<String>> {
        match self {
            Self::Variable(text) => Ok(text.clone()),
            Self::File(file) => {
                let text = std::fs::read_to_string(file).map(Zeroizing::new);
                let text =
                    text.with_context(|| format!("cannot read the mail password {}", file.display()))?;
                Ok(Zeroizing::new(text.trim_end().to_owned()))
            }
        }
    }
}

impl EmailSection {
    /// None where no mail is sent.
    pub(super) fn read(self) -> anyhow::Result<Option<Email>> {
        self.with(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn with(self, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Email>> {
        let Some(host) = self.host else {
            let said = [
                ("from", self.from.is_some()),
                ("username", self.username.is_some()),
                ("password_file", self.password_file.is_some()),
            ];
            let said = said.into_iter().find(|(_, said)| *said);
            anyhow::ensure!(
                said.is_none(),
                "email.{} is of no use without email.host",
                said.unwrap_or_default().0
            );
            return Ok(None);
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_host = !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:_".contains(&byte));
        anyhow::ensure!(is_host, "email.host is `{host}`, and must be a host such as smtp.example.com");
        let password = variable(PASSWORD)
            .map(|text| Password::Variable(Zeroizing::new(text)))
            .or_else(|| variable(PASSWORD_FILE).map(|file| Password::File(file.into())))
            .or_else(|| self.password_file.map(Password::File));
        let login = match (self.username, password) {
            (Some(username), Some(password)) => Some(MailLogin { username, password }),
            (Some(_), None) => {
                anyhow::bail!(
                    "email.username needs a password: email.password_file, {PASSWORD_FILE} or {PASSWORD}"
                )
            }
            (None, Some(_)) => anyhow::bail!("a mail password without email.username is of no use"),
            (None, None) => None,
        };
        anyhow::ensure!(
            login.is_none() || self.tls != MailTls::None || is_here(&host),
            "email.tls is `none`, and a password must not travel so: use `starttls` or `tls`"
        );
        let from = self.from.context("email.from is missing: say whom mail is from")?;
        let timeout = self.timeout.unwrap_or(Duration::from_secs(45));
        anyhow::ensure!(
            (Duration::from_secs(1)..=LONGEST_TIMEOUT).contains(&timeout),
            "email.timeout must be from 1s to {} s",
            LONGEST_TIMEOUT.as_secs()
        );
        let usual = match self.tls {
            MailTls::StartTls => 587,
            MailTls::Tls => 465,
            MailTls::None => 25,
        };
        Ok(Some(Email {
            port: self.port.unwrap_or(usual),
            host,
            tls: self.tls,
            ca: self.ca,
            login,
            from: mailbox("email.from", &from)?,
            reply_to: self.reply_to.map(|text| mailbox("email.reply_to", &text)).transpose()?,
            timeout,
        }))
    }
}

/// # Errors
/// When it is none, by the name of its key.
pub(crate) fn mailbox(key: &str, text: &str) -> anyhow::Result<Mailbox> {
    let parsed: Option<Mailbox> = text.parse().ok();
    let is_plain = |email: &Address| email.to_string().is_ascii();
    parsed.filter(|mailbox| is_plain(&mailbox.email)).with_context(|| {
        format!(
            "{key} is `{text}`, and must be like `renders@example.com` or `Renders <renders@example.com>`"
        )
    })
}

/// Whether what goes there stays on this machine.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn email(text: &str) -> anyhow::Result<Option<Email>> {
        toml::from_str::<EmailSection>(text).unwrap().with(|_| None)
    }

    #[test]
    fn no_host_is_no_mail_and_a_host_needs_little() {
        assert!(email("").unwrap().is_none());
        let config =
            email("host = \"smtp.example.com\"\nfrom = \"Renders <r@example.com>\"").unwrap().unwrap();
        assert_eq!((config.port, config.tls), (587, MailTls::StartTls));
        assert_eq!(config.from.to_string(), "Renders <r@example.com>");
        let config = email("host = \"[::1]\"\nfrom = \"r@example.com\"\ntls = \"tls\"").unwrap().unwrap();
        assert_eq!((config.host.as_str(), config.port), ("::1", 465));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        for (text, key) in [
            ("from = \"r@example.com\"", "email.from"),
            ("host = \"smtp.example.com\"", "email.from"),
            ("host = \"a b\"\nfrom = \"r@example.com\"", "email.host"),
            ("host = \"smtp://a\"\nfrom = \"r@example.com\"", "email.host"),
            ("host = \"a\"\nfrom = \"renders\"", "email.from"),
            ("host = \"a\"\nfrom = \"r@example.com\"\nreply_to = \"x\"", "email.reply_to"),
            ("host = \"a\"\nfrom = \"r@example.com\"\nusername = \"u\"", "email.password_file"),
            ("host = \"a\"\nfrom = \"r@example.com\"\npassword_file = \"/p\"", "email.username"),
            ("host = \"a\"\nfrom = \"r@example.com\"\ntimeout = \"2m\"", "email.timeout"),
            (
                "host = \"a.example\"\ntls = \"none\"\nfrom = \"r@example.com\"\nusername = \"u\"\npassword_file = \"/p\"",
                "email.tls",
            ),
        ] {
            let error = email(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn the_environment_has_the_password_and_no_log_shows_it() {
        let section = "host = \"127.0.0.1\"\ntls = \"none\"\nfrom = \"r@example.com\"\nusername = \"u\"\npassword_file = \"/p\"";
        let section: EmailSection = toml::from_str(section).unwrap();
        let config =
            section.clone().with(|name| (name == PASSWORD).then(|| "s3cr3t".into())).unwrap().unwrap();
        assert_eq!(config.login.as_ref().unwrap().password.read().unwrap().as_str(), "s3cr3t");
        assert!(!format!("{config:?}").contains("s3cr3t"));
        let config = section.with(|name| (name == PASSWORD_FILE).then(|| "/q".into())).unwrap().unwrap();
        assert!(matches!(config.login.unwrap().password, Password::File(file) if file.as_os_str() == "/q"));
    }
}
