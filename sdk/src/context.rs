//! Fields for a scope: on every record that is made inside of it, by whatever door, also across `await`.
//!
//! ```
//! # use watchbell::tracing;
//! # let logs = watchbell::test::capture();
//! let user_id = 17;
//! let context = watchbell::context!(user_id, request.id = "a-1");
//! context.in_scope(|| tracing::info!("order placed")); // user_id=17 request.id=a-1
//! # assert_eq!(logs.expect("order placed").field("request.id"), Some(&"a-1".into()));
//! ```

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use pin_project_lite::pin_project;
use watchbell_proto::wire::{Fields, Value as Wire, put_bytes_field, put_fixed64_field, put_varint_field};

use crate::callsite::put_attribute;
use crate::encode::put_value;
use crate::limits::{VALUE_BYTES_MAX, cut};
use crate::record::put_text_field;
use crate::view::{ATTRIBUTES, key_value, key_values};

/// Most bytes of a context's fields (64 KiB); a field beyond is left out, and counted as a dropped attribute of each record.
const CONTEXT_BYTES_MAX: usize = 64 * 1024;

/// Fields that are to be on every record of a scope; made by [`context!`](crate::context!).
///
/// Its fields are encoded once, and copied into each record. A record's own field wins over one of the same name, an inner context's over an outer's.
/// [`task::spawn`](crate::task::spawn) and [`task::carried`](crate::task::carried) take the current context along; to another thread or task one brings
/// it like any value.
///
/// ```
/// use watchbell::context::Context;
/// use watchbell::tracing;
///
/// # let logs = watchbell::test::capture();
/// /// A part of the service that says of each record which part it is.
/// struct Stock {
///     log: Context,
/// }
///
/// impl Stock {
///     fn reserve(&self) {
///         self.log.in_scope(|| tracing::info!("stock reserved"));
///     }
/// }
///
/// let stock = Stock { log: watchbell::context!(component = "stock", warehouse = 3) };
/// stock.reserve();
/// # assert_eq!(logs.expect("stock reserved").field("warehouse"), Some(&3.into()));
/// ```
#[derive(Clone, Default)]
pub struct Context {
    /// As fields of a `LogRecord`.
    attributes: Option<Arc<[u8]>>,
    left_out: u32,
}

thread_local!(static CURRENT: RefCell<Context> = const { RefCell::new(Context { attributes: None, left_out: 0 }) });

impl Context {
    /// The context that the thread is in; an empty one if it is in none.
    ///
    /// ```
    /// let context = watchbell::context::Context::current(); // to be taken along to another thread
    /// std::thread::spawn(move || context.in_scope(|| tracing::info!("in the context of whoever started it"))).join().unwrap();
    /// ```
    pub fn current() -> Self {
        CURRENT.try_with(|current| current.borrow().clone()).unwrap_or_default() // none where the thread is ending
    }

    /// The same with one field more, or with another value of it. [`context!`](crate::context!) is shorter.
    ///
    /// ```
    /// let context = watchbell::context::Context::current().with("tenant.id", "acme");
    /// ```
    pub fn with(self, key: &str, value: impl FieldValue) -> Self {
        let mut attributes = Vec::new();
        let known = self.attributes.as_deref().unwrap_or_default();
        for field in Fields::new(known) {
            if let (ATTRIBUTES, Wire::Bytes(attribute)) = field
                && key_value(attribute).0 != key
            {
                put_bytes_field(&mut attributes, ATTRIBUTES, attribute);
            }
        }
        put_attribute(&mut attributes, key, |out| value.put(out));
        if attributes.len() > CONTEXT_BYTES_MAX {
            return Self { left_out: self.left_out + 1, ..self };
        }
        Self { attributes: Some(attributes.into()), ..self }
    }

