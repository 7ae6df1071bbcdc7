//! Maps of headers that have the same names in each answer.
//!
//! An insert hashes the name of a header and looks for its place. A clone of a map does neither: ten
//! headers take half as many instructions.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// A map of headers, of which the first ones have other values in each answer.
#[derive(Debug)]
pub(crate) struct HeaderTemplate(HeaderMap);

impl HeaderTemplate {
    /// Returns a template with these headers, whose names are all different.
    ///
    /// # Panics
    ///
    /// When the map does not keep the headers in their order.
    pub(crate) fn new(headers: &[(HeaderName, HeaderValue)]) -> Self {
        let map: HeaderMap = headers.iter().cloned().collect();
        let names = headers.iter().map(|(name, _)| name);
        assert!(map.keys().eq(names), "a map of headers keeps the order of its inserts");
        Self(map)
    }

    /// Returns a map whose first headers have these values, in their order.
    pub(crate) fn fill(&self, values: impl IntoIterator<Item = HeaderValue>) -> HeaderMap {
        let mut map = self.0.clone();
        for (place, value) in map.values_mut().zip(values) {
            *place = value;
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    };

    use super::HeaderTemplate;

    #[test]
    fn a_filled_map_is_one_of_inserts() {
        let names = (0..9).map(|number| HeaderName::try_from(format!("x-{number}")).unwrap());
        let names: Vec<_> = [CONTENT_TYPE, CACHE_CONTROL].into_iter().chain(names).collect();
        let value = |number: usize| HeaderValue::from(number);
        let headers: Vec<_> = names.iter().cloned().map(|name| (name, value(0))).collect();
        let template = HeaderTemplate::new(&headers);
        for count in [0, 1, 6, names.len()] {
            let filled = template.fill((1..=count).map(value));
            let expected = |place| if place < count { value(place + 1) } else { value(0) };
            let expected: HeaderMap = names
                .iter()
                .cloned()
                .enumerate()
                .map(|(place, name)| (name, expected(place)))
                .collect();
            assert_eq!(filled, expected);
        }
    }
}
