//! The token that names the leases of a check by policy.
//!
//! ```text
//!  1,HOLDER,POLICY,LIMIT,TTL,FENCE,ID[,LIMIT,TTL,FENCE,ID ...][,SEAL]
//! ```
//!
//! The gateway keeps no state about leases, so that any gateway takes the token of another one. A token
//! can have no other keys than those of concurrency limits of policies, and it leads to a lease only
//! together with the holder and the fence of the lease. With IDENTITY_HASH_KEY it has a seal: a caller
//! then cannot change it at all, so that it has the leases of one decision.

use std::fmt::Write;

use limiter::{Fences, Holder, Window};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use policies::{digest::HashKey, lease_key::LeaseKey};
use subtle::ConstantTimeEq;

use crate::request::quota_fields::LIMITS;

/// The form of tokens that this version reads.
const VERSION: &str = "1";

/// Maximum size of a token in bytes.
pub(crate) const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The leases of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReleaseToken {
    /// The holder of all leases.
    pub(crate) holder: Holder,
    /// The leases, of one policy.
    pub(crate) leases: Vec<TokenLease>,
}

/// A lease of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenLease {
    pub(crate) key: LeaseKey,
    /// The time by which the lease is renewed.
    pub(crate) ttl: Window,
    pub(crate) fence: u64,
}

impl ReleaseToken {
    /// Returns the text of the token, with a seal if there is a key.
    pub(crate) fn write(&self, key: Option<&HashKey>) -> String {
        let holder = percent_encode(self.holder.as_bytes(), NON_ALPHANUMERIC);
        let policy = self.leases.first().map_or("", |lease| lease.key.policy());
        let mut text = format!("{VERSION},{holder},{policy}");
        for TokenLease { key, ttl, fence } in &self.leases {
            let (limit, ttl, id) = (key.limit(), ttl.as_millis(), key.id());
            // Writing to text cannot fail.
            let _ = write!(text, ",{limit},{ttl},{fence},{id}");
        }
        if let Some(key) = key {
            let seal = key.seal(text.as_bytes());
            text.push(',');
            text.push_str(&seal);
        }
        text
    }

    /// Reads a token. Returns `None` for a text that no check has answered, as far as the text and its
    /// seal show.
    pub(crate) fn read(text: &str, key: Option<&HashKey>) -> Option<Self> {
        let text = match key {
            Some(key) => {
                let (text, seal) = text.rsplit_once(',')?;
                let expected = key.seal(text.as_bytes());
                bool::from(expected.as_bytes().ct_eq(seal.as_bytes())).then_some(text)?
            }
            None => text,
        };
        let fields: Vec<_> = text.split(',').collect();
        let [VERSION, holder, policy, leases @ ..] = &fields[..] else { return None };
        let holder = Holder::new(percent_decode_str(holder).collect::<Vec<u8>>())?;
        let (leases, []) = leases.as_chunks::<4>() else { return None };
        let leases: Option<Vec<_>> =
            leases.iter().map(|lease| TokenLease::read(policy, *lease)).collect();
        let leases = leases.filter(|leases| LIMITS.contains(&leases.len()))?;
        Some(Self { holder, leases })
    }
}

impl TokenLease {
    fn read(policy: &str, [limit, ttl, fence, id]: [&str; 4]) -> Option<Self> {
        let ttl = Window::from_millis(ttl.parse().ok()?)?;
        let fence = fence.parse().ok().filter(|fence| (1..=Fences::MAX).contains(fence))?;
        Some(Self { key: LeaseKey::new(policy, limit, id)?, ttl, fence })
    }
}

#[cfg(test)]
mod tests {
    use limiter::{Holder, Window};
    use policies::{digest::HashKey, lease_key::LeaseKey};

    use super::{ReleaseToken, TokenLease};

    fn token(holder: &str) -> ReleaseToken {
        let lease = |limit: &str, id: &str, fence| TokenLease {
            key: LeaseKey::new("api", limit, id).unwrap(),
            ttl: Window::from_millis(30_000).unwrap(),
            fence,
        };
        let leases = vec![lease("flight", "alice|-", 7), lease("all", "", 9_007_199_254_740_991)];
        ReleaseToken { holder: Holder::new(holder).unwrap(), leases }
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let key = HashKey::new(b"secret").unwrap();
        for holder in ["job 1", ",", "a,b%2C", "\u{1f980}", "x".repeat(64).as_str()] {
            for key in [None, Some(&key)] {
                let token = token(holder);
                let text = token.write(key);
                assert!(text.is_ascii(), "{text}");
                assert_eq!(ReleaseToken::read(&text, key), Some(token), "{text}");
            }
        }
        let expected = "1,job%201,api,flight,30000,7,alice|-,all,30000,9007199254740991,";
        assert_eq!(token("job 1").write(None), expected);
    }

    #[test]
    fn a_token_without_a_seal_has_no_keys_but_those_of_concurrency_limits() {
        for text in [
            "",
            "1",
            "1,h,api",
            "2,h,api,flight,30000,7,alice",
            "1,,api,flight,30000,7,alice",
            "1,h,api,flight,30000,7",
            "1,h,api,flight,30000,7,alice,",
            "1,h,api,flight,30000,0,alice",
            "1,h,api,flight,30000,9007199254740992,alice",
            "1,h,api,flight,0,7,alice",
            "1,h,api,flight,30000,7,a}:lease:{b",
            "1,h,api,f:lease:{x|y}:,30000,7,alice",
            "1,h,api|,flight,30000,7,alice",
            format!("1,{},api,flight,30000,7,alice", "x".repeat(65)).as_str(),
            format!("1,h,api{}", ",flight,30000,7,alice".repeat(17)).as_str(),
        ] {
            assert_eq!(ReleaseToken::read(text, None), None, "{text}");
        }
    }

    #[test]
    fn a_token_with_a_seal_cannot_be_changed() {
        let key = HashKey::new(b"secret").unwrap();
        let text = token("job").write(Some(&key));
        let other = HashKey::new(b"another secret").unwrap();
        assert_eq!(ReleaseToken::read(&text, Some(&other)), None);
        assert_eq!(ReleaseToken::read(&text, None), None);
        assert_eq!(ReleaseToken::read(&token("job").write(None), Some(&key)), None);
        for place in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(ReleaseToken::read(&changed, Some(&key)), None, "{changed}");
        }
        // The lease of another identity, behind the seal of this one.
        let (_, seal) = text.rsplit_once(',').unwrap();
        let forged = format!("1,job,api,flight,30000,7,mallory,{seal}");
        assert_eq!(ReleaseToken::read(&forged, Some(&key)), None);
    }
}
