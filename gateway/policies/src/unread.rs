//! The attributes of a request that no policy reads, such as misspelled ones.

use crate::attributes::{Attributes, WrittenName};
use crate::policies::Policies;

impl Policies {
    /// Returns the number of words, parameters and headers that a caller wrote and no policy reads.
    /// `identifier` and `domain` are not among them.
    #[must_use]
    pub fn count_unread(&self, attributes: &Attributes<'_>) -> usize {
        self.unread(attributes).count()
    }

    /// Returns the names of these attributes.
    pub(crate) fn unread<'a>(
        &self,
        attributes: &'a Attributes<'_>,
    ) -> impl Iterator<Item = WrittenName<'a>> {
        attributes
            .written_names()
            .filter(move |name| !name.has_meaning() && !self.reads_written(*name))
    }

    fn reads_written(&self, name: WrittenName<'_>) -> bool {
        // The list is in the order of its names.
        let place = self.recorded.binary_search_by(|read| read.name.bytes().cmp(name.bytes()));
        place.is_ok()
    }
}
