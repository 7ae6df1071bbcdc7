//! Values of envoyproxy/ratelimit with `*`, which stands for any run of characters.

/// A text with at least one `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pattern(String);

impl Pattern {
    /// Returns the pattern of a text, or `None` for a text without `*`.
    pub(crate) fn new(text: &str) -> Option<Self> {
        text.contains('*').then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the glob that matches the same texts, where these stars stand for any run.
    pub(crate) fn glob(&self, stars: &str) -> String {
        self.0.split('*').collect::<Vec<_>>().join(stars)
    }

    /// Returns whether the pattern matches a text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let (begin, end) = self.ends();
        let Some(rest) = text.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end)) else {
            return false;
        };
        let middle = self.0.get(begin.len() + 1..self.0.len() - end.len()).unwrap_or_default();
        let mut rest = Some(rest);
        for part in middle.split('*') {
            rest = rest.and_then(|rest| rest.split_once(part).map(|(_, after)| after));
        }
        rest.is_some()
    }

    /// Returns false where no text can match both patterns: their beginnings or ends differ.
    pub(crate) fn can_overlap(&self, other: &Self) -> bool {
        let ((begin, end), (other_begin, other_end)) = (self.ends(), other.ends());
        (begin.starts_with(other_begin) || other_begin.starts_with(begin))
            && (end.ends_with(other_end) || other_end.ends_with(end))
    }

    /// Returns the texts before the first star and after the last.
    fn ends(&self) -> (&str, &str) {
        let begin = self.0.split('*').next().unwrap_or_default();
        let end = self.0.rsplit('*').next().unwrap_or_default();
        (begin, end)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn a_star_is_any_run() {
        assert_eq!(Pattern::new("plain"), None);
        for (text, value, expected) in [
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*a", "a", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "axc", false),
            ("a**c", "ac", true),
        ] {
            assert_eq!(pattern(text).matches(value), expected, "{text} {value}");
        }
        assert_eq!(pattern("a*b*").glob("**"), "a**b**");
    }

    #[test]
    fn patterns_with_different_ends_have_no_text_in_common() {
        for (a, b, expected) in [
            ("a*", "ab*", true),
            ("a*", "b*", false),
            ("*a", "*ba", true),
            ("*a", "*b", false),
            ("a*", "*b", true),
        ] {
            assert_eq!(pattern(a).can_overlap(&pattern(b)), expected, "{a} {b}");
        }
    }
}
