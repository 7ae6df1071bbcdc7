//! The reasons to refuse a request without a valid key or token.

/// The reason why a request has no caller. The log and the metrics have the reason; the answer does
/// not, because it would help an attacker who guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request has neither a key nor a token.
    Missing,
    /// The request has several values of a header that may occur once.
    Ambiguous,
    /// No caller has this key.
    UnknownKey,
    /// The token is longer than any valid one.
    TooLong,
    /// The token cannot be read, or requires an unknown extension.
    Malformed,
    /// No key of the set has the token's id and algorithm.
    UnknownSigner,
    /// No such key has signed the token.
    Signature,
    /// The token's time is over.
    Expired,
    /// The token's time has not begun.
    NotYetValid,
    /// The token is for another service.
    Audience,
    /// The token is by another issuer.
    Issuer,
    /// The token lacks a required claim, or has a claim of the wrong type.
    Claims,
    /// The caller lacks the scope, where another answer than 403 is necessary.
    Scope,
}

impl Refusal {
    /// Every reason.
    pub(crate) const ALL: [Self; 13] = [
        Self::Missing,
        Self::Ambiguous,
        Self::UnknownKey,
        Self::TooLong,
        Self::Malformed,
        Self::UnknownSigner,
        Self::Signature,
        Self::Expired,
        Self::NotYetValid,
        Self::Audience,
        Self::Issuer,
        Self::Claims,
        Self::Scope,
    ];

    /// The name of every reason, in the order of `ALL`.
    pub(crate) const NAMES: [&'static str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut index = 0;
        while index < names.len() {
            names[index] = Self::ALL[index].name();
            index += 1;
        }
        names
    };

    /// Returns the name in the log and in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ambiguous => "ambiguous",
            Self::UnknownKey => "unknown_key",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::UnknownSigner => "unknown_signer",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
            Self::Claims => "claims",
            Self::Scope => "scope",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Refusal;

    #[test]
    fn the_page_on_troubleshooting_has_every_reason() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/troubleshooting.md");
        let page = fs::read_to_string(path).unwrap();
        for reason in Refusal::ALL.map(Refusal::name) {
            assert!(page.contains(&format!("\n| `{reason}` | ")), "{reason}");
        }
    }
}
