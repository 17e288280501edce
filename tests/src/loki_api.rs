//! Loki's API of a collector that runs: what is pushed in is answered, judged and followed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use ::http::Request;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use serde_json::{Value, json};
use watchbell_proto::loki::{put_entry, put_stream};
use watchbell_proto::snappy;

use crate::support::watchbell::Watchbell;
use crate::support::webhook::Webhook;
use crate::support::{DEADLINE, free_port, http, otlp, until_equal};

const RULES: &str = "
groups:
  - name: shop
    rules:
      - alert: Refused
        expr: sum by (app) (count_over_time({app=`shop`} |= `refused` | user != `nobody` [1h])) > 1
";

#[test]
fn what_is_pushed_is_found_and_pages() {
    let webhook = Webhook::start();
    let watchbell = Watchbell::start(&webhook.alerting(), RULES);
    let now = otlp::now_nanos() as i64;
    push_protobuf(&watchbell.http_url(PUSH), now - 2, "refused one", "ann");
    push_json(&watchbell.api_url(PUSH), now - 1, "refused two", "bob");
    watchbell.send(&otlp::logs("cart", [otlp::error("refused three")]));
    let query = |query: &str| {
        let path = format!("/loki/api/v1/query_range?query={}", http::encode(query));
        let answer = http::get_json(&watchbell.api_url(&path));
        answer["data"]["result"].clone()
    };
    let found = query(r#"{app="shop"} | keep app, user"#);
    let entry = |user: &str, time: i64, line: &str| json!({"stream": {"app": "shop", "user": user}, "values": [[time.to_string(), line]]});
    assert_eq!(found, json!([entry("ann", now - 2, "refused one"), entry("bob", now - 1, "refused two")]));
    assert_eq!(query(r#"{service_name="cart"}"#)[0]["values"][0][1], "refused three");
    let values = http::get_json(&watchbell.api_url("/loki/api/v1/label/service_name/values"));
    assert_eq!(values, json!({"status": "success", "data": ["cart", "shop"]}), "a service is found as in Loki");
    let alert = watchbell.wait_alert("Refused", "firing");
    assert_eq!((&alert["labels"]["app"], &alert["value"]), (&json!("shop"), &json!("2e0")));
    let text = webhook.wait_alert("Refused", "firing").body.to_string();
    assert!(text.contains("refused one") && text.contains("refused two"), "{text}");
}

#[test]
fn what_cannot_be_pushed_is_told_in_plain_text() {
    let watchbell = Watchbell::start("limits: {record_bytes_max: 1000}\n", "groups: []\n");
    let push = |content_type: &str, body: &str| {
        let answer = http::post(&watchbell.api_url(PUSH), content_type, body.to_owned()).unwrap();
        assert!(answer.status == 204 || answer.headers["content-type"] == "text/plain; charset=utf-8");
        (answer.status.as_u16(), answer.text())
    };
    assert_eq!(push("application/json", r#"{"streams":[]}"#), (422, "the push has no entry\n".to_owned()));
    let (status, text) = push("application/json", r#"{"streams":[{]}"#);
    assert_eq!((status, text.as_str()), (400, "line 1, column 14: key must be a string\n"));
    let (status, text) = push("application/x-protobuf", "garbage");
    assert!(status == 400 && text.starts_with("the body is no push request: "), "{text}");
    let now = otlp::now_nanos();
    let long = "x".repeat(2000);
    let streams = format!(
        r#"{{"streams":[{{"stream":{{"app":"a"}},"values":[["{now}","{long}"],["{now}","short"]]}},{{"stream":{{}},"values":[["0","y"]]}}]}}"#
    );
    let (status, text) = push("application/json; charset=utf-8", &streams);
    assert!(status == 400 && text.starts_with("2 entries were refused, the others taken: "), "{text}");
    let found = http::get_json(&watchbell.api_url("/loki/api/v1/query_range?query=%7Bapp=%22a%22%7D"));
    assert_eq!(found["data"]["result"][0]["values"][0][1], "short");
    let get = http::get(&watchbell.api_url(PUSH)).unwrap();
    assert_eq!((get.status.as_u16(), get.headers["allow"].to_str().unwrap()), (405, "POST"));
}

#[test]
fn a_token_is_asked_for_at_both_ports() {
    let ports = std::array::from_fn(|_| free_port());
    let [grpc, http, api] = ports;
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}, http: {{endpoint: '127.0.0.1:{http}', auth: {{bearer_token: s3cret}}}}}}}}}}\n\
         api: {{endpoint: '127.0.0.1:{api}'}}\ndata_dir: data\nrule_files: []\n"
    );
    std::fs::write(dir.path().join("config.yaml"), config).unwrap();
    let watchbell = Watchbell::start_in(dir, ports);
    for url in [watchbell.http_url(PUSH), watchbell.api_url(PUSH)] {
        let body = format!(r#"{{"streams":[{{"stream":{{"app":"a"}},"values":[["{}","x"]]}}]}}"#, otlp::now_nanos());
        assert_eq!(http::post(&url, "application/json", body.clone()).unwrap().status, 401);
        let request =
            Request::post(url).header("content-type", "application/json").header("authorization", "Bearer s3cret");
        assert_eq!(http::send(request.body(Full::new(Bytes::from(body))).unwrap()).unwrap().status, 204);
    }
}

