//! `kill -9` while loaded: what was acknowledged is at the far end, and every page that was due has left, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::otlp::attribute;
use crate::support::sink::Sink;
use crate::support::watchbell::Watchbell;
use crate::support::webhook::Webhook;
use crate::support::{otlp, until};

const KILLS: usize = 4;
const CLIENTS: usize = 4;
const RECORDS: usize = 50;
const RETRY: Duration = Duration::from_millis(20);

/// Pages that may be on the wire at once, and so be sent again after a kill: `sending_per_integration_max`.
const IN_FLIGHT_MAX: usize = 16;

/// Each order is a group of its own that one error fires: one page is due a batch.
const RULES: &str = "
groups:
  - name: orders
    interval: 10m
    rules:
      - alert: OrderLost
        expr: sum by (order_id) (count_over_time({service_name=`crash`} | severity_number >= 17 [10m])) > 0
";

#[test]
fn nothing_acknowledged_is_lost_and_no_page_is_sent_twice() {
    let sink = Sink::start();
    let webhook = Webhook::start();
    let alerting = webhook.alerting().replace("service_name", "order_id");
    let watchbell = Watchbell::start(&(sink.exporter() + &alerting), RULES);
    let ports = watchbell.ports();
    let load = Load::default();
    let watchbell = std::thread::scope(|scope| {
        let _stop = StopAtEnd(&load.stop);
        for client in 0..CLIENTS {
            let load = &load;
            scope.spawn(move || load.send(client, ports[1]));
        }
        (0..KILLS).fold(watchbell, |watchbell, _| {
            let before = load.orders().len();
            until("some batches between two kills", || (load.orders().len() > before + 20).then_some(()));
            Watchbell::start_in(watchbell.server.kill(), ports)
        })
    });
    check_far_end(&sink, &load.orders());
    check_pages(&webhook, &load.orders());
    drop(watchbell);
}

/// Each acknowledged record has come; one that came twice was on its way at a kill.
#[track_caller]
fn check_far_end(sink: &Sink, orders: &BTreeSet<String>) {
    let bodies = |order: &String| (0..RECORDS).map(|n| body(order, n)).collect::<Vec<_>>();
    let due: BTreeSet<_> = orders.iter().flat_map(bodies).collect();
    until(&format!("{} acknowledged records at the far end", due.len()), || {
        let come = sink.records();
        let come: BTreeSet<_> = come.iter().filter_map(|record| record["body"]["stringValue"].as_str()).collect();
        due.iter().all(|body| come.contains(body.as_str())).then_some(())
    });
}

/// A page for each acknowledged order; a key that came twice was on its way at a kill.
#[track_caller]
fn check_pages(webhook: &Webhook, orders: &BTreeSet<String>) {
    let paged = || -> BTreeSet<String> {
        let pages = webhook.deliveries();
        pages.iter().filter_map(|page| page.body["groupLabels"]["order_id"].as_str().map(str::to_owned)).collect()
    };
    until(&format!("{} pages", orders.len()), || orders.is_subset(&paged()).then_some(()));
    let mut keys = BTreeMap::<_, usize>::new();
    for page in webhook.deliveries() {
        *keys.entry(page.headers["idempotency-key"].clone().to_str().unwrap().to_owned()).or_default() += 1;
    }
    let pages = paged().len();
    assert_eq!(keys.len(), pages, "a page has one key, also when it is sent again");
    let twice = keys.values().map(|count| count - 1).sum::<usize>();
    assert!(twice <= KILLS * IN_FLIGHT_MAX, "{twice} of {pages} pages were sent twice");
}

/// Clients that send batch after batch, each until it is acknowledged.
#[derive(Default)]
struct Load {
    acknowledged: Mutex<BTreeSet<String>>,
    stop: AtomicBool,
}

impl Load {
    fn orders(&self) -> BTreeSet<String> {
        self.acknowledged.lock().unwrap().clone()
    }

    fn send(&self, client: usize, port: u16) {
        for batch in 0.. {
            let order = format!("{client}-{batch}");
            let request = batch_of(&order);
            while otlp::send(port, &request).is_none_or(|response| response.status != 200) {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(RETRY);
            }
            self.acknowledged.lock().unwrap().insert(order);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Stops the clients, also where the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A request of one error, which names the order, and other records.
fn batch_of(order: &str) -> Value {
    let records = (0..RECORDS).map(|n| {
        let mut record = if n == 0 { otlp::error(&body(order, n)) } else { otlp::info(&body(order, n)) };
        record["attributes"] = [attribute("order.id", order)].into_iter().collect();
        record
    });
    otlp::logs("crash", records)
}

fn body(order: &str, record: usize) -> String {
    format!("order {order}, record {record}")
}
