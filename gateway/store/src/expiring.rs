//! Values by name, each until its end.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use limiter::Instant;

/// Values by name. Each has an end, from which on it counts as missing, and a weight.
#[derive(Debug)]
pub(crate) struct Expiring<V> {
    entries: HashMap<Arc<str>, Entry<V>>,
    /// The names by the ends of their values.
    ends: BTreeSet<(Instant, Arc<str>)>,
    weight: usize,
}

#[derive(Debug)]
struct Entry<V> {
    end: Instant,
    weight: usize,
    value: V,
}

impl<V> Default for Expiring<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), ends: BTreeSet::new(), weight: 0 }
    }
}

impl<V> Expiring<V> {
    /// Returns a value.
    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        self.entries.get(name).map(|entry| &entry.value)
    }

    /// Adds a value with a name that has none.
    pub(crate) fn insert(&mut self, name: Arc<str>, end: Instant, weight: usize, value: V) {
        self.weight += weight;
        self.ends.insert((end, Arc::clone(&name)));
        self.entries.insert(name, Entry { end, weight, value });
    }

    /// Removes a value, and returns it with its name.
    pub(crate) fn remove(&mut self, name: &str) -> Option<(Arc<str>, V)> {
        let (name, Entry { end, weight, value }) = self.entries.remove_entry(name)?;
        self.weight -= weight;
        let place = (end, name);
        self.ends.remove(&place);
        Some((place.1, value))
    }

    /// Removes the values that have ended.
    pub(crate) fn remove_ended(&mut self, now: Instant) {
        while let Some((end, name)) = self.ends.first() {
            if *end > now {
                break;
            }
            let name = Arc::clone(name);
            self.remove(&name);
        }
    }

    /// Returns the weight of all values.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Returns the first end of a value, if there is any.
    pub(crate) fn first_end(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }
}

#[cfg(test)]
mod tests {
    use limiter::Instant;

    use super::Expiring;

    #[test]
    fn values_stay_until_they_end_or_are_removed() {
        let at = Instant::from_micros;
        let mut values = Expiring::default();
        for (name, end, weight) in [("a", 30, 1), ("b", 10, 2), ("c", 20, 4)] {
            values.insert(name.into(), at(end), weight, end);
        }
        assert_eq!((values.first_end(), values.weight()), (Some(at(10)), 7));
        values.remove_ended(at(9));
        assert_eq!(values.get("b"), Some(&10));
        values.remove_ended(at(10));
        assert_eq!((values.get("b"), values.first_end(), values.weight()), (None, Some(at(20)), 5));
        assert_eq!(values.remove("c").map(|(_, value)| value), Some(20));
        values.remove_ended(at(30));
        assert_eq!((values.get("a"), values.first_end(), values.weight()), (None, None, 0));
    }
}
