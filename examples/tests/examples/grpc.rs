//! The gRPC pair: a call is one trace, and one line at each side.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::receiver::{Receiver, attributes};
use super::{Service, command, string};

#[test]
fn a_call_is_one_trace_and_a_line_at_each_side() {
    let receiver = Receiver::grpc();
    let server = Service::start(command(env!("CARGO_BIN_EXE_grpc-server"), &receiver));
    let calls = [("mug", "2", 0), ("unicorn", "1", 5), ("mug", "99", 9), ("lamp", "1", 14)];
    for (item, pieces, status) in calls {
        let mut client = command(env!("CARGO_BIN_EXE_grpc-client"), &receiver);
        client.args([&format!("http://{}", server.address), item, pieces]);
        assert_eq!(client.output().expect("the program").status.success(), status == 0, "{item} {pieces}");
    }
    server.terminate();

    for (_, _, status) in calls {
        let (client, server) = (span(&receiver, 3, status), span(&receiver, 2, status));
        assert_eq!((&server.trace_id, &server.parent_span_id), (&client.trace_id, &client.span_id));
        assert_eq!(severity(&receiver, "shop", &client), if status == 0 { 9 } else { 13 }, "{status}: whoever asked");
        assert_eq!(severity(&receiver, "stock", &server), if status == 14 { 13 } else { 9 }, "{status}: its own fault");
    }
    assert_eq!(receiver.log("reserved").attribute("left"), Some(Value::IntValue(10)));
    assert_eq!(receiver.log("reserved").record.span_id, span(&receiver, 2, 0).span_id);
    assert_eq!(receiver.log("ordered").record.trace_id, span(&receiver, 2, 0).trace_id);
    let told = receiver.logs().into_iter().filter(|log| log.body() == "cannot reserve");
    let told: Vec<_> = told.filter_map(|log| log.attribute("exception.message")).map(Some).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    let text = format!("{told:?}");
    assert!(text.contains("99 of `mug` are wanted, 12 are there") && text.contains("there is no `unicorn`"), "{text}");
}

/// The one span of that kind (2: server, 3: client) with that status of gRPC.
fn span(receiver: &Receiver, kind: i32, status: i64) -> Span {
    let has_status = |span: &Span| {
        attributes(&span.attributes).get("rpc.grpc.status_code") == Some(&Value::IntValue(status)) && span.kind == kind
    };
    let mut found: Vec<_> = receiver.spans().into_iter().filter(has_status).collect();
    assert_eq!((found.len(), found[0].name.as_str()), (1, "stock.Stock/Reserve"), "of kind {kind}, status {status}");
    found.remove(0)
}

/// The severity of the one line that a service tells of this span's request.
fn severity(receiver: &Receiver, service: &str, span: &Span) -> i32 {
    let is_it = |log: &super::receiver::Received| {
        log.scope == "watchbell::access"
            && log.record.span_id == span.span_id
            && log.resource.get("service.name").cloned() == string(service)
    };
    let found: Vec<_> = receiver.logs().into_iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "lines of {service}");
    found[0].record.severity_number
}
