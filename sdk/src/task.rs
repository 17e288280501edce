//! Tasks and threads that stay in the trace, and in the [context](mod@crate::context), they were started in.
//!
//! `tokio::spawn` starts a task outside of all spans: its records have no trace. These are tokio's own functions but for that.
//!
//! ```
//! # async fn charge() {}
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let charged = watchbell::task::spawn(async {
//!     tracing::info!("in the trace of whoever spawned it");
//!     charge().await
//! });
//! charged.await.unwrap();
//! # });
//! ```

use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tracing::dispatcher::{get_default, with_default};
use tracing::instrument::WithSubscriber;
use tracing::{Instrument, Span};

use crate::context::Context;

/// `tokio::spawn`, in the current span and subscriber. Panics outside of a runtime, as that does.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let task = watchbell::task::spawn(async { tracing::info!("in the trace of whoever spawned it") });
/// # task.await.unwrap();
/// # });
/// ```
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(here(future))
}

/// `tokio::task::spawn_local`, in the current span and subscriber: for a future that stays in its thread. Panics outside of a `LocalSet`, as that does.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// tokio::task::LocalSet::new().block_on(&runtime, async {
///     let cart = std::rc::Rc::new(17);
///     let task = watchbell::task::spawn_local(async move { tracing::info!(%cart, "in the trace of whoever spawned it") });
///     task.await.unwrap();
/// });
/// ```
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: 'static> + 'static,
{
    tokio::task::spawn_local(here(future))
}

/// `JoinSet::spawn`, in the current span and subscriber. Panics outside of a runtime, as that does.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mut tasks = tokio::task::JoinSet::new();
/// for order_id in [17, 18] {
///     watchbell::task::spawn_in(&mut tasks, async move { tracing::info!(order_id, "in the trace of whoever spawned it") });
/// }
/// tasks.join_all().await;
/// # });
/// ```
pub fn spawn_in<T: Send + 'static>(
    tasks: &mut JoinSet<T>,
    future: impl Future<Output = T> + Send + 'static,
) -> AbortHandle {
    tasks.spawn(here(future))
}

/// The future, in what is current where it is made.
fn here<F: Future>(future: F) -> impl Future<Output = F::Output> {
    Context::current().scope(future.in_current_span().with_current_subscriber())
}

/// `tokio::task::spawn_blocking`, in the current span and subscriber. Panics outside of a runtime, as that does.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let rates = watchbell::task::spawn_blocking(|| std::fs::read_to_string("rates")).await;
/// # drop(rates);
/// # });
/// ```
pub fn spawn_blocking<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    tokio::task::spawn_blocking(carried(f))
}

/// The function, to be called in another thread: what it logs is in the span and subscriber that are current here.
///
/// ```
/// let worker = std::thread::spawn(watchbell::task::carried(|| tracing::info!("in the trace of whoever started it")));
/// worker.join().unwrap();
/// ```
pub fn carried<R>(f: impl FnOnce() -> R) -> impl FnOnce() -> R {
    let (context, span, dispatch) = (Context::current(), Span::current(), get_default(Clone::clone));
    move || context.in_scope(|| with_default(&dispatch, || span.in_scope(f)))
}
