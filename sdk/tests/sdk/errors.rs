//! What errors of every kind tell, and by what they are grouped.

use std::backtrace::Backtrace;
use std::error::Error;
use std::fmt;

use watchbell::test::{Capture, Record, capture};
use watchbell::tracing::{self, Level};

#[derive(Debug)]
struct Refused<'a> {
    by: &'a str,
    source: Option<std::io::Error>,
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by {}", self.by)
    }
}

impl Error for Refused<'_> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

const REFUSED: Refused<'static> = Refused { by: "payment", source: None };

fn text(record: &Record, key: &str) -> String {
    record.field(key).map(ToString::to_string).unwrap_or_default()
}

fn fingerprint(record: &Record) -> String {
    let fingerprint = text(record, "watchbell.exception.fingerprint");
    assert_eq!(fingerprint.len(), 16, "{record}");
    fingerprint
}

/// The record of an error that is logged.
fn told(log: impl FnOnce()) -> Record {
    let logs = capture();
    log();
    logs.records().into_iter().next().expect("a record")
}

#[test]
fn an_error_tells_its_type_and_sources() {
    let by = "them".to_owned(); // what it borrows does not matter
    let error = Refused { by: &by, source: Some(std::io::Error::other("away")) };
    let log = told(|| tracing::error!(err = watchbell::err!(error), "cannot charge"));
    assert_eq!(text(&log, "err"), "refused by them: away");
    assert_eq!(text(&log, "exception.type"), "sdk::errors::Refused");
    assert_eq!(text(&log, "exception.message"), "refused by them");
    let causes = "sdk::errors::Refused: refused by them\nCaused by: std::io::Error: away";
    assert_eq!(text(&log, "exception.stacktrace"), causes);
}

#[test]
fn a_text_may_stand_for_an_error() {
    #[watchbell::catch]
    fn fail() -> Result<(), String> {
        Err("no stock".to_owned())
    }
    let log = told(|| assert!(fail().is_err()));
    assert_eq!((text(&log, "exception.message").as_str(), log.field("exception.type")), ("no stock", None));
    assert_eq!(text(&told(|| tracing::error!(err = watchbell::err!("odd"), "x")), "exception.message"), "odd");
}

#[test]
fn an_error_that_tells_without_end_or_faultily_is_cut() {
    struct Odd;
    impl fmt::Debug for Odd {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            (0..1_000_000_000).try_for_each(|_| f.write_str("Odd { bytes: [0, 0, 0, 0, 0, 0, 0, 0]"))
        }
    }
    impl fmt::Display for Odd {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half a")?;
            Err(fmt::Error)
        }
    }
    impl Error for Odd {}
    let log = told(|| tracing::error!(err = watchbell::err!(Odd), "cannot charge"));
    assert_eq!(text(&log, "exception.message"), "half a");
}

#[test]
fn whatever_holds_an_error_is_one() {
    let io = || std::io::Error::other("away");
    let boxed: Box<dyn Error> = Box::new(io());
    let sent: Box<dyn Error + Send + Sync> = Box::new(REFUSED);
    let (anyhow, eyre) =
        (anyhow::Error::new(io()).context("cannot charge"), eyre::Report::new(io()).wrap_err("cannot charge"));
    let dynamic: &dyn Error = &io();
    for (type_name, message, log) in [
        ("std::io::Error", "away", told(|| tracing::error!(err = watchbell::err!(io()), "x"))),
        ("std::io::Error", "away", told(|| tracing::error!(err = watchbell::err!(Box::new(io())), "x"))),
        ("std::io::Error", "away", told(|| tracing::error!(err = watchbell::err!(std::sync::Arc::new(io())), "x"))),
        ("std::io::Error", "away", told(|| tracing::error!(err = watchbell::err!(&&io()), "x"))),
        ("std::io::Error", "away", told(|| tracing::error!(err = watchbell::err!(boxed), "x"))),
        ("std::io::Error", "away", told(|| tracing::error!(err = watchbell::err!(dynamic), "x"))),
        ("Refused", "refused by payment", told(|| tracing::error!(err = watchbell::err!(&sent), "x"))),
        ("std::io::Error", "cannot charge", told(|| tracing::error!(err = watchbell::err!(anyhow), "x"))),
        ("std::io::Error", "cannot charge", told(|| tracing::error!(err = watchbell::err!(&anyhow), "x"))),
        ("std::io::Error", "cannot charge", told(|| tracing::error!(err = watchbell::err!(eyre), "x"))),
        ("anyhow::Error", "odd", told(|| tracing::error!(err = watchbell::err!(anyhow::anyhow!("odd")), "x"))),
        ("eyre::Report", "odd", told(|| tracing::error!(err = watchbell::err!(eyre::eyre!("odd")), "x"))),
    ] {
        assert_eq!(
            (text(&log, "exception.type").as_str(), text(&log, "exception.message").as_str()),
            (type_name, message),
            "{log}"
        );
        assert_eq!(text(&log, "err").ends_with("away"), message == "cannot charge" || message == "away", "{log}");
    }
}

