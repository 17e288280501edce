//! The alerting policy, in Alertmanager's terms: who is told of which alerts, together with which, how often.

pub mod notification;
