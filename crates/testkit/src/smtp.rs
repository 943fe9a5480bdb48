//! A mail server that keeps what it is sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

use crate::error::{Context, Result};

/// A mail as it came.
#[derive(Debug, Clone)]
pub struct ReceivedMail {
    /// The sender that the envelope names.
    pub from: String,
    /// The receivers that the envelope names.
    pub to: Vec<String>,
    /// Headers and body, lines ended by `\n`.
    pub text: String,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<ReceivedMail>,
    /// `user NUL password`, with a NUL in front.
    login: Option<String>,
    refused: Vec<(String, String)>,
}

/// Takes mails on a free port of 127.0.0.1, without TLS and without offering it. It ends with all its connections when
/// dropped.
#[derive(Debug)]
pub struct SmtpReceiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl SmtpReceiver {
    /// Starts one that takes mail from and for everybody.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let what = || "cannot start a mail server".to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context(what)?;
        let address = listener.local_addr().context(what)?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            // Owned here, so that they end with the receiver.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((client, _)) = accepted {
                            connections.spawn(serve(client, Arc::clone(&shared)));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self {
            address,
            state,
            task,
        })
    }

    /// `127.0.0.1` and its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Demands this login from now on.
    pub fn demand_login(&self, user: &str, password: &str) {
        lock(&self.state).login = Some(format!("\0{user}\0{password}"));
    }

    /// Answers to a receiver that contains `part` with this line, such as `550 no such user`, from now on.
    pub fn refuse(&self, part: &str, line: &str) {
        let refused = (part.to_owned(), line.to_owned());
        lock(&self.state).refused.push(refused);
    }

    /// What came so far.
    pub fn messages(&self) -> Vec<ReceivedMail> {
        lock(&self.state).messages.clone()
    }

    /// Waits until so many mails have come, or the time has passed, and answers those that have.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> Vec<ReceivedMail> {
        let deadline = Instant::now() + limit;
        loop {
            let messages = self.messages();
            if messages.len() >= count || Instant::now() >= deadline {
                return messages;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for SmtpReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that breaks is the client's to notice.
async fn serve(client: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    client.write_all(b"220 127.0.0.1 ESMTP\r\n").await?;
    let mut mail = empty();
    let mut may_send = lock(&state).login.is_none();
    let mut line = String::new();
    loop {
        line.clear();
        if client.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let upper = line.to_ascii_uppercase();
        let answer = if upper.starts_with("EHLO") {
            match lock(&state).login {
                Some(_) => "250-127.0.0.1\r\n250-AUTH PLAIN\r\n250 8BITMIME".to_owned(),
                None => "250-127.0.0.1\r\n250 8BITMIME".to_owned(),
            }
        } else if upper.starts_with("AUTH PLAIN ") {
            let given = BASE64_STANDARD.decode(line["AUTH PLAIN ".len()..].trim());
            let demanded = lock(&state).login.clone();
            may_send = demanded.is_some_and(|login| given.is_ok_and(|g| g == login.as_bytes()));
            match may_send {
                true => "235 welcome".to_owned(),
                false => "535 5.7.8 bad credentials".to_owned(),
            }
        } else if !may_send && upper.starts_with("MAIL FROM:") {
            "530 5.7.0 authentication required".to_owned()
        } else if upper.starts_with("MAIL FROM:") {
            mail = empty();
            mail.from = in_brackets(&line);
            "250 ok".to_owned()
        } else if upper.starts_with("RCPT TO:") {
            let to = in_brackets(&line);
            let state = lock(&state);
            match state.refused.iter().find(|(part, _)| to.contains(part)) {
                Some((_, answer)) => answer.clone(),
                None => {
                    mail.to.push(to);
                    "250 ok".to_owned()
                }
            }
        } else if upper.starts_with("DATA") {
            client.write_all(b"354 go on\r\n").await?;
            loop {
                line.clear();
                if client.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
                match line.trim_end_matches(['\r', '\n']) {
                    "." => break,
                    text => {
                        mail.text.push_str(text.strip_prefix('.').unwrap_or(text));
                        mail.text.push('\n');
                    }
                }
            }
            let mail = std::mem::replace(&mut mail, empty());
            lock(&state).messages.push(mail);
            "250 taken".to_owned()
        } else if upper.starts_with("QUIT") {
            client.write_all(b"221 bye\r\n").await?;
            return client.shutdown().await;
        } else if upper.starts_with("RSET") || upper.starts_with("NOOP") {
            "250 ok".to_owned()
        } else {
            "502 not known here".to_owned()
        };
        client.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}

fn empty() -> ReceivedMail {
    ReceivedMail {
        from: String::new(),
        to: Vec::new(),
        text: String::new(),
    }
}

fn in_brackets(line: &str) -> String {
    let inner = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or_else(String::new, |(inner, _)| inner.to_owned())
}
