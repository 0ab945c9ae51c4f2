//! Mail over SMTP.
//!
//! Not here: what is written, and addresses of customers, which are sealed elsewhere.

use std::fmt;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tally_ports::{Mail, Mailer, PortError};
use tally_types::Span;

#[cfg(test)]
mod tests;

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SmtpTls {
    /// From the first byte (usually port 465).
    Implicit,
    /// By STARTTLS, without which nothing is sent (usually port 587).
    #[default]
    StartTls,
    /// Not at all: for a server on the same machine.
    None,
}

/// The mail server, and who we are to it.
#[derive(Clone, PartialEq, Eq)]
pub struct SmtpOptions {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// User name and password, where it wants them.
    pub credentials: Option<(String, String)>,
    /// The sender: `shop@example.com` or `Shop <shop@example.com>`.
    pub from: String,
    /// The limit on each step.
    pub timeout: Span,
}

impl fmt::Debug for SmtpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .field("from", &self.from)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Hands mail to a server.
#[derive(Clone)]
pub struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl SmtpMailer {
    /// A mailer; it connects when it sends.
    ///
    /// # Errors
    /// [`PortError`], persistent, when the sender is no address, or a password would go over the network in
    /// the clear.
    pub fn new(options: &SmtpOptions) -> Result<Self, PortError> {
        let from = options.from.parse().map_err(|error| {
            PortError::persistent(format!("the sender {:?} is not a mail address", options.from))
                .because(error)
        })?;
        let local = matches!(options.host.as_str(), "localhost" | "127.0.0.1" | "::1");
        if options.credentials.is_some() && options.tls == SmtpTls::None && !local {
            return Err(PortError::persistent(format!(
                "the password for {} would be sent in the clear: use TLS or STARTTLS",
                options.host
            )));
        }
        let parameters = || {
            TlsParameters::new(options.host.clone()).map_err(|error| {
                PortError::persistent(format!("TLS to {} cannot be set up", options.host)).because(error)
            })
        };
        let tls = match options.tls {
            SmtpTls::Implicit => Tls::Wrapper(parameters()?),
            SmtpTls::StartTls => Tls::Required(parameters()?),
            SmtpTls::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&options.host)
            .port(options.port)
            .tls(tls)
            .timeout(Some(options.timeout.to_duration()));
        if let Some((user, password)) = &options.credentials {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        Ok(Self { transport: builder.build(), from })
    }
}

impl fmt::Debug for SmtpMailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpMailer").field("from", &self.from.to_string()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, mail: Mail) -> Result<(), PortError> {
        // The recipient's address is a customer's: no error names it.
        let to: Mailbox =
            mail.to.parse().map_err(|_| PortError::persistent("the recipient is not a mail address"))?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .message_id(None)
            .subject(mail.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text)
            .map_err(|error| PortError::persistent("the mail cannot be written").because(error))?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => {
                Err(PortError::persistent("the mail server refused the mail").because(error))
            }
            Err(error) => Err(PortError::transient("the mail could not be handed over").because(error)),
        }
    }
}
