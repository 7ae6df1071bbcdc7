//! Rate limiting decisions as pure integer code.
//!
//! Two algorithms, [`TokenBucket`] and [`SlidingWindowLog`], decide from (state, limit, demand,
//! now) and from nothing else. The Redis module keeps their states in the server's keys.
//!
//! ```
//! use limiter::{Algorithm, BucketLimit, Demand, Duration, Instant, RetryAfter, TokenBucket};
//! use limiter::{Units, Window};
//!
//! let limit = BucketLimit::new(Units::new(100).unwrap(), Window::from_millis(60_000).unwrap());
//! let one = Demand::all(Units::MIN);
//! let now = Instant::from_micros(1_800_000_000_000_000);
//! let mut bucket = TokenBucket::new();
//!
//! let decision = bucket.take(&limit, one, now);
//! assert_eq!((decision.granted, decision.remaining), (1, 99));
//! assert_eq!(decision.reset_after, Duration::from_micros(600_000));
//!
//! let decision = bucket.take(&limit, Demand::all(limit.limit), now);
//! assert_eq!(decision.granted, 0);
//! assert_eq!(decision.retry_after, RetryAfter::Wait(Duration::from_micros(600_000)));
//! ```
//!
//! # Layout
//!
//! * [`Instant`] and [`Duration`]: microseconds, and the only rounding.
//! * [`BucketLimit`], [`WindowLimit`], [`Demand`]: what is asked, checked once.
//! * [`Decision`]: what is answered.
//! * [`Algorithm`]: `take`, `peek` and `refund`, as [`TokenBucket`] and [`SlidingWindowLog`] do it.
//! * [`TopKeys`]: which keys were denied most lately.
//! * [`codec`]: the bytes in which states are stored and their changes are sent.
//!
//! # Guarantees
//!
//! * Token bucket: over every interval of length T, at most `capacity + limit * T / window` units.
//! * Sliding window log: in every half-open interval as long as the window, at most `limit` units.
//! * A denied call changes nothing; repeated after `retry_after` it is granted, and not before.
//! * Every state has an end, as its latest grant counts: from then on it counts for nothing, and no
//!   call waits beyond it.
//! * Time that runs backwards grants nothing extra, and blocks a key for two windows at most.
//! * Limits, windows and costs may change at any call; what was used carries over.
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
pub mod codec;
mod decision;
mod grants;
mod limits;
mod sliding_window_log;
mod time;
mod token_bucket;
mod top_keys;
mod varint;

pub use algorithm::{Algorithm, BufferVisitor};
pub use decision::{Decision, Refund, RetryAfter};
pub use limits::{BucketLimit, Demand, Units, Window, WindowLimit};
pub use sliding_window_log::SlidingWindowLog;
pub use time::{Duration, Instant};
pub use token_bucket::TokenBucket;
pub use top_keys::TopKeys;
