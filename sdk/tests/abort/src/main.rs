//! Logs, and panics where that is the end of the process; with `deliver`, only delivers what is on disk.

fn main() {
    let _guard = watchbell::init().expect("the only init of this process");
    if std::env::args().nth(1).as_deref() != Some("deliver") {
        tracing::info_span!("request").in_scope(|| {
            tracing::info!("last words");
            panic!("out of stock");
        });
    }
}
