//! Why a caller is not known.

/// Why a request does not show who calls. Operators are told in the log and the metrics; callers
/// are not, since it would help those who guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has neither a key nor a token.
    Missing,
    /// It has several values where one is to be.
    Ambiguous,
    /// No caller has this key.
    UnknownKey,
    /// The token is longer than any valid one.
    TooLong,
    /// The token cannot be read, or asks for what is not understood.
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
    /// The token leaves out what it must say, or says it in another form.
    Claims,
}

impl Refusal {
    /// Every reason.
    pub(crate) const ALL: [Self; 12] = [
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

    /// The name in the log and in metrics.
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
