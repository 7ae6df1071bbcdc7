//! The paths of the contracts over HTTP, and the options in them.
//!
//! Options stand in the part of the path that the configuration of the proxy fixes. They are in no query
//! and in no header, because both are the end user's.

use axum::http::StatusCode;

/// The path above all contracts.
const ROOT: &str = "/authz";

/// A contract between a proxy and the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contract {
    /// `auth_request` of nginx, which knows the statuses 2xx, 401 and 403.
    AuthRequest,
    /// Proxies that describe the request in headers `X-Forwarded-*`.
    ForwardAuth,
    /// Proxies that send the request line of the end user below a prefix.
    ExtAuthz,
}

impl Contract {
    const ALL: [Self; 3] = [Self::AuthRequest, Self::ForwardAuth, Self::ExtAuthz];

    /// Returns the path without options, as the log and the metrics have it.
    pub(super) const fn route(self) -> &'static str {
        match self {
            Self::AuthRequest => "/authz/auth-request",
            Self::ForwardAuth => "/authz/forward-auth",
            Self::ExtAuthz => "/authz/ext-authz",
        }
    }

    /// Returns the status of a denial, unless an option selects another one.
    const fn deny_status(self) -> StatusCode {
        match self {
            Self::AuthRequest => StatusCode::FORBIDDEN,
            Self::ForwardAuth | Self::ExtAuthz => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// Returns whether the proxies of the contract take the status as a denial.
    fn takes(self, status: StatusCode) -> bool {
        match self {
            Self::AuthRequest => status == StatusCode::FORBIDDEN,
            Self::ForwardAuth | Self::ExtAuthz => {
                status.is_client_error() && status != StatusCode::UNAUTHORIZED
            }
        }
    }

    /// Returns the statuses that the option `deny` can select, in words.
    const fn statuses(self) -> &'static str {
        match self {
            Self::AuthRequest => "403",
            Self::ForwardAuth | Self::ExtAuthz => "400 to 499 without 401",
        }
    }
}

/// The target of a request of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call<'u> {
    pub(super) contract: Contract,
    /// The options, or the fault of the configuration of the proxy.
    pub(super) options: Result<Options<'u>, String>,
    /// The rest behind the fixed part: of [`Contract::ExtAuthz`] the target of the end user's request.
    pub(super) rest: &'u str,
}

/// The options in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options<'u> {
    /// The policy that decides, instead of the first that matches.
    pub(super) policy: Option<&'u str>,
    /// The status of a denial.
    pub(super) deny_status: StatusCode,
}

