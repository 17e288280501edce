//! A service asks the collector which records it is to make, while it runs: the checkout of `examples`, under its own load.

use std::path::Path;

use http::{Request, StatusCode, header};

use crate::support::peer::Server;
use crate::support::watchbell::{self, Watchbell};
use crate::support::{http as client, until};

#[test]
fn a_reload_of_the_collector_changes_what_a_service_logs() {
    let watchbell = Watchbell::start("levels: {checkout: 'warn', '*': 'info'}\n", "groups: []\n");
    let url = watchbell.api_url("/api/v1/levels/checkout");
    let arguments = [
        "WATCHBELL_LEVELS_INTERVAL=1000".to_owned(),
        format!("WATCHBELL_LEVELS_URL={url}"),
        format!("OTEL_EXPORTER_OTLP_ENDPOINT={}", watchbell.http_url("")),
        watchbell::binary().with_file_name("checkout").display().to_string(),
    ];
    let _checkout = Server::start(Path::new("env"), &arguments, |_| ());
    let log = || std::fs::read_to_string(_checkout.path().join("log")).unwrap();
    until("the service has asked", || log().contains("the levels are `warn`").then_some(()));
    assert!(!has_record(&watchbell, "stock reserved"), "DEBUG is not made");

    let config = watchbell.server.path().join("config.yaml");
    let changed =
        std::fs::read_to_string(&config).unwrap().replace("checkout: 'warn'", "checkout: 'info,checkout=debug'");
    std::fs::write(&config, changed).unwrap();
    assert_eq!(client::post(&watchbell.api_url("/-/reload"), "text/plain", "").unwrap().text(), "Reloaded.\n");
    until("a DEBUG record of the service", || has_record(&watchbell, "stock reserved").then_some(()));

    let answer = client::get(&url).unwrap();
    assert_eq!(answer.text(), "info,checkout=debug");
    let again = Request::get(&url).header(header::IF_NONE_MATCH, &answer.headers[header::ETAG]);
    assert_eq!(client::send(again.body(Default::default()).unwrap()).unwrap().status, StatusCode::NOT_MODIFIED);
    assert_eq!(client::get(&watchbell.api_url("/api/v1/levels/cart")).unwrap().text(), "info");
}

fn has_record(watchbell: &Watchbell, text: &str) -> bool {
    let query = format!(r#"{{service_name="checkout"}} |= "{text}""#);
    let path = format!("/loki/api/v1/query_range?limit=1&query={}", client::encode(&query));
    !client::get_json(&watchbell.api_url(&path))["data"]["result"].as_array().unwrap().is_empty()
}
