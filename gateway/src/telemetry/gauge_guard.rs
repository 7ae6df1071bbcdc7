//! Gauges of things that exist.

use metrics::Gauge;

/// A guard that increments a gauge, and decrements the gauge on drop.
#[derive(Debug)]
#[must_use]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    pub(super) fn new(gauge: Gauge) -> Self {
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
