//! E-mail by SMTP.

use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use tokio::time::timeout;
use tributary_model::{Error, ErrorKind, Result};

use super::{Message, one_line};
use crate::config::{Email, MailTls};

/// A mail takes several questions and answers, each within the time for one.
const ANSWERS: u32 = 3;

pub(super) async fn tell(email: &Email, message: &Message, limit: Duration) -> Result<()> {
    let mail = compose(email, message)?;
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&email.host)
        .port(email.port)
        .timeout(Some(limit))
        .hello_name(ClientId::Domain(domain(&message.host)))
        .tls(tls(email)?);
    if let Some((user, password)) = &email.login {
        transport =
            transport.credentials(Credentials::new(user.clone(), password.as_str().to_owned()));
    }
    let transport = transport.build();
    match timeout(limit * ANSWERS, transport.send(mail)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(refused(email, error)),
        Err(_) => Err(on_server(
            email,
            Error::new(
                ErrorKind::Unreachable,
                "the mail server did not answer in time",
            ),
        )),
    }
}

fn compose(email: &Email, message: &Message) -> Result<Mail> {
    let Message {
        state,
        rule,
        subject,
        summary,
        ..
    } = message;
    let mut text = format!(
        "{state}: {subject}\n\n{}\n\nrule: {rule}\nsince: {}\nhost: {}\n",
        one_line(summary),
        message.since(),
        message.host
    );
    if let Some(detail) = &message.detail {
        text.push('\n');
        text.push_str(detail);
        text.push('\n');
    }
    let mut mail = Mail::builder()
        .from(mailbox(&email.from)?)
        .date_now()
        .message_id(Some(format!(
            "<{}@{}>",
            uuid::Uuid::new_v4(),
            domain(&message.host)
        )))
        // A line end would begin another header.
        .subject(one_line(&format!("[tributary] {state}: {subject}")))
        .header(ContentType::TEXT_PLAIN);
    for to in &email.to {
        mail = mail.to(mailbox(to)?);
    }
    mail.body(text).map_err(|error| {
        Error::new(ErrorKind::Usage, "cannot write a mail")
            .because(error)
            .remedy("name a sender and receivers")
    })
}

fn mailbox(address: &str) -> Result<Mailbox> {
    address.parse().map_err(|error| {
        Error::new(ErrorKind::Usage, "this is no mail address")
            .on("address", one_line(address))
            .because(Box::<dyn std::error::Error + Send + Sync>::from(error))
            .remedy("write it as name@example.com, or `Name <name@example.com>`")
    })
}

/// The name of this machine as it may stand in a mail.
fn domain(host: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let plain: String = host.chars().filter(is_plain).collect();
    match plain.trim_matches(['-', '.']) {
        "" => "localhost".to_owned(),
        plain => plain.to_owned(),
    }
}

fn tls(email: &Email) -> Result<Tls> {
    let parameters = || {
        TlsParameters::new(email.host.clone()).map_err(|error| {
            on_server(
                email,
                Error::new(ErrorKind::Usage, "cannot use TLS with the mail server")
                    .because(error)
                    .remedy("name the server by the name that its certificate has"),
            )
        })
    };
    Ok(match email.tls {
        MailTls::Wrapped => Tls::Wrapper(parameters()?),
        MailTls::StartTls => Tls::Required(parameters()?),
        MailTls::None => Tls::None,
    })
}

fn on_server(email: &Email, error: Error) -> Error {
    error.on("server", format!("{}:{}", email.host, email.port))
}

fn refused(email: &Email, error: lettre::transport::smtp::Error) -> Error {
    let code = error
        .status()
        .and_then(|code| code.to_string().parse().ok());
    let text = error.to_string();
    let (kind, message, remedy, because) = match code {
        // The answer is left out: it may repeat what the server was told.
        Some(432 | 454 | 500..=504 | 530..=538) if email.login.is_some() => (
            ErrorKind::Unauthenticated,
            "the mail server refuses the login",
            "check the user and the password; many servers want a password made for an application",
            false,
        ),
        Some(530 | 538) => (
            ErrorKind::Unauthenticated,
            "the mail server wants a login, or TLS",
            "write the address as smtps://user:password@host or smtp+starttls://user:password@host",
            true,
        ),
        Some(400..=499) => (
            ErrorKind::Unavailable,
            "the mail server cannot take the mail now",
            "it is told again later",
            true,
        ),
        Some(_) => (
            ErrorKind::NotFound,
            "the mail server refuses the mail",
            "check the sender and the receivers, and that the server relays for this machine",
            true,
        ),
        None if error.is_tls() => (
            ErrorKind::Unreachable,
            "no TLS with the mail server",
            "check that its certificate is valid for this name, and known to this machine",
            true,
        ),
        None if text.contains("STARTTLS") => (
            ErrorKind::Usage,
            "the mail server does not offer TLS",
            "use the port on which it does, or, on a network that can be trusted, do without TLS",
            false,
        ),
        None if error.is_client() && email.login.is_some() => (
            ErrorKind::Unauthenticated,
            "the mail server takes no login by a password",
            "leave user and password out, or use the port or TLS with which it does",
            false,
        ),
        None => (
            ErrorKind::Unreachable,
            "cannot reach the mail server",
            "check host and port, and that this machine may reach it",
            true,
        ),
    };
    let mut told = on_server(email, Error::new(kind, message)).remedy(remedy);
    if let Some(code) = code {
        told = told.on("code", code);
    }
    match because {
        true => told.because(one_line(&text)),
        false => told,
    }
}
