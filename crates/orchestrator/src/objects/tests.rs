use std::fs;
use std::path::Path;
use std::sync::Mutex;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use tokio::time::{Instant, timeout};
use tributary_model::ErrorKind;
use tributary_testkit::{HttpReceiver, S3Server, unique_name};

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);
const GATHER: Duration = Duration::from_millis(300);

/// Keeps what it takes, and fails as often as it is told to.
#[derive(Default)]
struct Taken {
    objects: Mutex<Vec<CreatedObject>>,
    failures: Mutex<u32>,
}

#[async_trait]
impl Takes for Taken {
    async fn take(&self, objects: Vec<CreatedObject>) -> Result<()> {
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(Error::new(ErrorKind::Storage, "no room"));
        }
        self.objects.lock().unwrap().extend(objects);
        Ok(())
    }
}

impl Taken {
    fn keys(&self) -> Vec<String> {
        let objects = self.objects.lock().unwrap();
        let mut keys: Vec<String> = objects.iter().map(|object| object.key.clone()).collect();
        keys.sort();
        keys
    }

    async fn wait_for(&self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.keys().len() < count {
            assert!(Instant::now() < deadline, "only {:?} come", self.keys());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Watches a directory while `act` runs.
async fn watching(
    directory: &Path,
    matching: Option<&str>,
    gather: Duration,
    taken: &Taken,
    act: impl Future<Output = ()>,
) {
    let stop = CancellationToken::new();
    let watched = Watched::Directory(directory.to_owned());
    let pattern = matching.map(|pattern| glob::Pattern::new(pattern).unwrap());
    let watch = watch(&watched, pattern.as_ref(), gather, taken, stop.clone());
    let (watched, ()) = tokio::join!(watch, async {
        act.await;
        stop.cancel();
    });
    watched.unwrap();
}

#[tokio::test]
async fn files_are_told_once_they_are_complete() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("there.csv"), "1").unwrap();
    let taken = Taken::default();
    // Longer than a busy machine stops between two of the writes.
    let gather = Duration::from_secs(5);
    watching(directory.path(), None, gather, &taken, async {
        taken.wait_for(1).await;
        assert_eq!(taken.keys(), ["there.csv"]);
        fs::write(at("renamed.csv.tmp"), "12345").unwrap();
        fs::write(at(".hidden"), "1").unwrap();
        for size in 1..=20 {
            fs::write(at("slow.csv"), "x".repeat(size)).unwrap();
            assert!(!taken.keys().contains(&"slow.csv".to_owned()));
            sleep(Duration::from_millis(20)).await;
        }
        fs::rename(at("renamed.csv.tmp"), at("renamed.csv")).unwrap();
        taken.wait_for(3).await;
        let seen = |name: &str| taken.keys().contains(&name.to_owned());
        assert!(
            seen("slow.csv") && seen("renamed.csv"),
            "{:?}",
            taken.keys()
        );
    })
    .await;
    let objects = taken.objects.lock().unwrap().clone();
    let slow: Vec<_> = objects.iter().filter(|o| o.key == "slow.csv").collect();
    assert_eq!(slow.len(), 1);
    assert_eq!(slow[0].size, Some(20));
}

#[tokio::test]
async fn a_file_that_vanishes_before_it_is_complete_is_not_told() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let taken = Taken::default();
    watching(directory.path(), None, GATHER, &taken, async {
        fs::write(at("first.csv"), "1").unwrap();
        taken.wait_for(1).await;
        fs::write(at("gone.csv"), "1").unwrap();
        fs::remove_file(at("gone.csv")).unwrap();
        fs::write(at("last.csv"), "1").unwrap();
        taken.wait_for(2).await;
    })
    .await;
    assert_eq!(taken.keys(), ["first.csv", "last.csv"]);
}