    /// Calls `f` in this context.
    ///
    /// ```
    /// # let logs = watchbell::test::capture();
    /// watchbell::context!(order_id = 17).in_scope(|| tracing::info!("order placed"));
    /// # assert_eq!(logs.expect("order placed").field("order_id"), Some(&17.into()));
    /// ```
    pub fn in_scope<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = self.enter();
        f()
    }

    /// Enters this context until the guard is dropped. Not to be held over an `await`, where another task would be in it: use
    /// [`scope`](Self::scope) there.
    ///
    /// ```
    /// let _context = watchbell::context!(order_id = 17).enter();
    /// ```
    pub fn enter(&self) -> Entered {
        Entered { outer: replace(self.clone()), _not_send: PhantomData }
    }

    /// The future, in this context whenever it runs.
    ///
    /// ```
    /// # async fn charge() {}
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// watchbell::context!(order_id = 17).scope(async { charge().await }).await;
    /// # });
    /// ```
    pub fn scope<F: Future>(self, future: F) -> InContext<F> {
        InContext { future, context: self }
    }
}

/// The fields: `user_id=17 request.id=a-1`
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.attributes.as_deref().unwrap_or_default();
        key_values(known, ATTRIBUTES).enumerate().try_for_each(|(i, (key, value))| {
            let space = if i > 0 { " " } else { "" };
            write!(f, "{space}{key}={value}")
        })
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Context").field(&format_args!("{self}")).finish()
    }
}

fn replace(context: Context) -> Context {
    CURRENT.try_with(|current| current.replace(context)).unwrap_or_default()
}

/// Calls `f` with the current context's encoded fields, and how many were left out, if there are any of either.
#[inline]
pub(crate) fn with_current(f: impl FnOnce(&[u8], u32)) {
    let _ = CURRENT.try_with(|current| {
        if let Ok(current) = current.try_borrow()
            && (current.attributes.is_some() || current.left_out > 0)
        {
            f(current.attributes.as_deref().unwrap_or_default(), current.left_out);
        }
    });
}

/// A context that was entered; dropping it leaves it.
///
/// ```
/// let entered: watchbell::context::Entered = watchbell::context!(order_id = 17).enter();
/// drop(entered);
/// ```
#[must_use = "dropping it leaves the context at once"]
#[derive(Debug)]
pub struct Entered {
    outer: Context,
    _not_send: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        replace(std::mem::take(&mut self.outer));
    }
}

pin_project! {
    /// A future in a context; made by [`Context::scope`].
    ///
    /// ```
    /// let future: watchbell::context::InContext<_> = watchbell::context!(order_id = 17).scope(async { 1 });
    /// # drop(future);
    /// ```
    #[derive(Debug)]
    pub struct InContext<F> {
        #[pin]
        future: F,
        context: Context,
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.context.enter();
        this.future.poll(context)
    }
}

/// What a context's field may be: a number, a truth value, a text; anything else by its `Display` or `Debug`, as in `context!(%path, ?state)`.
///
/// ```
/// let id: u64 = 17;
/// let context = watchbell::context!(id, share = 0.5, paid = true, user = "ada", state = ?Some(1));
/// assert_eq!(context.to_string(), "id=17 share=0.5 paid=true user=ada state=Some(1)");
/// ```
pub trait FieldValue {
    /// Appends the value as the content of OpenTelemetry's `AnyValue`.
    #[doc(hidden)]
    fn put(&self, out: &mut Vec<u8>);
}

impl FieldValue for str {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes_field(out, 1, cut(self).as_bytes());
    }
}

impl FieldValue for String {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_str().put(out);
    }
}

impl FieldValue for bool {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint_field(out, 2, u64::from(*self));
    }
}

impl FieldValue for f64 {
    fn put(&self, out: &mut Vec<u8>) {
        put_fixed64_field(out, 4, self.to_bits());
    }
}

impl FieldValue for f32 {
    fn put(&self, out: &mut Vec<u8>) {
        f64::from(*self).put(out);
    }
}