/// An error that keeps the backtrace of where it was made, as many do.
#[derive(Debug)]
#[expect(dead_code)]
struct Traced {
    backtrace: Backtrace,
}

impl fmt::Display for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("traced")
    }
}

impl Error for Traced {}

fn fail(by: u32) -> Traced {
    if by == 0 { Traced { backtrace: Backtrace::force_capture() } } else { fail_elsewhere(by - 1) }
}

#[inline(never)]
fn fail_elsewhere(by: u32) -> Traced {
    fail(by)
}

#[test]
fn a_backtrace_tells_the_services_own_functions() {
    let log = told(|| tracing::error!(err = watchbell::err!(fail(0)), "cannot charge"));
    let (stacktrace, frames) = (text(&log, "exception.stacktrace"), text(&log, "watchbell.exception.frames"));
    assert!(stacktrace.starts_with("sdk::errors::Traced: traced\n") && stacktrace.contains("core::"), "{stacktrace}");
    assert!(frames.starts_with("sdk::errors::fail ("), "{frames}");
    assert!(frames.contains("errors.rs:") && !frames.contains("std::") && !frames.contains("watchbell::"), "{frames}");
}

#[test]
fn an_error_has_the_fingerprint_of_where_it_comes_from() {
    let of = |by| {
        let error = fail(by);
        fingerprint(&told(|| tracing::error!(err = watchbell::err!(error), "told")))
    };
    let same: Vec<_> = (0..2).map(|_| of(0)).collect();
    assert_eq!(same[0], same[1]);
    assert_ne!(same[0], of(1), "by other functions");
}

#[test]
fn a_fingerprint_stays_over_lines_and_messages() {
    let first = fingerprint(&told(|| tracing::error!(err = watchbell::err!(REFUSED), "cannot charge")));
    let other_line =
        fingerprint(&told(|| tracing::error!(err = watchbell::err!(Refused { by: "x", source: None }), "still not")));
    assert_eq!(first, other_line);
    let other_fields =
        fingerprint(&told(|| tracing::error!(err = watchbell::err!(REFUSED), order_id = 1, "cannot charge")));
    let other_type =
        fingerprint(&told(|| tracing::error!(err = watchbell::err!(std::io::Error::other("x")), "cannot charge")));
    let other_source = Refused { by: "payment", source: Some(std::io::Error::other("x")) };
    let other_source = fingerprint(&told(|| tracing::error!(err = watchbell::err!(other_source), "cannot charge")));
    let other_target =
        fingerprint(&told(|| tracing::error!(target: "t", err = watchbell::err!(REFUSED), "cannot charge")));
    let all = [first, other_fields, other_type, other_source, other_target];
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "{all:?}");
}

#[watchbell::catch]
fn charge(order_id: u64) -> Result<u64, Refused<'static>> {
    let amount = (order_id > 0).then_some(7).ok_or(REFUSED)?;
    Ok(amount)
}

struct Shop {
    orders: Vec<u64>,
}

impl Shop {
    #[watchbell::catch("no last order", level = "warn")]
    fn last(&mut self) -> anyhow::Result<&mut u64> {
        self.orders.last_mut().ok_or_else(|| anyhow::anyhow!("empty"))
    }

