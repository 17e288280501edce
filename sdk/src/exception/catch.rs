//! What the code calls that `#[catch]` writes.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::panic::message;

/// Calls a function's body: that it is called once lets it hand out what it borrows.
pub fn call<R>(body: impl FnOnce() -> R) -> R {
    body()
}

/// The same, with `told` called with the message of a panic, which then goes on.
pub fn call_told<R>(body: impl FnOnce() -> R, told: impl FnOnce(&str)) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| go_on(panic, told))
}

/// The same of a future.
pub fn poll_told<F: Future, T: Fn(&str)>(future: F, told: T) -> PanicsTold<F, T> {
    PanicsTold { future, told }
}

/// A value of the type that a function returns, for code that never runs.
pub fn never<T>() -> T {
    unreachable!("it gives a type its name")
}

fn go_on(panic: Box<dyn Any + Send>, told: impl FnOnce(&str)) -> ! {
    told(message(&*panic));
    resume_unwind(panic)
}

pin_project! {
    pub struct PanicsTold<F, T> {
        #[pin]
        future: F,
        told: T,
    }
}

impl<F: Future, T: Fn(&str)> Future for PanicsTold<F, T> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let poll = AssertUnwindSafe(|| this.future.poll(context));
        catch_unwind(poll).unwrap_or_else(|panic| go_on(panic, &*this.told))
    }
}