#[test]
fn a_client_follows_the_log() {
    let watchbell = Watchbell::start("", "groups: []\n");
    let now = otlp::now_nanos() as i64;
    push_json(&watchbell.api_url(PUSH), now, "before", "ann");
    let mut tail = Tail::start(watchbell.api, r#"{app="shop"} |~ "before|behind" | keep app"#);
    assert_eq!(tail.next(), json!({"streams": [{"stream": {"app": "shop"}, "values": [[now.to_string(), "before"]]}]}));
    push_json(&watchbell.api_url(PUSH), now + 1, "other", "ann");
    push_protobuf(&watchbell.http_url(PUSH), now + 2, "behind", "ann");
    assert_eq!(tail.next()["streams"][0]["values"], json!([[(now + 2).to_string(), "behind"]]));
    drop(tail);
    until_equal("the thread of a client that is gone has ended", &Some(0.0), || {
        watchbell.metric("watchbell_tails", &[])
    });
    let refused = http::get(&watchbell.api_url("/loki/api/v1/tail?query=vector(1)")).unwrap();
    assert!(refused.status == 400 && refused.text().contains("yields numbers"), "{}", refused.text());
}

#[test]
fn the_log_is_there_again_after_a_kill() {
    let watchbell = Watchbell::start("", "groups: []\n");
    push_json(&watchbell.api_url(PUSH), otlp::now_nanos() as i64, "kept", "ann");
    let ports = watchbell.ports();
    let watchbell = Watchbell::start_in(watchbell.server.kill(), ports);
    let found = http::get_json(&watchbell.api_url("/loki/api/v1/query_range?query=%7Bapp=%22shop%22%7D"));
    assert_eq!(found["data"]["result"][0]["values"][0][1], "kept");
}

const PUSH: &str = "/loki/api/v1/push";

#[track_caller]
fn push_json(url: &str, time: i64, line: &str, user: &str) {
    let push = json!({"streams": [{"stream": {"app": "shop"}, "values": [[time.to_string(), line, {"user": user}]]}]});
    let mut body = GzEncoder::new(Vec::new(), Compression::fast());
    body.write_all(push.to_string().as_bytes()).unwrap();
    let request = Request::post(url).header("content-type", "application/json").header("content-encoding", "gzip");
    let answer = http::send(request.body(Full::new(body.finish().unwrap().into())).unwrap()).unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

#[track_caller]
fn push_protobuf(url: &str, time: i64, line: &str, user: &str) {
    let mut push = Vec::new();
    put_stream(&mut push, r#"{app="shop"}"#, |out| put_entry(out, time, line, [("user", user)]));
    let answer = http::post(url, "application/x-protobuf", snappy::compress(&push)).unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// A websocket of its own: what comes is read frame by frame.
struct Tail(BufReader<TcpStream>);

impl Tail {
    #[track_caller]
    fn start(port: u16, query: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut tail = Self(BufReader::new(stream));
        let head = format!(
            "GET /loki/api/v1/tail?query={} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            http::encode(query)
        );
        tail.0.get_mut().write_all(head.as_bytes()).unwrap();
        let head: Vec<String> =
            tail.0.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        assert!(head[0].contains("101"), "{head:?}");
        tail
    }

    /// The next text.
    #[track_caller]
    fn next(&mut self) -> Value {
        loop {
            let mut head = [0; 2];
            self.0.read_exact(&mut head).unwrap();
            let len = match head[1] {
                126 => self.number::<2>(),
                127 => self.number::<8>(),
                len => u64::from(len),
            };
            let mut payload = vec![0; len as usize];
            self.0.read_exact(&mut payload).unwrap();
            // Pings come between.
            if head[0] == 0x81 {
                return serde_json::from_slice(&payload).unwrap();
            }
        }
    }

    fn number<const BYTES: usize>(&mut self) -> u64 {
        let mut bytes = [0; BYTES];
        self.0.read_exact(&mut bytes).unwrap();
        bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}
