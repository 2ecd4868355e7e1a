//! Metrics for Prometheus, in the OpenMetrics text format.
//!
//! Names begin with `clickhouse_copier_` (the whole task, served by the dashboard) or `clickhouse_copier_worker_` (one
//! worker, served by that worker). They end with their unit, and with `_total` if the value only grows. Labels are
//! table jobs, states and kinds: there are never thousands of values.

mod task;
mod worker;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};

pub use task::of_task;
pub use worker::of_worker;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// The metrics of one answer.
struct MetricSet(Registry);

impl MetricSet {
    fn new() -> Self {
        Self(Registry::with_prefix("clickhouse_copier"))
    }

    /// Adds a metric that may grow and shrink. Adds none without values.
    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, values: impl IntoIterator<Item = (Labels, i64)>) {
        let values: Vec<(Labels, i64)> = values.into_iter().collect();
        match values.as_slice() {
            [] => {}
            [(labels, value)] if labels.is_empty() => {
                let gauge = Gauge::<i64>::default();
                gauge.set(*value);
                self.register(name, help, unit, gauge);
            }
            values => {
                let family = Family::<Labels, Gauge>::default();
                for (labels, value) in values {
                    family.get_or_create(labels).set(*value);
                }
                self.register(name, help, unit, family);
            }
        }
    }

    /// Adds a metric that only grows. Its name gets `_total`.
    fn counter(&mut self, name: &str, help: &str, unit: Option<Unit>, value: u64) {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        self.register(name, help, unit, counter);
    }

    /// Adds a metric that only grows, with one value for each label such as a table job.
    fn counters(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.register(name, help, None, family);
    }

    fn register(&mut self, name: &str, help: &str, unit: Option<Unit>, metric: impl Metric) {
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, metric),
            None => self.0.register(name, help, metric),
        }
    }

    fn text(self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.0);
        text
    }
}

fn label(name: &'static str, value: &str) -> Labels {
    vec![(name, value.to_owned())]
}

/// Returns the label of a state: its word in JSON.
fn state_label(state: impl serde::Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Converts a number. Rows and bytes are far below the limit.
fn gauge_value(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// The labels that Prometheus adds to every sample.
    const ADDED: [&str; 2] = ["instance", "job"];

    /// Returns the names of samples with their labels.
    async fn exported() -> BTreeMap<String, BTreeSet<String>> {
        let text = task::tests::all_metrics() + &of_worker(&crate::worker::view::View::default(), "w", "/t").await;
        let mut exported: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let sample = line.rsplit_once(' ').unwrap().0;
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let labels = labels.split(['{', ',', '}']).filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
            exported.entry(name.to_owned()).or_default().extend(labels);
        }
        exported
    }

    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
    }

    /// Returns the names and labels in an expression.
    fn names_and_labels(expression: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let names =
            words(expression).filter(|word| word.starts_with("clickhouse_copier_")).map(str::to_owned).collect();
        let mut labels = BTreeSet::new();
        for inside in expression.split('{').skip(1).filter_map(|text| text.split('}').next()) {
            labels.extend(inside.split(',').filter_map(|pair| Some(pair.split_once('=')?.0.trim().to_owned())));
        }
        for by in ["by (", "on ("] {
            for inside in expression.split(by).skip(1).filter_map(|text| text.split(')').next()) {
                labels.extend(words(inside).map(str::to_owned));
            }
        }
        (names, labels)
    }

    #[tokio::test]
    async fn the_examples_query_only_exported_metrics() {
        let records: serde_json::Value =
            serde_json::from_str(include_str!("../../../examples/grafana-dashboard.json")).unwrap();
        let panels = records["panels"].as_array().unwrap().iter();
        let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
        let mut expressions: Vec<String> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
        let alerts = include_str!("../../../examples/alerts.yml");
        for alert in alerts.split("- alert: ").skip(1) {
            let expression = alert.split("expr: ").nth(1).unwrap().split("\n        labels:").next().unwrap();
            expressions.push(expression.split("\n        for:").next().unwrap().to_owned());
        }
        assert!(expressions.len() > 20, "{expressions:#?}");
        let exported = exported().await;
        for expression in expressions {
            let (names, labels) = names_and_labels(&expression);
            assert!(!names.is_empty(), "{expression}");
            let mut known: BTreeSet<String> = ADDED.map(str::to_owned).into();
            for name in &names {
                known.extend(exported.get(name).unwrap_or_else(|| panic!("{name} is not exported")).iter().cloned());
            }
            assert!(labels.is_subset(&known), "{expression}: of {labels:?} there are {known:?}");
        }
    }
}
