//! Loki's API of a collector that runs: what is pushed in is answered, judged and followed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;

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
use crate::support::{DEADLINE, free_port, http, otlp, root, until_equal};

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

/// Clients show entries as they come, whatever streams they are of.
#[test]
fn who_follows_the_log_is_told_in_the_order_of_time() {
    let watchbell = Watchbell::start("", "groups: []\n");
    let now = otlp::now_nanos() as i64;
    let push = |first: i64| {
        let values = |times: [i64; 2]| json!(times.map(|time| [(now + time).to_string(), format!("line {time}")]));
        let stream = |env: &str, times| json!({"stream": {"app": "shop", "env": env}, "values": values(times)});
        let push = json!({"streams": [stream("a", [first + 3, first + 1]), stream("b", [first, first + 2])]});
        let answer = http::post(&watchbell.api_url(PUSH), "application/json", push.to_string()).unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
    };
    let told = |message: Value| {
        let streams = message["streams"].as_array().unwrap().clone();
        let lines = streams.iter().flat_map(|stream| stream["values"].as_array().unwrap());
        lines.map(|entry| entry[1].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    push(0);
    let mut tail = Tail::start(watchbell.api, r#"{app="shop"}"#);
    assert_eq!(told(tail.next()), ["line 0", "line 1", "line 2", "line 3"]);
    push(4);
    assert_eq!(told(tail.next()), ["line 4", "line 5", "line 6", "line 7"]);
}

/// What the page tells to type is typed, with the requests that `curl`, `logcli` and Grafana make of it.
#[test]
fn the_examples_of_the_page_work() {
    let page = fs::read_to_string(root().join("docs/loki-api.md")).unwrap();
    let watchbell = Watchbell::start("", "groups: []\n");
    let blocks = |language: &str| {
        let opening = format!("\n```{language}\n");
        let blocks = page.split(&opening).skip(1);
        blocks.map(|block| block.split("\n```").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let url = |url: &str| {
        let [_, http, api] = watchbell.ports();
        url.replace(":4318", &format!(":{http}")).replace(":9430", &format!(":{api}"))
    };
    let mut typed: Vec<String> = Vec::new();
    for command in blocks("sh").iter().flat_map(|block| arguments(block)) {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        match command[..] {
            ["curl", "-i", to, "-H", "Content-Type: application/json", "-d", body] => {
                assert_eq!(http::post(&url(to), "application/json", body.to_owned()).unwrap().status, 204, "{body}");
            }
            ["logcli", "--addr", to, ref asked @ ..] => ask_as_logcli(&url(to), watchbell.api, asked),
            _ => panic!("nobody knows what {command:?} asks"),
        }
        typed.push(command[0].to_owned());
    }
    assert_eq!(typed, ["curl", "logcli", "logcli", "logcli"]);

    let provisioned: Value = serde_saphyr::from_str(&blocks("yaml")[0]).unwrap();
    let source = &provisioned["datasources"][0];
    assert_eq!((&source["type"], &source["url"]), (&json!("loki"), &json!("http://watchbell:9430")));
    let health = "/loki/api/v1/query?direction=backward&query=vector%281%29%2Bvector%281%29&time=4000000000";
    let request = Request::get(watchbell.api_url(health)).header("X-Loki-Response-Encoding-Flags", "categorize-labels");
    let health = http::send(request.body(Full::default()).unwrap()).unwrap().json();
    assert_eq!(health["data"]["result"], json!([{"metric": {}, "value": [4_000_000_000_u32, "2"]}]));
}

#[test]
fn the_paths_of_the_page_are_there() {
    let page = fs::read_to_string(root().join("docs/loki-api.md")).unwrap();
    let watchbell = Watchbell::start("", "groups: []\n");
    let (_, section) = page.split_once("\n## Asking\n").unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let paths: Vec<&str> = cells.flat_map(|cell| cell.split('`').step_by(2)).filter(|path| !path.is_empty()).collect();
    assert!(paths.len() > 12, "{paths:?}");
    for path in paths {
        let answer = http::get(&watchbell.api_url(&format!("/loki/api/v1/{path}"))).unwrap();
        assert_ne!(answer.status, 404, "{path}: {}", answer.text());
    }
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

/// The commands of a script, each with its arguments, as a shell reads them.
fn arguments(script: &str) -> Vec<Vec<String>> {
    let tell = |name: &str| format!("{name}() {{ printf '%s\\0' {name} \"$@\"; printf '\\n\\0'; }}\n");
    let output = Command::new("sh").arg("-c").arg(tell("curl") + &tell("logcli") + script).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    let mut words = told.split_terminator('\0').map(str::to_owned);
    let mut commands = Vec::new();
    while let Some(first) = words.next() {
        commands.push(std::iter::once(first).chain(words.by_ref().take_while(|word| word != "\n")).collect());
    }
    commands
}

/// With the parameters that `logcli` sends; what was pushed is in the answer.
#[track_caller]
fn ask_as_logcli(addr: &str, port: u16, asked: &[&str]) {
    let now = otlp::now_nanos();
    let hour = 3_600_000_000_000;
    let (expr, start) = (http::encode(asked.last().unwrap()), now - hour);
    let answer = match asked {
        ["query", "--tail", _] => Tail::asking(port, &format!("limit=30&query={expr}&start={start}")).next(),
        ["query", _] => http::get_json(&format!(
            "{addr}/loki/api/v1/query_range?direction=BACKWARD&end={now}&limit=30&query={expr}&start={start}"
        )),
        ["instant-query", _] => {
            http::get_json(&format!("{addr}/loki/api/v1/query?direction=BACKWARD&limit=30&query={expr}&time={now}"))
        }
        _ => panic!("nobody knows what logcli makes of {asked:?}"),
    };
    let found = [
        &answer["streams"][0]["stream"],
        &answer["data"]["result"][0]["stream"],
        &answer["data"]["result"][0]["metric"],
    ];
    assert!(found.iter().any(|labels| labels["app"] == "shop"), "{asked:?}: {answer}");
}

/// A websocket of its own: what comes is read frame by frame.
struct Tail(BufReader<TcpStream>);

impl Tail {
    #[track_caller]
    fn start(port: u16, query: &str) -> Self {
        Self::asking(port, &format!("query={}", http::encode(query)))
    }

    #[track_caller]
    fn asking(port: u16, parameters: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut tail = Self(BufReader::new(stream));
        let head = format!(
            "GET /loki/api/v1/tail?{parameters} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
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
