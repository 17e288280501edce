//! A shop's checkout that calls an inventory and a payment upstream: three HTTP servers in one process, under a load of its own.
//!
//! The payment upstream can be made to fail and to heal, by a schedule (`--fail-after 15s --heal-after 45s`) or by hand
//! (`curl -X POST http://ADDRESS/demo/fail`, `.../demo/heal`). All that it does to be watched: the guard in `main`, `tracing`'s
//! macros, and a layer of `watchbell::middleware` where a request comes in or goes out.

mod flags;
mod inventory;
mod load;
mod payment;
mod shop;
mod web;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::flags::Flags;
use crate::payment::Provider;

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse()?;
    let _guard = watchbell::builder().service_name("checkout").console(flags.console).init()?;
    let runtime = Runtime::new()?; // dropped before the guard, which then sends the last records too
    runtime.block_on(run(flags))
}

async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let provider = Arc::new(Provider::default());
    let inventory = web::serve(web::FREE_PORT, inventory::app()).await?;
    let payment = web::serve(web::FREE_PORT, payment::app(Arc::clone(&provider))).await?;
    let shop = web::serve(flags.address, shop::app(inventory, payment, Arc::clone(&provider))).await?;
    tracing::info!(address = %shop, "the checkout is open");

    tokio::spawn(load::run(shop, flags.rate));
    tokio::spawn(schedule(provider, flags.fail_after, flags.heal_after));
    until_the_end(flags.duration).await?;
    tracing::info!("the checkout closes");
    Ok(())
}

/// Lets the payment upstream fail and heal, each that long after the start.
async fn schedule(provider: Arc<Provider>, fail_after: Option<Duration>, heal_after: Option<Duration>) {
    let fail = async {
        if let Some(after) = fail_after {
            sleep(after).await;
            provider.fail();
        }
    };
    let heal = async {
        if let Some(after) = heal_after {
            sleep(after).await;
            provider.heal();
        }
    };
    tokio::join!(fail, heal);
}

/// Waits for the duration's end, or for Ctrl-C or SIGTERM.
async fn until_the_end(duration: Option<Duration>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        () = sleep(duration.unwrap_or_default()), if duration.is_some() => {}
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    Ok(())
}