#[tokio::test]
async fn nested_files_are_told_as_the_pattern_says() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let taken = Taken::default();
    watching(
        directory.path(),
        Some("in/**/*.csv"),
        GATHER,
        &taken,
        async {
            fs::create_dir_all(at("in/a/b")).unwrap();
            fs::create_dir_all(at("in/.staging")).unwrap();
            for name in ["top.csv", "in/a/no.txt", "in/.staging/x.csv"] {
                fs::write(at(name), "1").unwrap();
            }
            for name in ["in/one.csv", "in/a/b/two.csv"] {
                fs::write(at(name), "1").unwrap();
            }
            taken.wait_for(2).await;
            fs::write(at("in/last.csv"), "1").unwrap();
            taken.wait_for(3).await;
        },
    )
    .await;
    assert_eq!(
        taken.keys(),
        ["in/a/b/two.csv", "in/last.csv", "in/one.csv"]
    );
}

#[tokio::test]
async fn files_that_are_not_taken_are_told_again_and_new_content_is_a_new_object() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.csv");
    fs::write(&file, "1").unwrap();
    let taken = Taken::default();
    *taken.failures.lock().unwrap() = 2;
    watching(directory.path(), None, GATHER, &taken, async {
        taken.wait_for(1).await;
        fs::write(&file, "22").unwrap();
        taken.wait_for(2).await;
    })
    .await;
    let objects = taken.objects.lock().unwrap();
    assert_ne!(objects[0].id, objects[1].id);
}

#[tokio::test]
async fn a_missing_directory_says_so() {
    let watched = Watched::Directory("/no/such/directory".into());
    let stop = CancellationToken::new();
    let error = watch(&watched, None, GATHER, &Taken::default(), stop)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains("create the directory"),
        "{error}"
    );
}

const S3: &str = r#"{"Records":[{"eventName":"ObjectCreated:Put","eventTime":"2026-01-02T03:04:05.000Z",
    "s3":{"bucket":{"name":"b"},"object":{"key":"in/a+b%C3%A4.csv","size":7,"sequencer":"0A"}}}]}"#;
const EVENT_BRIDGE: &str = r#"{"detail-type":"Object Created","time":"2026-01-02T03:04:05Z",
    "detail":{"bucket":{"name":"b"},"object":{"key":"in/c+d.csv","size":8,"version-id":"v1"}}}"#;

fn in_sns(message: &str) -> String {
    serde_json::json!({ "Type": "Notification", "Message": message }).to_string()
}

#[test]
fn notifications_are_read_in_all_their_forms() {
    let s3 = notification::read(S3).unwrap();
    assert_eq!(s3[0].key, "in/a bä.csv");
    assert_eq!(s3[0].id, "b/in/a bä.csv/0A");
    assert_eq!((s3[0].bucket.as_deref(), s3[0].size), (Some("b"), Some(7)));
    assert_eq!(notification::read(&in_sns(S3)), Some(s3));
    let event = notification::read(EVENT_BRIDGE).unwrap();
    assert_eq!(event[0].id, "b/in/c+d.csv/v1");

    let none = Some(Vec::new());
    assert_eq!(notification::read(r#"{"Event":"s3:TestEvent"}"#), none);
    assert_eq!(
        notification::read(&S3.replace("Created:Put", "Removed:Delete")),
        none
    );
    assert_eq!(
        notification::read(&EVENT_BRIDGE.replace("Created", "Deleted")),
        none
    );
    for junk in ["", "hello", "[]", "{}", "7", r#"{"Records":[{}]}"#] {
        assert_eq!(notification::read(junk), None, "{junk}");
    }
    assert_eq!(notification::read(&S3.replace("\"key\"", "\"no\"")), None);
    assert_eq!(notification::read(&in_sns("junk")), None);
}

#[test]
fn stars_stay_within_a_directory() {
    let is = |pattern: &str, key: &str| is_wanted(Some(&glob::Pattern::new(pattern).unwrap()), key);
    assert!(is("in/*.csv", "in/a.csv") && !is("in/*.csv", "in/b/a.csv"));
    assert!(is("in/**/*.csv", "in/b/c/a.csv") && is_wanted(None, "anything"));
}

fn client(endpoint: &str) -> Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("testkit", "testkit", None, None, "test"))
        .endpoint_url(endpoint)
        .build();
    Client::from_conf(config)
}

async fn queue(client: &Client) -> String {
    let created = client.create_queue().queue_name(unique_name("objects"));
    created.send().await.unwrap().queue_url.unwrap()
}

