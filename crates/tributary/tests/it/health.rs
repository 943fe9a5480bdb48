//! Asking a running process whether it is well.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{NOBODY, run};

/// A server that gives every request this answer, or none at all.
async fn answering(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let Some(answer) = answer else {
                kept.push(client);
                continue;
            };
            let mut request = [0; 1024];
            let _ = client.read(&mut request).await;
            let answer =
                format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = client.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}/health")
}

async fn health(url: String) -> crate::support::Run {
    tokio::task::spawn_blocking(move || run(&["health", &url]))
        .await
        .unwrap()
}

#[tokio::test]
async fn health_is_what_the_server_answers() {
    health(answering(Some("200 OK")).await).await.ok();
    let sick = health(answering(Some("503 Service Unavailable")).await).await;
    sick.fails(1, &["not well", "503"]);
}

#[tokio::test]
async fn nobody_who_answers_is_one_error() {
    let gone = health(format!("http://user:secret@{NOBODY}/health")).await;
    gone.fails(1, &["cannot ask"]);
    assert!(!gone.stderr.contains("secret"), "{gone:#?}");
    health("nowhere".to_owned()).await.fails(2, &["cannot ask"]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for_long() {
    let silent = answering(None).await;
    let answer = tokio::time::timeout(Duration::from_secs(60), health(silent)).await;
    answer.unwrap().fails(1, &["cannot ask"]);
}
