//! `kill -9` while loaded: what was acknowledged is at the far end, and every page that was due has left, once.
//!
//! A page is sent again only where the log could not know that it had arrived. One page is on its way at a time, so that what the
//! log knows can be seen from outside: when another page comes, the end of the one before is in the log, and when a batch that was sent
//! after that is acknowledged, it is so durably.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::otlp::attribute;
use crate::support::sink::Sink;
use crate::support::watchbell::Watchbell;
use crate::support::webhook::{Delivery, Webhook};
use crate::support::{otlp, tick, until};

const KILLS: usize = 4;
const CLIENTS: usize = 4;
const RECORDS: usize = 50;
/// Long enough for an exporter's place to be saved.
const LIFE_MIN: Duration = Duration::from_secs(3);
/// Once, again after the kill, and once more where the machine is so busy that the place was saved a life later.
const TIMES_MAX: usize = 3;
/// Batches that a client sends without a pause.
const BURST: usize = 10;
const BURST_PAUSE: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(20);

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
    let alerting = webhook.alerting().replace("service_name", "order_id").replace("/hook'", "/0', timeout: 10m");
    let config = sink.exporter() + &alerting + "outbox: {sending_per_integration_max: 1}\n";
    let watchbell = Watchbell::start(&config, RULES);
    let ports = watchbell.ports();
    let load = Load::default();
    let mut kills = Vec::new();
    let watchbell = std::thread::scope(|scope| {
        let _stop = StopAtEnd(&load.stop);
        for client in 0..CLIENTS {
            let load = &load;
            scope.spawn(move || load.send(client, ports[1]));
        }
        (1..=KILLS).fold(watchbell, |watchbell, life| {
            let before = load.orders().len();
            let start = Instant::now();
            until("some batches between two kills", || {
                (load.orders().len() > before + 20 && start.elapsed() > LIFE_MIN).then_some(())
            });
            kills.push(tick());
            let dir = watchbell.server.kill();
            tell_life(dir.path(), life);
            Watchbell::start_in(dir, ports)
        })
    });
    check_far_end(&sink, &load.orders());
    check_pages(&webhook, &load.orders());
    check_repeated_pages(&webhook.deliveries(), &load.acknowledged.lock().unwrap(), &kills);
    drop(watchbell);
}

/// Has the next process send its pages to a path of its own.
fn tell_life(dir: &Path, life: usize) {
    let path = dir.join("config.yaml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace(&format!("/{}', timeout", life - 1), &format!("/{life}', timeout"))).unwrap();
}

/// Each acknowledged record has come; one that came again was on its way at a kill, or its exporter's place was not saved yet. No process
/// goes back behind the life before.
#[track_caller]
fn check_far_end(sink: &Sink, orders: &BTreeSet<String>) {
    let bodies = |order: &String| (0..RECORDS).map(|n| body(order, n)).collect::<Vec<_>>();
    let due: BTreeSet<_> = orders.iter().flat_map(bodies).collect();
    until(&format!("{} acknowledged records at the far end", due.len()), || {
        let come = sink.records();
        let come: BTreeSet<_> = come.iter().filter_map(|record| record["body"]["stringValue"].as_str()).collect();
        due.iter().all(|body| come.contains(body.as_str())).then_some(())
    });
    let mut times = BTreeMap::<String, usize>::new();
    for record in sink.records() {
        *times.entry(record["body"]["stringValue"].to_string()).or_default() += 1;
    }
    let too_often: Vec<_> = times.iter().filter(|(_, times)| **times > TIMES_MAX).take(5).collect();
    assert!(too_often.is_empty(), "came again after one kill and another: {too_often:?}");
}

/// A page for each acknowledged order, under one key.
#[track_caller]
fn check_pages(webhook: &Webhook, orders: &BTreeSet<String>) {
    let paged = || -> BTreeSet<String> {
        let pages = webhook.deliveries();
        pages.iter().filter_map(|page| page.body["groupLabels"]["order_id"].as_str().map(str::to_owned)).collect()
    };
    until(&format!("{} pages", orders.len()), || orders.is_subset(&paged()).then_some(()));
    let keys: BTreeSet<String> = webhook.deliveries().iter().map(key).collect();
    assert_eq!(keys.len(), paged().len(), "a page has one key, also when it is sent again");
}

/// No process has sent a page twice, and none has sent one whose arrival the log knew at the kill before.
#[track_caller]
fn check_repeated_pages(deliveries: &[Delivery], acknowledged: &[Acknowledged], kills: &[u64]) {
    let mut sent = BTreeSet::new();
    for delivery in deliveries {
        assert!(sent.insert((key(delivery), life(delivery))), "one process has sent {delivery:?} twice");
    }
    for first in
        deliveries.iter().filter(|first| sent.iter().any(|(key_, life_)| *key_ == key(first) && *life_ > life(first)))
    {
        let next = deliveries.iter().filter(|next| life(next) == life(first) && next.received > first.received);
        let Some(in_log) = next.map(|next| next.received).min() else { continue };
        let killed = kills[life(first)];
        let durable = acknowledged.iter().find(|batch| batch.sent > in_log && batch.answered < killed);
        assert!(durable.is_none(), "sent again, though {durable:?} came behind its outcome: {first:?}");
    }
}

fn key(delivery: &Delivery) -> String {
    delivery.headers["idempotency-key"].to_str().unwrap().to_owned()
}

/// Which process has sent it: the kills before.
fn life(delivery: &Delivery) -> usize {
    delivery.path.trim_start_matches('/').parse().unwrap()
}

/// Clients that send batch after batch, each until it is acknowledged.
#[derive(Default)]
struct Load {
    acknowledged: Mutex<Vec<Acknowledged>>,
    stop: AtomicBool,
}

/// A batch that was answered, and when it was first sent, and answered, by [`tick`].
#[derive(Debug)]
struct Acknowledged {
    order: String,
    sent: u64,
    answered: u64,
}

impl Load {
    fn orders(&self) -> BTreeSet<String> {
        self.acknowledged.lock().unwrap().iter().map(|batch| batch.order.clone()).collect()
    }

    fn send(&self, client: usize, port: u16) {
        for batch in 0.. {
            let order = format!("{client}-{batch}");
            let request = batch_of(&order);
            let sent = tick();
            while otlp::send(port, &request).is_none_or(|response| response.status != 200) {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(RETRY);
            }
            self.acknowledged.lock().unwrap().push(Acknowledged { order, sent, answered: tick() });
            if batch % BURST == BURST - 1 {
                std::thread::sleep(BURST_PAUSE);
            }
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
