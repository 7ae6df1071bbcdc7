//! Forward authentication: a proxy asks whether a request of an end user may pass.
//!
//! A proxy describes the request; the policies judge the description by the entry `authz`. The contracts
//! of [`service`] over HTTP are thin: each reads an [`OriginalRequest`] and answers with the outcome of
//! [`decide()`].
//!
//! * [`client_address`]: the address of the end user behind proxies.
//! * [`original`]: the request of the end user, and the token in it.
//! * [`decide`]: the decision, the same for every contract.
//! * [`proxies`]: the authentication of proxies.
//! * [`faults`]: the reasons why there is no decision, and the log of them.
//! * [`contract`], [`description`], [`service`]: the contracts over HTTP.

pub(crate) mod client_address;
mod contract;
pub(crate) mod decide;
mod description;
pub(crate) mod faults;
pub mod options;
pub(crate) mod original;
pub(crate) mod proxies;
pub(crate) mod service;

use self::{faults::FaultLog, options::AuthzOptions};

/// The state of forward authentication.
#[derive(Debug)]
pub struct Authz {
    pub(crate) options: AuthzOptions,
    pub(crate) faults: FaultLog,
}

impl Authz {
    /// Returns the state with these options.
    #[must_use]
    pub fn new(options: AuthzOptions) -> Self {
        Self { options, faults: FaultLog::default() }
    }
}
