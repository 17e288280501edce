//! What Watchbell speaks on the wire: OTLP in and out, Loki's push API and Prometheus remote write out.
//!
//! [`otlp`] reads requests through views that borrow the bytes, checks them at the door, and turns OTLP/JSON into the same bytes.
//! There are no sockets here, no tasks and no configuration.

pub mod otlp;
pub mod wire;
