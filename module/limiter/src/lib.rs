//! Rate limiting decisions as pure integer code.
//!
//! The algorithms, [`TokenBucket`], [`SlidingWindowLog`] and [`FixedWindow`], decide from (state,
//! limit, request, now) and from nothing else. The Redis module keeps their states in the server's keys.
//!
//! ```
//! use limiter::{Duration, Instant, Limit, Limiter, Request, RetryAfter, TokenBucket};
//! use limiter::{Units, Window};
//!
//! let limit = Limit::new(Units::new(100).unwrap(), Window::from_millis(60_000).unwrap());
//! let one = Request::all(Units::MIN);
//! let now = Instant::from_micros(1_800_000_000_000_000);
//! let mut bucket = TokenBucket::new();
//!
//! let decision = bucket.take(&limit, one, now);
//! assert_eq!((decision.granted, decision.remaining), (1, 99));
//! assert_eq!(decision.reset_after, Duration::from_micros(600_000));
//!
//! let decision = bucket.take(&limit, Request::all(limit.limit), now);
//! assert_eq!(decision.granted, 0);
//! assert_eq!(decision.retry_after, RetryAfter::Wait(Duration::from_micros(600_000)));
//! ```
//!
//! # Layout
//!
//! Each file imports only files above it in this list.
//!
//! * [`Algorithm`]: the algorithms, with one table of facts.
//! * [`Instant`] and [`Duration`]: microseconds, and the only rounding.
//! * [`Limit`], [`Request`]: the parameters of a call, checked once.
//! * [`Period`], [`Bounds`]: the windows of the calendar, of a length, or of the caller.
//! * [`LogLimit`], [`LogOptions`]: the limit and the options of a call that is logged.
//! * [`Decision`]: the answer to a call.
//! * [`codec`]: the versions, kinds and fields of bytes that are stored and sent.
//! * [`Stored`]: a state that is stored and replicated; [`Limiter`]: one that decides, with `take`,
//!   `peek` and `refund`.
//! * [`TokenBucket`], [`SlidingWindowLog`] and [`FixedWindow`]: each decides, encodes itself and
//!   applies its effects.
//! * [`Quota`]: a limit of any algorithm.
//! * [`Holder`], [`Fences`], [`Lease`], [`Acquisition`]: a holder, the order of leases, one lease,
//!   and the call that takes it.
//! * [`Leases`]: at most so many units at the same time.
//! * [`Reservation`]: estimates of several keys, which [`Settle`] corrects.
//! * [`Effect`]: an effect on any state, or a deletion.
//! * [`TopKeys`]: the keys with the most recent denials.
//!
//! # Guarantees
//!
//! * Token bucket: over every interval of length T, at most `capacity + limit * T / window` units.
//! * Sliding window log: in every half-open interval as long as the window, at most `limit` units.
//! * Fixed window: in every window, at most `limit` units, if all calls lay the same windows.
//! * A denied call changes nothing. The same call is granted after `retry_after`, and not before.
//! * Every state has an end, as its latest grant counts. From then on it affects no call, and no
//!   call waits beyond it.
//! * Time that runs backwards grants nothing extra, and blocks a key for two windows at most.
//! * Limits, windows and costs may change at any call. Used units stay used.
//! * No combination of values within their bounds overflows, and no bytes make decoding panic.
//!
//! `tests/properties.rs` tries to break each of these.
//!
//! # What it does not do
//!
//! It reads no clock, does no I/O, uses no floating point and no unsafe code, and does not know
//! about expiry or replication.

#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

extern crate alloc;

mod algorithm;
mod buffers;
mod calendar;
pub mod codec;
mod decision;
mod effect;
mod fixed_window;
mod grants;
mod holder;
mod lease;
mod lease_arena;
mod lease_call;
mod lease_index;
mod leases;
mod limits;
mod log_options;
mod math;
mod noted_window;
mod quota;
mod reservation;
mod sliding_window_log;
mod state;
mod stored;
mod time;
mod token_bucket;
mod top_keys;
mod varint;

pub use algorithm::{Algorithm, Facts};
pub use buffers::BufferVisitor;
pub use calendar::{Anchor, Bounds, Period};
pub use codec::Encode;
pub use decision::{Decision, Refund, RetryAfter};
pub use effect::Effect;
pub use fixed_window::{FixedLimit, FixedWindow};
pub use holder::{Fences, Holder};
pub use lease::Lease;
pub use lease_call::{Acquired, Acquisition, AcquisitionError, HeldLease, Renewed};
pub use leases::{LeaseEffect, Leases};
pub use limits::{Limit, MAX_USED, Mode, Request, Units, Window};
pub use log_options::{LogLimit, LogOptions};
pub use quota::Quota;
pub use reservation::{
    Correction, Estimate, Origin, Reservation, ReservationEffect, Settle, Settlement,
};
pub use sliding_window_log::{LogEffect, SlidingWindowLog};
pub use state::Limiter;
pub use stored::{Refused, Stored};
pub use time::{Duration, Instant};
pub use token_bucket::TokenBucket;
pub use top_keys::TopKeys;
