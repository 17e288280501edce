//! What Watchbell speaks on the wire: OTLP in and out, Loki's push API and Prometheus remote write out.
//!
//! [`otlp`] reads requests through views that borrow the bytes, checks them at the door, and turns OTLP/JSON into the same bytes.
//! [`loki`] and [`prometheus`] write the bodies that those two take. There are no sockets here, no tasks and no configuration.
//!
//! Without the feature `messages` (it is on by default) there are [`wire`] and [`otlp::to_json()`] alone, which need no other crate.

#[cfg(feature = "messages")]
pub mod loki;
pub mod otlp;
#[cfg(feature = "messages")]
pub mod prometheus;
#[cfg(feature = "messages")]
pub mod snappy;
pub mod wire;