/// Watches a queue while `act` runs.
async fn reading(client: &Client, url: &str, matching: &str, taken: &Taken, act: impl Future) {
    let stop = CancellationToken::new();
    let pattern = glob::Pattern::new(matching).unwrap();
    let watch = sqs::watch(client, url, Some(&pattern), GATHER, taken, &stop);
    let (watched, ()) = tokio::join!(timeout(DEADLINE * 2, watch), async {
        act.await;
        stop.cancel();
    });
    watched.unwrap().unwrap();
}

async fn attribute(client: &Client, url: &str, name: &str) -> String {
    let answer = client
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names("All".into())
        .send()
        .await
        .unwrap();
    answer.attributes.unwrap()[&name.into()].clone()
}

#[tokio::test]
async fn an_object_that_is_put_arrives_from_the_queue_that_its_bucket_notifies() {
    let server = S3Server::shared().await.unwrap();
    let client = client(server.endpoint());
    let url = queue(&client).await;
    let bucket = unique_name("bucket");
    server.create_bucket(&bucket).await.unwrap();
    let arn = attribute(&client, &url, "QueueArn").await;
    let http = reqwest::Client::new();
    let rule = format!(
        "<NotificationConfiguration><QueueConfiguration><Id>1</Id><Queue>{arn}</Queue>\
         <Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>"
    );
    let put = async |path: &str, body: String| {
        let url = format!("{}/{bucket}{path}", server.endpoint());
        let answer = http.put(url).body(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    };
    put("?notification", rule).await;
    let taken = Taken::default();
    reading(&client, &url, "in/**", &taken, async {
        put("/elsewhere/no.csv", "1".to_owned()).await;
        put("/in/a%20b.csv", "12345".to_owned()).await;
        taken.wait_for(1).await;
    })
    .await;
    let objects = taken.objects.lock().unwrap().clone();
    assert_eq!(objects.len(), 1);
    assert_eq!(objects[0].key, "in/a b.csv");
    assert_eq!(objects[0].bucket.as_deref(), Some(bucket.as_str()));
    assert_eq!(objects[0].size, Some(5));
}

#[tokio::test]
async fn messages_are_deleted_once_they_are_taken_and_junk_is_kept() {
    let server = S3Server::shared().await.unwrap();
    let client = client(server.endpoint());
    let url = queue(&client).await;
    for body in ["junk", S3, EVENT_BRIDGE] {
        let sent = client.send_message().queue_url(&url).message_body(body);
        sent.send().await.unwrap();
    }
    let taken = Taken::default();
    *taken.failures.lock().unwrap() = 1;
    let hidden = "ApproximateNumberOfMessagesNotVisible";
    reading(&client, &url, "in/*", &taken, async {
        taken.wait_for(2).await;
        let deadline = Instant::now() + DEADLINE;
        while attribute(&client, &url, hidden).await != "1" {
            assert!(Instant::now() < deadline, "they are not deleted");
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(taken.keys(), ["in/a bä.csv", "in/c+d.csv"]);
    assert_eq!(*taken.failures.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_missing_queue_says_so() {
    let server = S3Server::shared().await.unwrap();
    let client = client(server.endpoint());
    let url = format!("{}/123456789012/no-such-queue", server.endpoint());
    let stop = CancellationToken::new();
    let taken = Taken::default();
    let watch = sqs::watch(&client, &url, None, GATHER, &taken, &stop);
    let error = timeout(DEADLINE, watch).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_lost_server_is_waited_out_and_a_missing_privilege_says_so() {
    let server = HttpReceiver::start().await.unwrap();
    server.hang_up();
    let client = client(&server.url());
    let url = format!("{}/123456789012/objects", server.url());
    let stop = CancellationToken::new();
    let taken = Taken::default();
    let watch = sqs::watch(&client, &url, None, GATHER, &taken, &stop);
    let (watched, ()) = tokio::join!(timeout(DEADLINE * 2, watch), async {
        // The client itself tries three times.
        assert!(server.wait_for(4, DEADLINE).await.len() >= 4);
        let body = r#"{"__type":"com.amazonaws.sqs#AccessDeniedException","message":"not yours"}"#;
        server.answer_with(403, &[("content-type", "application/x-amz-json-1.0")], body);
    });
    let error = watched.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.to_string().contains("sqs:ReceiveMessage"), "{error}");
}
