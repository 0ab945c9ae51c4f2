//! Metrics as they were last told, for the tests of one thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// What gauges stand at, by their names.
#[derive(Debug, Default)]
pub(super) struct Gauges(Mutex<HashMap<String, Arc<Value>>>);

#[derive(Debug, Default)]
struct Value(Mutex<f64>);

impl Gauges {
    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.0.lock().unwrap().get(name).map(|value| *value.0.lock().unwrap())
    }
}

impl GaugeFn for Value {
    fn increment(&self, by: f64) {
        panic!("a gauge is set here, not moved by {by}");
    }

    fn decrement(&self, by: f64) {
        panic!("a gauge is set here, not moved by {by}");
    }

    fn set(&self, value: f64) {
        *self.0.lock().unwrap() = value;
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut gauges = self.0.lock().unwrap();
        Gauge::from_arc(Arc::clone(gauges.entry(key.name().to_owned()).or_default()))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// What counters stand at, by their names and labels.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<HashMap<String, Arc<AtomicU64>>>);

impl Counts {
    /// All counters of this name with this among their labels.
    pub(super) fn of(&self, name: &str, label: &str) -> u64 {
        let counts = self.0.lock().unwrap();
        let found = counts.iter().filter(|(key, _)| key.starts_with(name) && key.contains(label));
        found.map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
        let name = format!("{}{}", key.name(), labels.collect::<String>());
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
