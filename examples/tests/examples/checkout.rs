//! Three services in one process, and a fault.

use std::io::{Read, Write};
use std::net::TcpStream;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::receiver::Receiver;
use super::{Service, command, string};

#[test]
fn a_failing_upstream_is_an_error_in_the_trace_of_its_order() {
    let receiver = Receiver::http();
    let mut checkout = command(env!("CARGO_BIN_EXE_checkout"), &receiver);
    checkout.args(["--rate", "0", "--console"]);
    let checkout = Service::start(checkout);
    let address = &checkout.address;
    assert_eq!(post(address, "/checkout"), 201);
    assert_eq!(post(address, "/demo/fail"), 204);
    assert_eq!(post(address, "/checkout"), 502);
    assert_eq!(post(address, "/demo/heal"), 204);
    assert_eq!(post(address, "/checkout"), 201);
    checkout.terminate();

    let failed = receiver.log("payment upstream answered 503");
    assert_eq!(failed.attribute("upstream"), string("payment"));
    assert_eq!(failed.attribute("order_id"), Some(Value::IntValue(10_002)));
    assert_eq!(receiver.logs().iter().filter(|log| log.body() == "order placed").count(), 2);

    let trace: Vec<Span> =
        receiver.spans().into_iter().filter(|span| span.trace_id == failed.record.trace_id).collect();
    let way = way_to_the_root(&trace, "POST /charge/{order_id}", 2); // from the payment upstream's own span
    assert_eq!(way, ["POST /charge/{order_id}", "POST", "place_order", "POST /checkout"]);
    assert_eq!(failed.record.span_id, span(&trace, "place_order", 1).span_id);
}

fn post(address: &str, path: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

/// The names of a span of this name and kind (2: server) and of those above it.
fn way_to_the_root(trace: &[Span], name: &str, kind: i32) -> Vec<String> {
    let mut way = vec![span(trace, name, kind)];
    while let Some(parent) = trace.iter().find(|span| span.span_id == way.last().expect("a span").parent_span_id) {
        way.push(parent);
    }
    way.into_iter().map(|span| span.name.clone()).collect()
}

fn span<'a>(trace: &'a [Span], name: &str, kind: i32) -> &'a Span {
    trace.iter().find(|span| span.name == name && span.kind == kind).unwrap_or_else(|| panic!("no span `{name}`"))
}
