//! What an error tells of itself, by OpenTelemetry's conventions for exceptions: [`err!`](crate::err!) for a field, [`log_err!`](crate::log_err!) for a
//! result and [`catch`](crate::catch) for a function.
//!
//! ```
//! # use watchbell::tracing;
//! # let logs = watchbell::test::capture();
//! #[derive(Debug)]
//! struct Refused {
//!     by: &'static str,
//! }
//! # impl std::fmt::Display for Refused {
//! #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
//! #         write!(f, "refused by {}", self.by)
//! #     }
//! # }
//! # impl std::error::Error for Refused {}
//! let error = Refused { by: "payment" };
//! tracing::error!(err = watchbell::err!(error), order_id = 17, "cannot charge");
//! # let log = logs.expect("cannot charge");
//! # assert_eq!(log.field("exception.message"), Some(&"refused by payment".into()));
//! # assert!(log.field("exception.type").unwrap().as_str().ends_with("::Refused"));
//! # assert!(log.field("watchbell.exception.fingerprint").is_some());
//! ```
//!
//! | attribute | |
//! |---|---|
//! | the field itself | the error and all its sources: `cannot charge: connection refused` |
//! | `exception.type` | the error's type, `checkout::Refused`; of an `anyhow::Error`, an `eyre::Report` or a box that of what is in it, as far as that tells it |
//! | `exception.message` | the error without its sources |
//! | `exception.stacktrace` | a line for each source, and the backtrace, where there are any |
//! | `watchbell.exception.frames` | of the backtrace the service's own functions, a line each, the innermost first |
//! | `watchbell.exception.fingerprint` | 16 hexadecimal digits that are the same for the same error, whatever its message |
//!
//! `anyhow` and `eyre` have a backtrace where `RUST_BACKTRACE` or `RUST_LIB_BACKTRACE` asks for one. Of any other error it is found in its
//! `Debug`, if that is a derived one: stable Rust has no other way to ask for it.
//!
//! # The fingerprint
//!
//! It is made of the types of the error and its sources and of the service's own functions in the backtrace. Without a backtrace it is made of the
//! types and of the place that logs: target, file and names of the fields. Neither line numbers nor messages are part of it, so that it stays the
//! same over edits elsewhere in the file, from one build to the next and from one order to another. A panic's is made of its own file, and of
//! its message if that is a constant.
//!
//! In rules, and in Loki, it is structured metadata. The collector groups by it, as here, where each error that is told more than twenty times a
//! minute pages for itself:
//!
//! ```yaml
//! expr: |
//!   sum by (service_name, exception_type, watchbell_exception_fingerprint) (
//!     count_over_time({service_name=~".+"} | watchbell_exception_fingerprint != "" [1m])
//!   ) > 20
//! ```

mod backtrace;
mod catch;
mod fingerprint;

use std::error::Error;
use std::fmt::{self, Write};
use std::io;
use std::ops::Deref;

use crate::limits::VALUE_BYTES_MAX;
use crate::record::put_cut;

pub(crate) use backtrace::Frames;
#[doc(hidden)]
pub use catch::{call, call_told, never, poll_told};
pub(crate) use fingerprint::{Fingerprint, Place};

/// The attribute that groups errors.
pub(crate) const FINGERPRINT: &str = "watchbell.exception.fingerprint";

/// The attribute with the service's own functions.
pub(crate) const FRAMES: &str = "watchbell.exception.frames";

/// An error as a field of an event: whatever is an error, an `anyhow::Error`, an `eyre::Report`, a `Box<dyn Error>` and a `String` among them, with its type, its
/// message, its sources and its backtrace. The [module](mod@crate::exception) says what becomes of them.
///
/// ```
/// # use watchbell::tracing;
/// fn charge() -> Result<(), Box<dyn std::error::Error>> {
///     # Err("refused".into())
/// }
///
/// if let Err(error) = charge() {
///     tracing::error!(err = watchbell::err!(error), order_id = 17, "cannot charge");
/// }
/// ```
#[macro_export]
macro_rules! err {
    ($error:expr) => {{
        #[allow(unused_imports)]
        use $crate::exception::{OfBorrowedContainer as _, OfContainer as _, OfError as _, OfText as _};
        (&&&&$crate::exception::Told(&$error)).exception()
    }};
}

/// The result, which is logged if it is an error: at ERROR, or at the level that is given, with fields and a message as `tracing`'s macros
/// have them. A task that ends with an error tells it this way.
///
/// ```
/// # use watchbell::{task, tracing};
/// # fn charge(_: u64) -> Result<u64, std::io::Error> { Ok(1) }
/// # async fn settle() -> Result<(), std::io::Error> { Err(std::io::Error::other("away")) }
/// fn order(order_id: u64) -> Result<u64, std::io::Error> {
///     let receipt = watchbell::log_err!(charge(order_id), order_id, "cannot charge")?;
///     Ok(receipt)
/// }
///
/// # let logs = watchbell::test::capture();
/// # order(1).unwrap();
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let settling = task::spawn(async { watchbell::log_err!(level: tracing::Level::WARN, settle().await, "cannot settle") });
/// # let _ = settling.await.unwrap();
/// # });
/// # assert_eq!(logs.expect("cannot settle").field("exception.message"), Some(&"away".into()));
/// ```
#[macro_export]
macro_rules! log_err {
    (level: $level:expr, $result:expr, $($event:tt)+) => {{
        let result = $result;
        if let Err(error) = &result {
            $crate::tracing::event!($level, err = $crate::err!(error), $($event)+);
        }
        result
    }};
    ($result:expr, $($event:tt)+) => {
        $crate::log_err!(level: $crate::tracing::Level::ERROR, $result, $($event)+)
    };
}

