//! The views of the meter provider.

use std::str::FromStr;

use opentelemetry_sdk::metrics::{Aggregation, InstrumentKind};

use super::{File, Map, Node, boolean, get, text};
use crate::config::values;
use crate::metrics::View;

impl File {
    pub(super) fn views(&mut self, node: Option<&Node>) -> Vec<View> {
        self.list(node).iter().filter_map(|node| self.view(node)).collect()
    }

    fn view(&mut self, node: &Node) -> Option<View> {
        let map = self.map(Some(node));
        self.only(map, &["selector", "stream"]);
        let [selector, stream] = ["selector", "stream"].map(|name| self.map(get(map, name)));
        let of_meter = ["meter_name", "meter_version", "meter_schema_url"];
        self.only(selector, &[&["instrument_name", "instrument_type", "unit"], &of_meter[..]].concat());
        self.only(stream, &["name", "description", "aggregation", "aggregation_cardinality_limit"]);
        let view = View {
            instrument_name: self.string(selector, "instrument_name"),
            instrument_kind: self.scalar(selector, "instrument_type", kind),
            unit: self.string(selector, "unit"),
            meter_name: self.string(selector, "meter_name"),
            meter_version: self.string(selector, "meter_version"),
            meter_schema_url: self.string(selector, "meter_schema_url"),
            name: self.string(stream, "name"),
            description: self.string(stream, "description"),
            aggregation: get(stream, "aggregation").and_then(|node| self.view_aggregation(node)),
            cardinality_limit: self.scalar(stream, "aggregation_cardinality_limit", values::positive),
        };
        match view.stream() {
            Ok(_) => Some(view),
            Err(error) => {
                self.wrong(node.place, &error.to_string());
                None
            }
        }
    }

    fn view_aggregation(&mut self, node: &Node) -> Option<Aggregation> {
        let (kind, node) = self.one_of(node)?;
        let map = self.map(Some(node));
        let record_min_max = self.scalar(map, "record_min_max", boolean).unwrap_or(true);
        Some(match kind.key.as_str() {
            "default" => Aggregation::Default,
            "drop" => Aggregation::Drop,
            "sum" => Aggregation::Sum,
            "last_value" => Aggregation::LastValue,
            "explicit_bucket_histogram" => {
                self.only(map, &["boundaries", "record_min_max"]);
                let boundaries = get(map, "boundaries").map_or_else(|| BOUNDARIES.to_vec(), |node| self.numbers(node));
                Aggregation::ExplicitBucketHistogram { boundaries, record_min_max }
            }
            "base2_exponential_bucket_histogram" => {
                self.only(map, &["max_scale", "max_size", "record_min_max"]);
                let max_size = self.scalar(map, "max_size", values::positive).unwrap_or(160);
                let max_scale = self.scalar(map, "max_scale", number).unwrap_or(20);
                Aggregation::Base2ExponentialHistogram { max_size, max_scale, record_min_max }
            }
            _ => {
                let wanted = "write `default`, `drop`, `sum`, `last_value`, `explicit_bucket_histogram` or \
                              `base2_exponential_bucket_histogram`";
                self.wrong(kind.place, &format!("this aggregation is not known; {wanted}"));
                return None;
            }
        })
    }

    fn numbers(&mut self, node: &Node) -> Vec<f64> {
        let mut numbers = Vec::new();
        for node in self.list(Some(node)) {
            match text(node).ok_or_else(|| "is no scalar".to_owned()).and_then(number) {
                Ok(number) => numbers.push(number),
                Err(error) => self.wrong(node.place, &error),
            }
        }
        numbers
    }

    fn string(&mut self, map: Map<'_>, name: &str) -> Option<String> {
        self.scalar(map, name, |text| Ok(text.to_owned()))
    }
}

/// OpenTelemetry's.
const BOUNDARIES: [f64; 15] =
    [0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0];

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number that may stand here"))
}

fn kind(name: &str) -> Result<InstrumentKind, String> {
    Ok(match name {
        "counter" => InstrumentKind::Counter,
        "up_down_counter" => InstrumentKind::UpDownCounter,
        "histogram" => InstrumentKind::Histogram,
        "gauge" => InstrumentKind::Gauge,
        "observable_counter" => InstrumentKind::ObservableCounter,
        "observable_up_down_counter" => InstrumentKind::ObservableUpDownCounter,
        "observable_gauge" => InstrumentKind::ObservableGauge,
        _ => {
            return Err(format!(
                "`{name}` is not a type of instrument; write `counter`, `histogram` or another of OpenTelemetry's"
            ));
        }
    })
}
