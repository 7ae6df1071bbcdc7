//! Globs: `*` matches any text within a segment, `**` any text across segments.
//!
//! Nothing else is special, but `\*` is a star. `/**` at the end of a glob or before a `/` stands
//! for any number of segments, none included, so that `/v1/**` matches `/v1` and all below it.

use smallvec::SmallVec;

/// The most bytes of a glob.
pub const MAX_GLOB_BYTES: usize = 1_024;
/// The most `/**/` within a glob.
pub const MAX_OPTIONAL_SEGMENTS: usize = 3;

/// A pattern for one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    /// The byte that ends a segment, if the values have segments.
    separator: Option<u8>,
    /// The patterns of which one must match: `/a/**/b` is `/a/b` or `/a/` + any text + `/b`.
    alternatives: SmallVec<[Pattern; 1]>,
}

/// A pattern in which `**` matches any text, without exception.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// The text before the first star.
    prefix: Box<[u8]>,
    rest: Box<[Token]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `*`
    Segment,
    /// `**`
    Any,
}

/// The faults of a glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobError {
    /// The glob has more than [`MAX_GLOB_BYTES`] bytes.
    TooLong,
    /// The glob has three or more stars in a row.
    Stars,
    /// The glob has more than [`MAX_OPTIONAL_SEGMENTS`] `/**/`.
    TooManySegments,
}

impl GlobError {
    /// Returns the fault and the accepted form.
    #[must_use]
    pub const fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::TooLong => ("the glob is too long", "at most 1024 bytes"),
            Self::Stars => ("`***` in a glob", "`*` or `**`"),
            Self::TooManySegments => ("too many `/**/` in a glob", "at most 3"),
        }
    }
}

impl Glob {
    /// Returns the pattern that `text` describes for values with the given separator of segments.
    ///
    /// # Errors
    ///
    /// A [`GlobError`] where the text is no glob.
    pub fn new(text: &str, separator: Option<u8>) -> Result<Self, GlobError> {
        if text.len() > MAX_GLOB_BYTES {
            return Err(GlobError::TooLong);
        }
        let tokens = tokens(text.as_bytes())?;
        let mut alternatives: SmallVec<[Vec<Token>; 1]> = SmallVec::from_elem(Vec::new(), 1);
        let mut optional = 0;
        let mut rest = tokens.as_slice();
        while let [first, after @ ..] = rest {
            let segments = separator == Some(b'/')
                && matches!(
                    rest,
                    [Token::Byte(b'/'), Token::Any]
                        | [Token::Byte(b'/'), Token::Any, Token::Byte(b'/'), ..]
                );
            if segments {
                optional += 1;
                if optional > MAX_OPTIONAL_SEGMENTS {
                    return Err(GlobError::TooManySegments);
                }
                // One alternative without any segment, one with `/` and any text.
                let mut longer = alternatives.clone();
                for pattern in &mut longer {
                    pattern.extend([Token::Byte(b'/'), Token::Any]);
                }
                alternatives.extend(longer);
                rest = rest.get(2..).unwrap_or_default();
            } else {
                for pattern in &mut alternatives {
                    pattern.push(*first);
                }
                rest = after;
            }
        }
        let alternatives = alternatives.iter().map(|tokens| Pattern::new(tokens)).collect();
        Ok(Self { separator, alternatives })
    }

    /// Returns whether the pattern matches `value`.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        self.alternatives.iter().any(|pattern| pattern.matches(value, self.separator))
    }

    /// Returns the only value that matches, or `None` if several values may match.
    #[must_use]
    pub fn literal(&self) -> Option<&[u8]> {
        match self.alternatives.as_slice() {
            [Pattern { prefix, rest }] if rest.is_empty() => Some(prefix),
            _ => None,
        }
    }

    /// Returns the text with which every value that matches begins.
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        let shortest = self.alternatives.iter().map(|pattern| &*pattern.prefix);
        // The alternatives differ only behind the place where the shortest prefix ends.
        shortest.min_by_key(|prefix| prefix.len()).unwrap_or_default()
    }

    /// Returns whether every value matches.
    #[must_use]
    pub fn matches_everything(&self) -> bool {
        let star = |token: &Token| match token {
            Token::Any => true,
            Token::Segment => self.separator.is_none(),
            Token::Byte(_) => false,
        };
        self.alternatives.iter().any(|pattern| {
            pattern.prefix.is_empty() && matches!(&*pattern.rest, [only] if star(only))
        })
    }
}

fn tokens(text: &[u8]) -> Result<Vec<Token>, GlobError> {
    let mut tokens = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return Ok(tokens),
            [b'\\', b'*', rest @ ..] => {
                tokens.push(Token::Byte(b'*'));
                rest
            }
            [b'*', b'*', b'*', ..] => return Err(GlobError::Stars),
            [b'*', b'*', rest @ ..] => {
                tokens.push(Token::Any);
                rest
            }
            [b'*', rest @ ..] => {
                tokens.push(Token::Segment);
                rest
            }
            [byte, rest @ ..] => {
                tokens.push(Token::Byte(*byte));
                rest
            }
        };
    }
}

