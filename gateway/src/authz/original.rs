//! A request of an end user, as a proxy describes it.

use std::{fmt, net::IpAddr};

use policies::{
    attributes::{Attributes, ClaimSource, ClientAddress},
    model::Entry,
    path::PathForm,
};

use tokio::time::Instant;

use super::{
    client_address::{FORWARDED_FOR, client_address},
    faults::Fault,
    options::AuthzOptions,
};

/// The header with which a proxy authenticates itself. No attribute has its value.
pub(crate) const PROXY_KEY: &str = "x-ratelimit-key";

const AUTHORIZATION: &str = "authorization";
const COOKIE: &str = "cookie";

/// A request of an end user. The end user writes every part but `peer` and `policy`.
pub(crate) struct OriginalRequest<'r> {
    /// The method.
    pub(crate) method: &'r [u8],
    /// The host, if the request has one.
    pub(crate) host: Option<&'r [u8]>,
    /// The request target: the path and the query.
    pub(crate) target: &'r [u8],
    /// The lines of the head, with names in any case.
    pub(crate) headers: Vec<(&'r str, &'r [u8])>,
    /// The address of the proxy, if it has one.
    pub(crate) peer: Option<IpAddr>,
    /// True if the peer is the end user unless it is a trusted proxy: a proxy has described its own peer.
    pub(crate) peer_may_be_end_user: bool,
    /// The policy that the configuration of the proxy names.
    pub(crate) policy: Option<&'r str>,
    /// The time from which on the fail mode decides, if the proxy waits no longer.
    pub(crate) deadline: Option<Instant>,
}

impl fmt::Debug for OriginalRequest<'_> {
    /// Writes no values: they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginalRequest").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The token of an end user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndUserToken<'r> {
    /// The request has no token.
    Missing,
    /// The request has this token.
    One(&'r str),
    /// The request has several tokens, of which the server behind the proxy may read any.
    Repeated,
}

impl<'r> EndUserToken<'r> {
    /// Returns the token, unless there is none or several.
    pub(super) const fn one(self) -> Option<&'r str> {
        match self {
            Self::One(token) => Some(token),
            Self::Missing | Self::Repeated => None,
        }
    }
}

impl<'r> OriginalRequest<'r> {
    /// Returns the attributes for policies with this form of paths.
    ///
    /// # Errors
    ///
    /// When the path is malformed.
    pub(super) fn attributes(
        &self,
        options: &AuthzOptions,
        form: PathForm,
        token: EndUserToken<'_>,
        claims: &'r dyn ClaimSource,
    ) -> Result<Attributes<'r>, Fault> {
        let mut attributes = Attributes::new(Entry::Authz, form);
        attributes.set_method(self.method);
        if let Some(host) = self.host {
            attributes.set_host(host);
        }
        attributes.set_target(self.target)?;
        if let Some(policy) = self.policy {
            attributes.set_policy(policy);
        }
        let trusted = &options.trusted_proxies;
        attributes.set_client(match self.peer {
            Some(peer) if self.peer_may_be_end_user && !trusted.contain(peer) => {
                ClientAddress::Known(peer)
            }
            peer => client_address(trusted, peer, self.lines(FORWARDED_FOR)),
        });
        attributes.reserve_headers(self.headers.len());
        for (name, value) in &self.headers {
            if !name.eq_ignore_ascii_case(PROXY_KEY) {
                attributes.add_header(*name, *value);
            }
        }
        attributes.set_claims(claims);
        if token == EndUserToken::Repeated {
            attributes.set_tokens_repeated();
        }
        Ok(attributes)
    }

    /// Returns the token of the end user: that of `Authorization: Bearer`, or else that of the cookie
    /// with this name. An empty name is no cookie.
    pub(super) fn token(&self, cookie: &str) -> EndUserToken<'r> {
        let mut lines = self.lines(AUTHORIZATION);
        let bearer = match (lines.next(), lines.next()) {
            (line, None) => line.and_then(bearer),
            (_, Some(_)) => return EndUserToken::Repeated,
        };
        if let Some(token) = bearer {
            return EndUserToken::One(token);
        }
        if cookie.is_empty() {
            return EndUserToken::Missing;
        }
        let pairs = self.lines(COOKIE).flat_map(|line| line.split(|byte| *byte == b';'));
        let mut tokens = pairs.filter_map(|pair| cookie_value(pair, cookie));
        match (tokens.next(), tokens.next()) {
            (None, _) => EndUserToken::Missing,
            (Some(token), None) => {
                str::from_utf8(token).map_or(EndUserToken::Missing, EndUserToken::One)
            }
            (Some(_), Some(_)) => EndUserToken::Repeated,
        }
    }

    /// Returns the values of a header, whose name is in lower case, in their order.
    fn lines(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'r [u8]> {
        let same = move |(line, _): &&(&str, &[u8])| line.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, value)| *value)
    }
}

