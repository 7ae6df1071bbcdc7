//! Limits in a file: which requests are limited by which limits.
//!
//! The engine maps (policies, attributes of a request, time) to the limits to take: their keys,
//! numbers and costs. It is pure, as the limiter is; another crate takes the limits.
//!
//! ```
//! use limiter::Instant;
//! use policies::attributes::Attributes;
//! use policies::model::Entry;
//! use policies::{LoadOptions, Policies};
//!
//! let file = "
//! version: 1
//! plans:
//!   free: [{name: rate, limit: 20, per: 1s}, {name: hour, limit: 1000, per: 1h}]
//!   pro: [{name: rate, limit: 200, per: 1s}, {name: hour, limit: 10000, per: 1h}]
//! policies:
//!   - name: api
//!     by: [jwt.sub]
//!     missing: deny
//!     plan: {from: jwt.plan, default: free}
//! ";
//! let now = Instant::from_micros(1_800_000_000_000_000);
//! let options =
//!     LoadOptions { key_prefix: String::new(), hash_key: None, require_end: false, now };
//! let policies = Policies::load(file.as_bytes(), &options)?;
//!
//! let mut request = Attributes::new(Entry::Check, policies.path_form());
//! request.set_claim("jwt.sub", "alice")?;
//! request.set_claim("jwt.plan", "pro")?;
//! let judgement = policies.judge(&request, now)?;
//! assert_eq!(judgement.plan, Some("pro"));
//! assert_eq!(judgement.limits[0].key, "policy:rate:tb:{api|alice}");
//! assert_eq!(judgement.limits[0].limit.get(), 200);
//!
//! let broken = file.replace("limit: 20,", "limt: 20,");
//! let error = Policies::load(broken.as_bytes(), &options).unwrap_err();
//! assert_eq!(error.problems()[1].to_string(), "line 4, column 23: unknown key `limt`; did you mean `limit`?");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layout
//!
//! * A file: [`parse`] (YAML within bounds), `read` and `document` (its form, and the
//!   [`schema()`]), `validate` (values that cannot be wrong), [`problem`] (line and column).
//! * A request: [`attribute`] (names), [`attributes`] (values), [`path`], [`host`] and [`address`]
//!   (one form each).
//! * Matching: [`glob`], [`clause`], [`overrides`], the indexes, [`identity`] (keys), [`digest`]
//!   (secret values), and [`judgement`] (the result); [`identity_keys`]: the keys to reset;
//!   [`lease_key`]: the keys of concurrency limits.
//! * [`explain`]: the account of a request, clause by clause; `unread`: its attributes that no policy
//!   reads; [`record`]: its attributes for a log.
//!
//! # Guarantees
//!
//! * A file is used whole or not at all; all its faults are found at once, each with line and column.
//! * No file costs more than in proportion to its size: depth, aliases and lists have bounds.
//! * Different lists of values never share a key, and all limits of one identity share a slot.
//! * Secret values are in no key and in no explanation.
//! * No request panics. Only a malformed path, a repeated attribute or an unknown address that the
//!   policy reads, and a policy that the request must not name, are errors.
//! * An index changes the time that matching takes, and nothing else.
//!
//! `tests/tests` tries to break each of these.
//!
//! # What it does not do
//!
//! It reads no file and no clock, verifies no tokens, keeps no state, and decides no limit.

#![forbid(unsafe_code)]

pub mod address;
pub mod attribute;
pub mod attributes;
pub mod clause;
pub mod digest;
mod document;
pub mod duration;
mod end;
mod entry;
pub mod explain;
pub mod glob;
pub mod host;
pub mod identity;
pub mod identity_keys;
mod index;
pub mod judgement;
mod kind;
pub mod lease_key;
mod limit;
mod load_options;
mod matching;
pub mod model;
mod name;
pub mod overrides;
pub mod parse;
pub mod path;
mod policies;
mod policy_index;
pub mod problem;
mod read;
pub mod record;
mod recorded_attribute;
mod recorded_value;
mod schema;
mod secret_value;
mod unread;
mod validate;

pub use kind::Kind;
pub use load_options::LoadOptions;
pub use policies::Policies;
pub use schema::schema;