    #[watchbell::catch]
    async fn settle<T: fmt::Debug + Copy>(&mut self, with: T) -> Result<T, Box<dyn Error + Send + Sync>> {
        let order = self.last()?;
        tokio::task::yield_now().await;
        charge(*order)?;
        Ok(with)
    }

    #[watchbell::catch]
    fn each(&self) -> Result<impl Iterator<Item = u64>, std::io::Error> {
        let first = self.orders.first().ok_or(std::io::ErrorKind::NotFound)?;
        Ok([*first].into_iter())
    }
}

#[test]
fn a_function_tells_its_error_and_hands_it_on() {
    let logs = capture();
    assert_eq!(charge(1).unwrap(), 7);
    assert!(logs.records().is_empty());
    assert_eq!(charge(0).unwrap_err().by, "payment");
    let log = logs.expect("`charge` failed");
    assert_eq!(logs.records().len(), 1);
    assert_eq!((log.level, text(&log, "exception.type").as_str()), (Level::ERROR, "sdk::errors::Refused"));
    assert_eq!(text(&log, "code.function.name"), "sdk::errors::charge");
    assert!(Shop { orders: vec![] }.each().is_err());
    logs.expect("`each` failed");
    assert_eq!(Shop { orders: vec![4] }.each().unwrap().next(), Some(4));
}

#[tokio::test]
async fn a_task_tells_its_error() {
    let logs = capture();
    let mut shop = Shop { orders: vec![1, 0] };
    *shop.last().unwrap() = 0;
    let settled = watchbell::task::spawn(async move { shop.settle("now").await.map_err(|error| error.to_string()) });
    assert_eq!(settled.await.unwrap(), Err("refused by payment".to_owned()));
    assert_eq!(text(&logs.expect("`settle` failed"), "exception.type"), "Refused");
    let mut shop = Shop { orders: vec![] };
    assert!(shop.settle(1).await.is_err());
    assert_eq!(logs.expect("no last order").level, Level::WARN);
}

#[watchbell::catch(panics)]
fn take(orders: &[u64]) -> Result<u64, Refused<'_>> {
    Ok(orders[0])
}

#[watchbell::catch("cannot take", panics)]
async fn take_later(orders: Vec<u64>) -> Result<u64, Refused<'static>> {
    tokio::task::yield_now().await;
    Ok(orders[0])
}

#[tokio::test]
async fn a_panic_is_told_if_it_is_asked_for() {
    let logs = capture();
    let of_panic = |logs: &Capture, message| {
        let log = logs.expect(message);
        assert_eq!(text(&log, "exception.type"), "panic");
        assert!(text(&log, "exception.message").contains("index out of bounds"), "{log}");
    };
    assert!(std::panic::catch_unwind(|| take(&[]).is_ok()).is_err(), "it goes on");
    of_panic(&logs, "`take` failed");
    assert!(watchbell::task::spawn(take_later(vec![])).await.unwrap_err().is_panic());
    of_panic(&logs, "cannot take");
    assert_eq!(take_later(vec![3]).await.unwrap(), 3);
}

#[test]
fn a_result_is_told_where_it_stands() {
    let logs = capture();
    let order_id = 17;
    let result: anyhow::Result<u8> =
        watchbell::log_err!(Err(anyhow::anyhow!("odd")), order_id, "cannot charge {order_id}");
    assert!(result.is_err());
    assert_eq!(text(&logs.expect("cannot charge 17"), "order_id"), "17");
    let fine = watchbell::log_err!(level: Level::WARN, charge(1), "never said");
    assert_eq!(fine.unwrap(), 7);
    assert_eq!(logs.records().len(), 1);
}

#[test]
fn what_is_marked_is_redacted() {
    #[derive(watchbell::redact::Redact)]
    enum Event<T> {
        Login {
            user: T,
            #[redact]
            password: T,
        },
        Key(u8, #[redact] T),
        Out,
    }
    let events = [Event::Login { user: "ada", password: "hunter2" }, Event::Key(1, "k"), Event::Out];
    let told = format!("{events:?}");
    assert_eq!(told, r#"[Login { user: "ada", password: [redacted] }, Key(1, [redacted]), Out]"#);
}