/// Returns the token in a value of `Authorization`; `None` for another scheme, or an empty token. The
/// case of the scheme does not matter (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, token) = str::from_utf8(value).ok()?.split_once(' ')?;
    let token = token.trim_matches([' ', '\t']);
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Returns the value of a cookie, if the pair has this name.
fn cookie_value<'c>(pair: &'c [u8], name: &str) -> Option<&'c [u8]> {
    let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(quoted.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use limiter::Instant;
    use policies::{LoadOptions, Policies, address::Network, attributes::Claims};
    use proptest::{collection::vec, prelude::*};

    use super::{EndUserToken, OriginalRequest};
    use crate::authz::{
        faults::Fault,
        options::{AuthzOptions, Networks},
    };

    /// Policies that read every attribute that an end user writes.
    const POLICIES: &str = r#"
version: 1
policies:
  - name: login
    match: {method: POST, path: "/a/**", host: {not: "*.example"}}
    by: [client.ip/24/56, header.x-a, query.a]
    missing: share
    limits: [{name: rate, limit: 9, per: 1m, cost: {from: header.x-cost, trusted: true, default: 2}}]
  - name: site
    by: [client.ip, method, host, path]
    missing: skip
    limits: [{name: rate, limit: 9, per: 1m}]
"#;

    fn policies() -> Policies {
        let now = Instant::from_micros(1_800_000_000_000_000);
        let options =
            LoadOptions { key_prefix: String::new(), hash_key: None, require_end: false, now };
        Policies::load(POLICIES.as_bytes(), &options).unwrap()
    }

    proptest! {
        /// Proxies let a request pass when they get an error, so that only the proxy and the gateway may
        /// cause one. The last element of the list is the proxy's.
        #[test]
        fn whatever_an_end_user_sends_is_decided_or_malformed(
            method in "[A-Z!]{1,9}|\\PC{0,300}",
            host in proptest::option::of(vec(any::<u8>(), 0..300)),
            target in prop_oneof![
                "(/|%2f|\\.|a|b|%|\\?|a=|&|#|//|\\\\|;){0,20}".prop_map(String::into_bytes),
                vec(any::<u8>(), 0..9_000),
            ],
            headers in vec(
                (
                    prop_oneof!["x-a", "X-A", "x-cost", "x-forwarded-for", "authorization", "cookie"],
                    prop_oneof![
                        vec(any::<u8>(), 0..300),
                        "-?[0-9]{0,30}".prop_map(String::into_bytes),
                        "Bearer [a-z.]{0,9}|s=[a-z;= ]{0,9}".prop_map(String::into_bytes),
                    ],
                ),
                0..6,
            ),
            peer_may_be_end_user: bool,
        ) {
            let policies = policies();
            let mut lines: Vec<(&str, &[u8])> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            lines.push(("x-forwarded-for", b"203.0.113.7"));
            let request = OriginalRequest {
                method: method.as_bytes(),
                host: host.as_deref(),
                target: &target,
                headers: lines,
                peer: Some("10.0.0.1".parse().unwrap()),
                peer_may_be_end_user,
                policy: None,
                deadline: None,
            };
            let options = AuthzOptions {
                trusted_proxies: Networks::new(vec![Network::parse("10.0.0.0/8").unwrap()]),
                cookie: "s".to_owned(),
                ..AuthzOptions::default()
            };
            let (token, claims) = (request.token(&options.cookie), Claims::new());
            let attributes = request.attributes(&options, policies.path_form(), token, &claims);
            let judged = attributes.and_then(|attributes| {
                let now = Instant::from_micros(1_800_000_000_000_000);
                policies.judge(&attributes, now).map(drop).map_err(Fault::from)
            });
            if let Err(fault) = judged {
                prop_assert!(matches!(fault, Fault::Malformed(_)), "{fault:?}");
            }
        }
    }

    #[test]
    fn the_peer_of_a_proxy_is_the_end_user_unless_it_is_a_trusted_proxy() {
        let options = AuthzOptions {
            trusted_proxies: Networks::new(vec![Network::parse("10.0.0.0/8").unwrap()]),
            ..AuthzOptions::default()
        };
        let policies = policies();
        let key = |peer: &str, peer_may_be_end_user| {
            let request = OriginalRequest {
                method: b"GET",
                host: Some(b"shop"),
                target: b"/",
                headers: vec![("x-forwarded-for", b"203.0.113.7".as_slice())],
                peer: Some(peer.parse().unwrap()),
                peer_may_be_end_user,
                policy: None,
                deadline: None,
            };
            let claims = Claims::new();
            let token = EndUserToken::Missing;
            let attributes = request.attributes(&options, policies.path_form(), token, &claims);
            let now = Instant::from_micros(1_800_000_000_000_000);
            let judgement = policies.judge(&attributes.unwrap(), now).ok()?;
            Some(judgement.limits.first()?.key.clone())
        };
        for (peer, peer_may_be_end_user, client) in [
            ("10.0.0.1", true, Some("203.0.113.7")),
            ("192.0.2.9", true, Some("192.0.2.9")),
            ("10.0.0.1", false, Some("203.0.113.7")),
            ("192.0.2.9", false, None),
        ] {
            let key = key(peer, peer_may_be_end_user);
            let same = key.as_deref().zip(client).map(|(key, client)| key.contains(client));
            assert_eq!(same, client.map(|_| true), "{peer} {key:?}");
        }
    }

    fn token(headers: &[(&str, &str)], cookie: &str) -> EndUserToken<'static> {
        let own = |text: &str| &*Box::leak(text.to_owned().into_boxed_str());
        let headers = headers.iter().map(|(name, value)| (own(name), own(value).as_bytes()));
        let request = OriginalRequest {
            method: b"GET",
            host: None,
            target: b"/",
            headers: headers.collect(),
            peer: None,
            peer_may_be_end_user: false,
            policy: None,
            deadline: None,
        };
        request.token(cookie)
    }

    #[test]
    fn the_token_is_in_authorization_or_in_the_cookie() {
        let one = EndUserToken::One;
        for (headers, expected) in [
            (&[][..], EndUserToken::Missing),
            (&[("Authorization", "Bearer a.b.c")], one("a.b.c")),
            (&[("authorization", "bearer  a.b.c ")], one("a.b.c")),
            (&[("Authorization", "Basic dTpw")], EndUserToken::Missing),
            (&[("Authorization", "Bearer ")], EndUserToken::Missing),
            (&[("Cookie", "a=1; id=a.b.c; b=2")], one("a.b.c")),
            (&[("Cookie", "a=1"), ("cookie", "id=\"a.b.c\"")], one("a.b.c")),
            (&[("Cookie", "xid=a; id2=b; id =c; ID=d")], EndUserToken::Missing),
            (&[("Cookie", "id=x"), ("Authorization", "Bearer a.b.c")], one("a.b.c")),
            (&[("Cookie", "id=x"), ("Authorization", "Basic dTpw")], one("x")),
            // The server may read another one than the gateway.
            (&[("Cookie", "id=x; id=y")], EndUserToken::Repeated),
            (&[("Cookie", "id=x"), ("Cookie", "id=y")], EndUserToken::Repeated),
            (
                &[("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
                EndUserToken::Repeated,
            ),
        ] {
            assert_eq!(token(headers, "id"), expected, "{headers:?}");
        }
        assert_eq!(token(&[("Cookie", "id=x; =y")], ""), EndUserToken::Missing);
    }
}
