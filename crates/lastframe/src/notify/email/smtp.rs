//! Handing a mail over to the mail server, and telling whose fault it is when that does not work.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Quit, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::post::{Fault, Post};
use crate::config::{Email, MailTls};

/// What a server says that takes a mail.
const TAKEN: u16 = 250;
/// Connections at once.
const CONNECTIONS: usize = 4;
/// How long a connection may wait for the next mail. Servers close idle ones after minutes.
const IDLE: Duration = Duration::from_secs(30);
/// The longest of what a server said that is kept, in characters.
const SAID: usize = 300;

/// The way to a mail server.
pub(crate) struct Smtp {
    host: String,
    port: u16,
    how: MailTls,
    tls: Option<TlsParameters>,
    credentials: Option<Credentials>,
    hello: ClientId,
    timeout: Duration,
    room: Semaphore,
    /// Connections with nothing to do, the one used last at the end.
    idle: Mutex<VecDeque<(AsyncSmtpConnection, Instant)>>,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Smtp({}:{})", self.host, self.port)
    }
}

#[async_trait]
impl Post for Smtp {
    async fn send(&self, from: &Address, to: &Address, mail: &[u8]) -> Result<u16, Fault> {
        self.in_time(async {
            let mut connection = self.connection().await?;
            hand_over(&mut connection, from, to, mail).await?;
            // Only one that is known to be between two mails is used again.
            self.keep(connection);
            Ok(TAKEN)
        })
        .await
    }
}

impl Smtp {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When the password or the certificates cannot be read.
    pub(super) fn open(config: &Email, hello: &str) -> anyhow::Result<Self> {
        let tls = match config.tls {
            MailTls::None => None,
            MailTls::StartTls | MailTls::Tls => {
                let mut tls = TlsParameters::builder(config.host.clone());
                if let Some(file) = &config.ca {
                    let pem = std::fs::read(file).map_err(anyhow::Error::new);
                    let trusted = pem.and_then(|pem| Ok(Certificate::from_pem(&pem)?));
                    tls = tls.add_root_certificate(
                        trusted.with_context(|| format!("cannot read email.ca {}", file.display()))?,
                    );
                }
                Some(tls.build_rustls().context("cannot set up TLS for mail")?)
            }
        };
        let credentials = match &config.login {
            Some(login) => {
                Some(Credentials::new(login.username.clone(), login.password.read()?.as_str().to_owned()))
            }
            None => None,
        };
        let is_name = hello.contains('.')
            && hello.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
        Ok(Self {
            host: config.host.clone(),
            port: config.port,
            how: config.tls,
            tls,
            credentials,
            hello: if is_name { ClientId::Domain(hello.to_owned()) } else { ClientId::default() },
            timeout: config.timeout,
            room: Semaphore::new(CONNECTIONS),
            idle: Mutex::default(),
        })
    }

    /// Does all that comes before a mail, and sends none. Says what it found.
    pub(super) async fn check(&self) -> Result<String, Fault> {
        self.in_time(async {
            let mut connection = self.connect().await?;
            let encrypted = if connection.is_encrypted() { "encrypted" } else { "not encrypted" };
            let user = if self.credentials.is_some() { "let us in" } else { "asks for no password" };
            let found = format!("{}:{} answers, {encrypted}, {user}", self.host, self.port);
            drop(connection.command(Quit).await);
            Ok(found)
        })
        .await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let in_line = async {
            let _room = self.room.acquire().await;
            work.await
        };
        timeout(self.timeout, in_line).await.unwrap_or_else(|_| {
            let said = format!("the mail server was not done within {} s", self.timeout.as_secs());
            Err(Fault::Passing { code: None, said })
        })
    }

    /// One that is open already and still works, or a new one.
    async fn connection(&self) -> Result<AsyncSmtpConnection, Fault> {
        while let Some(mut connection) = self.take_idle() {
            if connection.test_connected().await {
                return Ok(connection);
            }
        }
        self.connect().await
    }

    fn take_idle(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since)| since.elapsed() < IDLE);
        idle.pop_back().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back((connection, Instant::now()));
    }

    /// Whatever goes wrong here is no fault of a recipient.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Fault> {
        let whole = self.tls.clone().filter(|_| self.how == MailTls::Tls);
        let address = (self.host.as_str(), self.port);
        let opened =
            AsyncSmtpConnection::connect_tokio1(address, Some(self.timeout), &self.hello, whole, None);
        let at = |what: &'static str| move |error| passing(what, &error);
        let mut connection = opened.await.map_err(at("cannot connect to the mail server"))?;
        if let Some(tls) = self.tls.clone().filter(|_| self.how == MailTls::StartTls) {
            connection
                .starttls(tls, &self.hello)
                .await
                .map_err(at("the mail server does not go over to TLS"))?;
        }
        if let Some(credentials) = &self.credentials {
            let letting_in = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            letting_in.map_err(at("the mail server does not let us in"))?;
        }
        Ok(connection)
    }
}

/// Whom it is from is the operator's affair; whom it is for, and what it is, are the mail's own.
async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    from: &Address,
    to: &Address,
    mail: &[u8],
) -> Result<(), Fault> {
    let mut options = Vec::new();
    if !to.to_string().is_ascii() {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            let said = "the mail server takes no addresses with such letters (SMTPUTF8)".into();
            return Err(Fault::Refused { code: None, said });
        }
        options.push(MailParameter::SmtpUtfEight);
    }
    let sender = connection.command(Mail::new(Some(from.clone()), options)).await;
    sender.map_err(|error| passing("the mail server does not take the sender", &error))?;
    let recipient = connection.command(Rcpt::new(to.clone(), Vec::new())).await;
    recipient.map_err(|error| judged("the mail server does not take the recipient", &error))?;
    let data = connection.command(Data).await;
    data.map_err(|error| judged("the mail server takes no mail", &error))?;
    let taken = connection.message(mail).await;
    taken.map(drop).map_err(|error| judged("the mail server does not take the mail", &error))
}

fn judged(what: &str, error: &lettre::transport::smtp::Error) -> Fault {
    // What it says of whoever is not let in, and of whoever wants encryption (RFC 4954, RFC 3207).
    const OF_US: [u16; 5] = [523, 530, 534, 535, 538];
    match passing(what, error) {
        Fault::Passing { code: Some(code), said } if code >= 500 && !OF_US.contains(&code) => {
            Fault::Refused { code: Some(code), said }
        }
        fault => fault,
    }
}

fn passing(what: &str, error: &lettre::transport::smtp::Error) -> Fault {
    let code = error.status().map(u16::from);
    let said: String =
        format!("{what}: {error}").chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID).collect();
    Fault::Passing { code, said }
}
