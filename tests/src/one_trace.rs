//! One request through four services, those of `examples`: Node, Rust, and Python with Loguru and with the standard `logging`. It is one trace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;

use crate::support::peer::{Server, folder};
use crate::support::sink::Sink;
use crate::support::watchbell::{self, Watchbell};
use crate::support::{free_port, http, root, until};

#[test]
fn a_request_is_one_trace_through_node_rust_and_python() {
    let sink = Sink::start();
    let watchbell = Watchbell::start(&sink.exporter(), "groups: []\n");
    let services = Services::start(&watchbell);
    let (status, placed) = services.buy(14);
    assert_eq!(status, 201);
    let (status, refused) = services.buy(26);
    assert_eq!(status, 402);
    services.terminate();

    let told = records(&watchbell, &placed);
    let lines =
        |service: &str| told.get(service).map(|records| records.iter().map(|(line, _)| line.as_str()).collect());
    assert_eq!(lines("storefront"), Some(vec!["order wanted"]));
    assert_eq!(
        lines("orders"),
        Some(vec!["POST 127.0.0.1 204", "POST 127.0.0.1 204", "order placed", "POST /orders/{id} 201"])
    );
    assert_eq!(lines("stock"), Some(vec!["the shelf is nearly empty", "reserved"]));
    assert_eq!(lines("payment"), Some(vec!["charged"]));

    let told = records(&watchbell, &refused);
    let (line, attributes) = &told["payment"][0];
    assert_eq!((line.as_str(), &attributes["exception_type"]), ("payment refused", &"ValueError".into()));
    assert_eq!(told["storefront"][1].0, "the order was answered by 402");
    for (service, records) in told {
        let without =
            |(line, attributes): &&(String, Value)| !line.starts_with("POST ") && attributes["order_id"] != "26";
        assert_eq!(records.iter().find(without), None, "what {service} tells of the order names it");
    }
    for trace in [placed, refused] {
        let spans = until("the spans of all services", || Some(spans(&sink, &trace)).filter(|spans| spans.len() == 6));
        let ids: BTreeSet<_> = spans.iter().map(|span| span["spanId"].as_str()).collect();
        let roots: Vec<_> = spans.iter().filter(|span| !ids.contains(&span["parentSpanId"].as_str())).collect();
        assert_eq!(roots.len(), 1, "{roots:#?}");
        assert_eq!(roots[0]["name"], "POST /buy/{id}");
    }
}

/// The four, each with a name and a port of its own.
struct Services {
    servers: Vec<Server>,
    storefront: u16,
}

impl Services {
    fn start(watchbell: &Watchbell) -> Self {
        let [storefront, orders, stock, payment] = std::array::from_fn(|_| free_port());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let python = folder("python-examples").join("venv/bin/python");
        let script = |name: &str| root().join("examples/python").join(name);
        let node = tempfile::tempdir_in(folder("node-examples")).unwrap(); // imports are looked up from where it lies
        std::fs::copy(root().join("examples/node/storefront.mjs"), node.path().join("storefront.mjs")).unwrap();
        let rust = watchbell::binary().with_file_name("orders");
        let start = |name: &str, port: u16, program: &[&str]| {
            let mut arguments = vec![format!("OTEL_SERVICE_NAME={name}")];
            arguments.push(format!("OTEL_EXPORTER_OTLP_ENDPOINT={}", url(watchbell.http)));
            arguments.extend(program.iter().map(|&argument| argument.to_owned()));
            let server = Server::start(Path::new("env"), &arguments, |_| ());
            until(name, || TcpStream::connect(("127.0.0.1", port)).ok());
            server
        };
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let servers = vec![
            start("stock", stock, &[&text(&python), &text(&script("stock.py")), &stock.to_string()]),
            start("payment", payment, &[&text(&python), &text(&script("payment.py")), &payment.to_string()]),
            start("orders", orders, &[&text(&rust), &format!("127.0.0.1:{orders}"), &url(stock), &url(payment)]),
            start(
                "storefront",
                storefront,
                &["node", &text(&node.path().join("storefront.mjs")), &storefront.to_string(), &url(orders)],
            ),
        ];
        Self { servers, storefront }
    }

    /// The answer's status, and the trace that the request was.
    fn buy(&self, order: u64) -> (u16, String) {
        let url = format!("http://127.0.0.1:{}/buy/{order}", self.storefront);
        let answer = http::post(&url, "text/plain", String::new()).expect("an answer");
        (answer.status.as_u16(), answer.headers["x-trace-id"].to_str().unwrap().to_owned())
    }

    /// What they logged has been sent then.
    fn terminate(self) {
        for mut server in self.servers {
            assert_eq!(server.terminate(), Some(0), "{}", server.log());
        }
    }
}

/// The records of a trace that the collector holds: lines and attributes by service, in the order of time.
fn records(watchbell: &Watchbell, trace: &str) -> BTreeMap<String, Vec<(String, Value)>> {
    let query = format!(r#"{{service_name=~".+"}} | trace_id = "{trace}""#);
    let path = format!("/loki/api/v1/query_range?direction=forward&query={}", http::encode(&query));
    let answer = http::get_json(&watchbell.api_url(&path));
    let mut records = vec![];
    for stream in answer["data"]["result"].as_array().unwrap() {
        for value in stream["values"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            records.push((
                text(&value[0]),
                text(&stream["stream"]["service_name"]),
                text(&value[1]),
                stream["stream"].clone(),
            ));
        }
    }
    records.sort_by(|a, b| a.0.cmp(&b.0));
    let mut by_service = BTreeMap::<_, Vec<_>>::new();
    for (_, service, line, attributes) in records {
        by_service.entry(service).or_default().push((line, attributes));
    }
    by_service
}

/// The spans of a trace that came to the far end.
fn spans(sink: &Sink, trace: &str) -> Vec<Value> {
    let below = |values: Vec<Value>, key: &str| -> Vec<Value> {
        values.iter().flat_map(|value| value[key].as_array().cloned().unwrap_or_default()).collect()
    };
    let spans = ["resourceSpans", "scopeSpans", "spans"].into_iter().fold(sink.requests(), below);
    spans.into_iter().filter(|span| span["traceId"] == trace).collect()
}