impl Pattern {
    fn new(tokens: &[Token]) -> Self {
        let literal = |token: &Token| match token {
            Token::Byte(byte) => Some(*byte),
            _ => None,
        };
        let prefix: Vec<u8> = tokens.iter().map_while(literal).collect();
        let rest = tokens.get(prefix.len()..).unwrap_or_default().into();
        Self { prefix: prefix.into(), rest }
    }

    /// Matches from left to right. A star first takes nothing; after a mismatch the latest `*`
    /// takes one byte more, unless that byte ends the segment, and otherwise the latest `**` does.
    /// Earlier stars need no second try: the latest `**` can take any byte that they could take.
    fn matches(&self, value: &[u8], separator: Option<u8>) -> bool {
        let Some(value) = value.strip_prefix(&*self.prefix) else { return false };
        if matches!(&*self.rest, [Token::Any]) {
            return true;
        }
        let tokens = &*self.rest;
        let (mut at, mut read) = (0, 0);
        let mut segment: Option<(usize, usize)> = None;
        let mut any: Option<(usize, usize)> = None;
        loop {
            match tokens.get(at) {
                None if read == value.len() => return true,
                Some(Token::Any) => {
                    any = Some((at + 1, read));
                    segment = None;
                    at += 1;
                    continue;
                }
                Some(Token::Segment) => {
                    segment = Some((at + 1, read));
                    at += 1;
                    continue;
                }
                Some(Token::Byte(byte)) if value.get(read) == Some(byte) => {
                    at += 1;
                    read += 1;
                    continue;
                }
                _ => {}
            }
            if let Some((after, from)) = &mut segment
                && value.get(*from).is_some_and(|byte| Some(*byte) != separator)
            {
                *from += 1;
                (at, read) = (*after, *from);
            } else if let Some((after, from)) = &mut any
                && *from < value.len()
            {
                *from += 1;
                segment = None;
                (at, read) = (*after, *from);
            } else {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(glob: &str, value: &str) -> bool {
        Glob::new(glob, Some(b'/')).unwrap().matches(value.as_bytes())
    }

    #[test]
    fn a_star_stays_within_a_segment_and_two_go_across() {
        for (glob, value, expected) in [
            ("/v1/**", "/v1", true),
            ("/v1/**", "/v1/a/b", true),
            ("/v1/**", "/v10", false),
            ("/**", "/", true),
            ("/*", "/a", true),
            ("/*", "/a/b", false),
            ("/a/**/b", "/a/b", true),
            ("/a/**/b", "/a/x/y/b", true),
            ("/a/**/b", "/a/xb", false),
            ("/a**", "/a/b", true),
            ("/*/x/*.jpg", "/u/x/a.jpg", true),
            ("/*/x/*.jpg", "/u/x/a/b.jpg", false),
            ("/**.jpg", "/u/x/a.jpg", true),
            ("/a\\*b", "/a*b", true),
            ("/a\\*b", "/axb", false),
            ("/[ab]?", "/[ab]?", true),
            ("/[ab]?", "/ax", false),
            ("**", "", true),
            ("*", "", true),
            ("", "", true),
        ] {
            assert_eq!(matches(glob, value), expected, "{glob} {value}");
        }
    }

    #[test]
    fn a_glob_is_bounded() {
        assert_eq!(Glob::new(&"a".repeat(1_025), None), Err(GlobError::TooLong));
        assert_eq!(Glob::new("a***", None), Err(GlobError::Stars));
        assert_eq!(Glob::new("/**/a/**/b/**/c/**", Some(b'/')), Err(GlobError::TooManySegments));
        assert!(Glob::new("/**/a/**/b/**", Some(b'/')).is_ok());
    }

    /// Matches by trying every length of every star.
    fn try_all(tokens: &[Token], value: &[u8]) -> bool {
        match tokens {
            [] => value.is_empty(),
            [Token::Byte(byte), rest @ ..] => {
                value.first() == Some(byte) && try_all(rest, &value[1..])
            }
            [star, rest @ ..] => (0..=value.len())
                .take_while(|taken| *star == Token::Any || !value[..*taken].contains(&b'/'))
                .any(|taken| try_all(rest, &value[taken..])),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_a_search_over_all_lengths(
            glob in "[ab/]{0,3}(\\*{1,2}[ab/]{1,2}){0,3}\\*{0,2}",
            value in "[ab/]{0,9}",
        ) {
            // A separator other than `/` has no optional segments.
            let tokens = tokens(glob.as_bytes()).unwrap();
            let pattern = Pattern::new(&tokens);
            let expected = try_all(&tokens, value.as_bytes());
            prop_assert_eq!(pattern.matches(value.as_bytes(), Some(b'/')), expected);
            if let Ok(glob) = Glob::new(&glob, Some(b'/')) {
                prop_assert!(!expected || glob.matches(value.as_bytes()));
                prop_assert!(!glob.matches(value.as_bytes()) || value.as_bytes().starts_with(glob.prefix()));
            }
        }
    }
}