/// What an error tells, made by [`err!`](crate::err!): owned, so that it can be a field whatever the error borrows.
#[derive(Debug)]
struct Exception {
    type_name: Option<String>,
    message: String,
    source: Option<Box<Exception>>,
    backtrace: Frames,
}

impl Exception {
    fn of<E: Error + ?Sized>(error: &E, type_name: Option<String>, backtrace: Frames) -> Self {
        let source = error.source().map(|source| Box::new(Self::of(source, type_of(source), Frames::default())));
        Self { type_name, message: shown(format_args!("{error}"), VALUE_BYTES_MAX), source, backtrace }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Exception {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What [`err!`](crate::err!) is told of. Which of the traits has the method depends on what it is: Rust looks for the one with most references first.
#[doc(hidden)]
pub struct Told<'a, E: ?Sized>(pub &'a E);

#[doc(hidden)]
pub trait OfText {
    fn exception(&self) -> Box<dyn Error + Send + Sync>;
}

/// What is no error, and still stands for one in many a `Result`: a `String`, a `&str`.
impl<E: fmt::Display + ?Sized> OfText for Told<'_, E> {
    #[cold]
    fn exception(&self) -> Box<dyn Error + Send + Sync> {
        let (message, backtrace) = (shown(format_args!("{}", self.0), VALUE_BYTES_MAX), Frames::default());
        Box::new(Exception { type_name: None, message, source: None, backtrace })
    }
}

#[doc(hidden)]
pub trait OfError {
    fn exception(&self) -> Box<dyn Error + Send + Sync>;
}

impl<E: Error + ?Sized> OfError for &Told<'_, E> {
    #[cold]
    fn exception(&self) -> Box<dyn Error + Send + Sync> {
        let debug = shown(format_args!("{:?}", self.0), DEBUG_BYTES_MAX);
        let type_name = named(std::any::type_name::<E>())
            .or_else(|| DebugHead::of(&format_args!("{debug}")).type_name().map(str::to_owned));
        Box::new(Exception::of(self.0, type_name, Frames::in_debug(&debug)))
    }
}

#[doc(hidden)]
pub trait OfContainer {
    fn exception(&self) -> Box<dyn Error + Send + Sync>;
}

/// `anyhow::Error`, `eyre::Report`, `Box<dyn Error>`, `&dyn Error`: they lead to an error of which the type is not known.
impl<E: Deref<Target: AnyError> + fmt::Debug> OfContainer for &&&Told<'_, E> {
    fn exception(&self) -> Box<dyn Error + Send + Sync> {
        contained(self.0)
    }
}

#[doc(hidden)]
pub trait OfBorrowedContainer {
    fn exception(&self) -> Box<dyn Error + Send + Sync>;
}

impl<E: Deref<Target: AnyError> + fmt::Debug> OfBorrowedContainer for &&Told<'_, &E> {
    fn exception(&self) -> Box<dyn Error + Send + Sync> {
        contained(*self.0)
    }
}

#[cold]
fn contained<E: Deref<Target: AnyError> + fmt::Debug>(container: &E) -> Box<dyn Error + Send + Sync> {
    let error = container.deref().as_error();
    let type_name = contained_type(error).or_else(|| named(std::any::type_name::<E>()));
    Box::new(Exception::of(error, type_name, Frames::in_debug(&shown(format_args!("{container:?}"), DEBUG_BYTES_MAX))))
}

/// Most bytes of an error's `Debug` (256 KiB) in which its backtrace is looked for.
const DEBUG_BYTES_MAX: usize = 256 * 1024;

/// What is formatted, up to so many bytes; a faulty `Debug` or `Display` cuts it short.
pub(crate) fn shown(text: fmt::Arguments<'_>, bytes_max: usize) -> String {
    let mut out = Vec::new();
    put_cut(&mut out, text, bytes_max);
    String::from_utf8(out).unwrap_or_default() // it is cut at a character
}

/// An error of any type.
#[doc(hidden)]
pub trait AnyError {
    fn as_error(&self) -> &(dyn Error + 'static);
}

impl AnyError for dyn Error + 'static {
    fn as_error(&self) -> &(dyn Error + 'static) {
        self
    }
}

impl AnyError for dyn Error + Send + 'static {
    fn as_error(&self) -> &(dyn Error + 'static) {
        self
    }
}

