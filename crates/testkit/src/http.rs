//! One HTTP request, for readiness checks and for creating buckets; the servers close the connection after it.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::error::{Context, Result, TestkitError};

/// Sends a request without a body and returns the status and the raw response.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(u16, String)> {
    let what = || format!("cannot {method} http://{address}{path}");
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 0\r\n"
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(text.as_bytes()).await?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&response).into_owned())
    };
    let response = tokio::time::timeout(Duration::from_secs(30), exchange)
        .await
        .context(what)?
        .context(what)?;
    let status = response
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| {
            TestkitError::new(format!("{}: not an HTTP response: {response:?}", what()))
        })?;
    Ok((status, response))
}

/// The `127.0.0.1:port` of an endpoint such as `http://127.0.0.1:1234/account`.
pub(crate) fn address_of(endpoint: &str) -> Result<SocketAddr> {
    endpoint
        .strip_prefix("http://")
        .and_then(|rest| rest.split('/').next())
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| {
            TestkitError::new(format!(
                "{endpoint:?} is not of the form http://127.0.0.1:PORT"
            ))
        })
}
