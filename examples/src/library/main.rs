//! A library that logs, and the program that decides what becomes of it. The library depends on `tracing` alone: it names no backend, sets nothing
//! up, and costs a nanosecond where nobody listens.
//!
//! `cargo run -p watchbell-examples --bin library`

mod inventory;

use inventory::Inventory;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One part of the library is asked to say more, by the path of its module.
    let _guard = watchbell::builder().service_name("library").levels("warn,library::inventory=debug").init()?;
    let mut inventory = Inventory::with(3);
    for pieces in [2, 2] {
        if watchbell::log_err!(inventory.take(pieces), pieces, "the shop is closed").is_err() {
            break;
        }
    }
    Ok(())
}