/// Returns whether a path belongs to forward authentication, also where no contract has it.
pub(super) fn is_below_root(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl<'u> Call<'u> {
    /// Returns the call with this path and query, or `None` where no contract has the path.
    pub(super) fn parse(target: &'u str) -> Option<Self> {
        let (contract, rest) = Contract::ALL.into_iter().find_map(|contract| {
            let rest = target.strip_prefix(contract.route())?;
            let ends = rest.is_empty() || rest.starts_with([';', '/', '?', '*']);
            ends.then_some((contract, rest))
        })?;
        let end = match rest.starts_with(';') {
            true => rest.find(['/', '?']).unwrap_or(rest.len()),
            false => 0,
        };
        let (options, rest) = rest.split_at(end);
        let is_whole = match contract {
            Contract::AuthRequest | Contract::ForwardAuth => {
                rest.is_empty() || rest.starts_with('?')
            }
            Contract::ExtAuthz => !rest.starts_with('*') || rest == "*",
        };
        is_whole.then(|| Self { contract, options: Options::parse(contract, options), rest })
    }
}

impl<'u> Options<'u> {
    /// Reads `;NAME=VALUE`, any number of times.
    fn parse(contract: Contract, text: &'u str) -> Result<Self, String> {
        let (mut policy, mut deny_status) = (None, None);
        for option in text.split(';').skip(1) {
            let is_new = match option.split_once('=') {
                Some(("policy", name)) if !name.is_empty() => policy.replace(name).is_none(),
                Some(("deny", status)) => {
                    let status = status.parse().ok().filter(|status| contract.takes(*status));
                    let status = status.ok_or_else(|| {
                        let (route, statuses) = (contract.route(), contract.statuses());
                        format!("{option:?} is not an option of {route}: deny takes {statuses}")
                    })?;
                    deny_status.replace(status).is_none()
                }
                _ => false,
            };
            if !is_new {
                let rule = "the options of a path are policy=NAME and deny=STATUS, each once";
                return Err(format!("{option:?} is not an option: {rule}"));
            }
        }
        Ok(Self { policy, deny_status: deny_status.unwrap_or(contract.deny_status()) })
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, Contract, is_below_root};

    /// Contract, policy, status and rest.
    type Parts<'u> = (Contract, Result<(Option<&'u str>, u16), ()>, &'u str);

    fn call(target: &str) -> Option<Parts<'_>> {
        let Call { contract, options, rest } = Call::parse(target)?;
        let options = options.map(|options| (options.policy, options.deny_status.as_u16()));
        Some((contract, options.map_err(drop), rest))
    }

    #[test]
    fn options_are_in_the_fixed_part_of_the_path_only() {
        use Contract::{AuthRequest, ExtAuthz, ForwardAuth};
        for (target, expected) in [
            ("/authz/auth-request", Some((AuthRequest, Ok((None, 403)), ""))),
            (
                "/authz/auth-request;deny=403;policy=a",
                Some((AuthRequest, Ok((Some("a"), 403)), "")),
            ),
            ("/authz/auth-request;deny=429", Some((AuthRequest, Err(()), ""))),
            ("/authz/auth-request?deny=200", Some((AuthRequest, Ok((None, 403)), "?deny=200"))),
            ("/authz/auth-request/", None),
            ("/authz/auth-request;policy=a/", None),
            ("/authz/forward-auth", Some((ForwardAuth, Ok((None, 429)), ""))),
            ("/authz/forward-auth;deny=400", Some((ForwardAuth, Ok((None, 400)), ""))),
            ("/authz/forward-auth;deny=499", Some((ForwardAuth, Ok((None, 499)), ""))),
            ("/authz/forward-auth;deny=401", Some((ForwardAuth, Err(()), ""))),
            ("/authz/forward-auth;deny=200", Some((ForwardAuth, Err(()), ""))),
            ("/authz/forward-auth;deny=503", Some((ForwardAuth, Err(()), ""))),
            ("/authz/forward-auth;deny=", Some((ForwardAuth, Err(()), ""))),
            ("/authz/forward-auth;policy=", Some((ForwardAuth, Err(()), ""))),
            ("/authz/forward-auth;", Some((ForwardAuth, Err(()), ""))),
            ("/authz/forward-auth;policy=a;policy=b", Some((ForwardAuth, Err(()), ""))),
            ("/authz/forward-auth;deny=429;deny=429", Some((ForwardAuth, Err(()), ""))),
            ("/authz/forward-auth;shadow=a", Some((ForwardAuth, Err(()), ""))),
            ("/authz/forward-authz", None),
            ("/authz/ext-authz", Some((ExtAuthz, Ok((None, 429)), ""))),
            ("/authz/ext-authz/login?a", Some((ExtAuthz, Ok((None, 429)), "/login?a"))),
            ("/authz/ext-authz?a", Some((ExtAuthz, Ok((None, 429)), "?a"))),
            ("/authz/ext-authz*", Some((ExtAuthz, Ok((None, 429)), "*"))),
            ("/authz/ext-authz*;policy=a", None),
            ("/authz/ext-authz;policy=a//x", Some((ExtAuthz, Ok((Some("a"), 429)), "//x"))),
            // The words of an end user.
            ("/authz/ext-authz/;deny=400", Some((ExtAuthz, Ok((None, 429)), "/;deny=400"))),
            (
                "/authz/ext-authz;policy=a/x;policy=b?;policy=c",
                Some((ExtAuthz, Ok((Some("a"), 429)), "/x;policy=b?;policy=c")),
            ),
            ("/authz", None),
            ("/authz/", None),
            ("/authz/other", None),
            ("/rate-limit/check", None),
        ] {
            assert_eq!(call(target), expected, "{target}");
        }
    }

    #[test]
    fn all_paths_below_the_root_belong_to_forward_authentication() {
        for path in ["/authz", "/authz/", "/authz/x", "/authz/ext-authz/../health/live"] {
            assert!(is_below_root(path), "{path}");
        }
        for path in ["/", "/authzx", "/health", "/x/authz"] {
            assert!(!is_below_root(path), "{path}");
        }
    }
}