impl FieldValue for opentelemetry::Value {
    fn put(&self, out: &mut Vec<u8>) {
        put_value(out, self, VALUE_BYTES_MAX);
    }
}

impl FieldValue for fmt::Arguments<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        put_text_field(out, *self, VALUE_BYTES_MAX);
    }
}

impl<T: FieldValue + ?Sized> FieldValue for &T {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

/// Integers beyond 64 signed bits are texts, whole: OTLP has none of these.
macro_rules! integers {
    ($($type:ty)*) => {
        $(impl FieldValue for $type {
            fn put(&self, out: &mut Vec<u8>) {
                match i64::try_from(*self) {
                    Ok(value) => put_varint_field(out, 3, value as u64),
                    Err(_) => self.to_string().put(out),
                }
            }
        })*
    };
}

integers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

/// The current context with further fields, written as `tracing`'s macros write them: `context!(user_id, order.id = 17, %path, state = ?state)`. Enter it by
/// [`Context::in_scope`](crate::context::Context::in_scope), [`enter`](crate::context::Context::enter) or, for a future,
/// [`scope`](crate::context::Context::scope).
///
/// ```
/// # use watchbell::tracing;
/// # let logs = watchbell::test::capture();
/// let path = std::path::Path::new("/cart");
/// let _outer = watchbell::context!(tenant = "acme", path = %path.display(), yes = true).enter();
/// let _inner = watchbell::context!(tenant = "other", state = ?Some(1)).enter();
/// tracing::info!(yes = false, "order placed");
/// # let placed = logs.expect("order placed");
/// assert_eq!(placed.field("tenant"), Some(&"other".into()));
/// assert_eq!(placed.field("path"), Some(&"/cart".into()));
/// assert_eq!(placed.field("state"), Some(&"Some(1)".into()));
/// assert_eq!(placed.field("yes"), Some(&false.into()), "the record's own field wins");
/// ```
#[macro_export]
macro_rules! context {
    (@with $context:expr;) => { $context };
    (@with $context:expr; , $($rest:tt)*) => { $crate::context!(@with $context; $($rest)*) };
    (@with $context:expr; $($key:ident).+ = %$value:expr $(, $($rest:tt)*)?) => {
        $crate::context!(@with $context.with($crate::context!(@key $($key).+), ::core::format_args!("{}", $value)); $($($rest)*)?)
    };
    (@with $context:expr; $($key:ident).+ = ?$value:expr $(, $($rest:tt)*)?) => {
        $crate::context!(@with $context.with($crate::context!(@key $($key).+), ::core::format_args!("{:?}", $value)); $($($rest)*)?)
    };
    (@with $context:expr; $($key:ident).+ = $value:expr $(, $($rest:tt)*)?) => {
        $crate::context!(@with $context.with($crate::context!(@key $($key).+), $value); $($($rest)*)?)
    };
    (@with $context:expr; %$key:ident $(, $($rest:tt)*)?) => {
        $crate::context!(@with $context.with(::core::stringify!($key), ::core::format_args!("{}", $key)); $($($rest)*)?)
    };
    (@with $context:expr; ?$key:ident $(, $($rest:tt)*)?) => {
        $crate::context!(@with $context.with(::core::stringify!($key), ::core::format_args!("{:?}", $key)); $($($rest)*)?)
    };
    (@with $context:expr; $key:ident $(, $($rest:tt)*)?) => {
        $crate::context!(@with $context.with(::core::stringify!($key), &$key); $($($rest)*)?)
    };
    (@key $first:ident $(. $rest:ident)*) => { ::core::concat!(::core::stringify!($first) $(, ".", ::core::stringify!($rest))*) };
    ($($fields:tt)*) => {{
        // A statement, so that what formats a value is gone behind it: a future that kept that over an `await` could not be sent to another thread.
        let context = $crate::context!(@with $crate::context::Context::current(); $($fields)*);
        context
    }};
}