impl AnyError for dyn Error + Send + Sync + 'static {
    fn as_error(&self) -> &(dyn Error + 'static) {
        self
    }
}

/// The first type that is told, from the outside; a context of `anyhow` or `eyre` is an `Error` without a type of its own.
fn contained_type(error: &(dyn Error + 'static)) -> Option<String> {
    let own = type_of(error).filter(|name| name != "Error");
    own.or_else(|| error.source().and_then(contained_type))
}

/// The type's name without references and boxes; none where nothing else is left of it.
fn named(mut name: &str) -> Option<String> {
    loop {
        let within = ["alloc::boxed::Box<", "alloc::sync::Arc<", "alloc::rc::Rc<"]
            .iter()
            .find_map(|outer| name.strip_prefix(outer));
        name = match (within.and_then(|within| within.strip_suffix('>')), name.strip_prefix('&')) {
            (Some(within), _) => within,
            (None, Some(within)) => within.trim_start_matches("mut "),
            (None, None) => break,
        };
    }
    match name {
        "std::io::error::Error" => Some(IO_ERROR.to_owned()),
        name => (!name.starts_with("dyn ")).then(|| name.replace("<'_>", "").replace("'_, ", "")), // not every compiler tells lifetimes
    }
}

const IO_ERROR: &str = "std::io::Error";

/// Calls `put` with what an error tells, logged at `place`.
#[cold]
pub(crate) fn tell(error: &(dyn Error + 'static), place: Place<'_>, mut put: impl FnMut(&str, fmt::Arguments<'_>)) {
    let known = error.downcast_ref::<Exception>();
    put("exception.message", format_args!("{error}"));
    if let Some(name) = type_of(error) {
        put("exception.type", format_args!("{name}"));
    }
    let none = Frames::default();
    let backtrace = known.map_or(&none, |exception| &exception.backtrace);
    match (error.source().is_some(), backtrace.is_empty()) {
        (false, true) => {}
        (_, true) => put("exception.stacktrace", format_args!("{}", Causes(error))),
        (_, false) => put("exception.stacktrace", format_args!("{}\n{backtrace}", Causes(error))),
    }
    let fingerprint = Fingerprint::of_error(error, backtrace, place);
    tell_place(backtrace, fingerprint, put);
}

/// Calls `put` with what groups an exception.
pub(crate) fn tell_place(backtrace: &Frames, fingerprint: Fingerprint, mut put: impl FnMut(&str, fmt::Arguments<'_>)) {
    if backtrace.own().next().is_some() {
        put(FRAMES, format_args!("{}", backtrace.shown_own()));
    }
    put(FINGERPRINT, format_args!("{fingerprint}"));
}

/// The type of an error, as far as it tells one.
fn type_of(error: &(dyn Error + 'static)) -> Option<String> {
    match error.downcast_ref::<Exception>() {
        Some(exception) => exception.type_name.clone(),
        None if error.is::<io::Error>() => Some(IO_ERROR.to_owned()), // its `Debug` begins with a variant of something within
        None => DebugHead::of(error).type_name().map(str::to_owned),
    }
}

/// An error and its sources, a line each.
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        let mut head = "";
        while let Some(error) = next {
            f.write_str(head)?;
            if let Some(name) = type_of(error) {
                write!(f, "{name}: ")?;
            }
            write!(f, "{error}")?;
            next = error.source();
            head = "\nCaused by: ";
        }
        Ok(())
    }
}

/// What an error's `Debug` begins with: a derived one begins with the type's name, or with the variant's, as in `Refused`, `Refused(..)` or
/// `Refused { .. }`. Nothing else tells what is behind `dyn Error`.
struct DebugHead {
    bytes: [u8; DEBUG_HEAD_BYTES],
    len: usize,
}

/// Longest name of an error's type in bytes (64); a longer one is not told.
const TYPE_NAME_BYTES_MAX: usize = 64;

/// A name and what follows it.
const DEBUG_HEAD_BYTES: usize = TYPE_NAME_BYTES_MAX + " {".len();

impl DebugHead {
    fn of<T: fmt::Debug + ?Sized>(error: &T) -> Self {
        let mut head = Self { bytes: [0; DEBUG_HEAD_BYTES], len: 0 };
        let _ = write!(head, "{error:?}"); // an error is the head's end
        head
    }

    /// The name, if it is one: the `Debug` that `anyhow` has, for one, is a text.
    fn type_name(&self) -> Option<&str> {
        let head = &self.bytes[..self.len];
        let end =
            head.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"_:".contains(byte)).unwrap_or(head.len());
        let (name, rest) = (str::from_utf8(&head[..end]).ok()?, &head[end..]);
        let is_type = name.rsplit("::").next()?.starts_with(|c: char| c.is_ascii_uppercase());
        let is_derived = rest.is_empty() || rest.starts_with(b"(") || rest == b" {" || rest.starts_with(b" { ");
        (is_type && is_derived && name.len() <= TYPE_NAME_BYTES_MAX).then_some(name)
    }
}

impl Write for DebugHead {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.len == DEBUG_HEAD_BYTES {
                return Err(fmt::Error);
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}
