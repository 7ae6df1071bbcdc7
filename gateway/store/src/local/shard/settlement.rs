//! The grant and the settlement of an estimate of a reservation.

use limiter::{Correction, Estimate, Instant, Origin, Settle, Settlement};

use super::{Entry, Key, Shard, end, weight};
use crate::local::MOST_ENTRIES;

impl<A: Settle> Shard<A> {
    /// Returns the place of the units of a grant that has just been made.
    pub(in crate::local) fn origin(
        &mut self,
        key: Key<'_>,
        limit: &A::Limit,
        now: Instant,
    ) -> Option<Origin> {
        let place = self.find(key, now)?;
        self.entries[place].state.origin(limit)
    }

    /// Corrects an estimate of this limit. Returns the units that were taken, or given back if
    /// negative; `None` if the estimate is of another algorithm.
    ///
    /// Missing units are taken also without room, as the reservation has promised.
    pub(in crate::local) fn settle(
        &mut self,
        key: Key<'_>,
        limit: &A::Limit,
        estimate: &Estimate,
        correction: Correction,
        now: Instant,
    ) -> Option<i64> {
        self.order.advance(now);
        if let Some(place) = self.find(key, now) {
            return self.change(place, |entry| entry.settle(estimate, correction, now));
        }
        let mut entry = Entry::new(key, *limit);
        let units = entry.settle(estimate, correction, now)?;
        if units > 0 {
            // Keys that grant are evicted as far as there are any.
            let _ = self.make_room(entry.weight, self.room, None);
            self.insert(entry);
        }
        Some(units)
    }
}

impl<A: Settle> Entry<A> {
    fn settle(&mut self, estimate: &Estimate, correction: Correction, now: Instant) -> Option<i64> {
        let most = MOST_ENTRIES.get();
        let settlement = self.state.settle(estimate, correction, most, now)?;
        let Settlement { units, reset_after, .. } = settlement;
        if units != 0 {
            self.times.end = end(reset_after, now);
            self.weight = weight(self.state.buffers());
            let again = self.state.peek(&self.limit, self.cost, now);
            self.set_wait(again.retry_after, now);
        }
        Some(units)
    }
}
