//! The commands, one file each: semantics, syntax, facts, run.
//!
//! * `all_or_none`: the units of several keys, or of none. `reservation`: the key of a reservation.
//! * `decision`: the decisions of keys. `change`: the changes of keys, and their publication.
//! * `leases`: the changes of leases, and their publication.
//! * `expiry`: the expiry of keys.
//! * `arguments`: the arguments that several commands take.

mod acquire;
mod all_or_none;
mod apply;
mod arguments;
mod change;
mod decision;
mod expiry;
mod fixed_window;
mod holders;
mod leases;
mod multi;
mod peek;
mod refund;
mod release;
mod renew;
mod reservation;
mod reserve;
mod reset;
mod settle;
mod sliding_window_log;
mod throttle;
mod token_bucket;
mod top;

pub(crate) use acquire::Acquire;
pub(crate) use apply::Apply;
pub(crate) use fixed_window::TakeFixedWindow;
pub(crate) use holders::Holders;
pub(crate) use multi::Multi;
pub(crate) use peek::Peek;
pub(crate) use refund::Refund;
pub(crate) use release::Release;
pub(crate) use renew::Renew;
pub(crate) use reserve::Reserve;
pub(crate) use reset::Reset;
pub(crate) use settle::SettleReservation;
pub(crate) use sliding_window_log::TakeSlidingWindowLog;
pub(crate) use throttle::Throttle;
pub(crate) use token_bucket::TakeTokenBucket;
pub(crate) use top::Top;
