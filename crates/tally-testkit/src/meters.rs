//! Metrics as they were last told, for the tests of one thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, LocalRecorderGuard, Metadata, Recorder, SharedString, Unit,
};

/// What was counted and shown: by name and ` label=value` of each label, a counter as a whole number, a gauge as
/// the bits of a float. Clones are handles on the same.
#[derive(Debug, Clone, Default)]
pub struct Meters(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Meters {
    /// Listens from now on, in this thread, for as long as the guard lives.
    pub fn begin(&self) -> LocalRecorderGuard<'_> {
        metrics::set_default_local_recorder(self)
    }

    /// The sum of all counters of this name with these among their labels, such as `kind=lag`; all for an empty text.
    pub fn count(&self, name: &str, label: &str) -> u64 {
        self.found(name, label).iter().sum()
    }

    /// The gauge of this name with this among its labels; `None` where none was ever set.
    ///
    /// # Panics
    /// Where several are meant.
    pub fn gauge(&self, name: &str, label: &str) -> Option<f64> {
        let found = self.found(name, label);
        assert!(found.len() <= 1, "{} gauges are {name} with {label:?}", found.len());
        found.first().copied().map(f64::from_bits)
    }

    fn found(&self, name: &str, label: &str) -> Vec<u64> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = |key: &str| {
            let (of, labels) = key.split_once(' ').unwrap_or((key, ""));
            of == name && (label.is_empty() || format!(" {labels} ").contains(&format!(" {label} ")))
        };
        known.iter().filter(|(key, _)| meant(key)).map(|(_, cell)| cell.load(Ordering::Relaxed)).collect()
    }

    fn cell(&self, key: &Key) -> Arc<AtomicU64> {
        let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
        let name = format!("{}{}", key.name(), labels.collect::<String>());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(name).or_default())
    }
}

impl Recorder for Meters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
