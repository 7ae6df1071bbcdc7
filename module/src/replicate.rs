//! What leaves this server, and when nothing does.
//!
//! A granted call travels as its effect: the change that it made, with the time at which it made
//! it and the absolute expiry of the key. Whoever receives it reads no clock and decides nothing,
//! so that replicas, and a server that loads its append-only file, hold the same bytes. Calls that
//! change nothing send nothing.
//!
//! ```text
//! RATELIMIT.APPLY key payload
//!                     └ 8 bytes: expiry in Unix milliseconds, big-endian, 0 to leave it alone
//!                       then the change in the limiter's codec
//! ```
//!
//! Deletions travel the same way. No command of the server is used: an operator can rename those,
//! and the server then refuses to send them. The module's own cannot be renamed, as no module is
//! loaded yet when the server reads `rename-command`.
//!
//! A change that the server refuses to send is counted in INFO and logged.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

use limiter::Algorithm;
use limiter::codec::{Change, DecodeError};

use crate::clock;
use crate::server::call::Call;
use crate::server::data_type::DataType;
use crate::server::key::Key;
use crate::server::replication::NotSent;

/// The command that carries effects.
pub(crate) const APPLY: &CStr = c"ratelimit.apply";

/// Sends the change that a call made to a key, which is asked for only if there is an audience.
#[inline(always)]
pub(crate) fn change<T: DataType>(
    call: &Call<'_>,
    key: &Key<'_>,
    expiry_millis: u64,
    change: impl FnOnce(&T) -> Change,
) {
    if !call.has_audience() {
        verbatim(call);
        return;
    }
    // The call has just changed the value, so it is there.
    match key.get() {
        Ok(Some(state)) => send(call, key, expiry_millis, &change(state)),
        _ => count_failure(call),
    }
}

/// Sends the deletion of a key by a call.
pub(crate) fn deletion(call: &Call<'_>, key: &Key<'_>) {
    if call.has_audience() {
        send(call, key, 0, &Change::Deletion);
    } else {
        verbatim(call);
    }
}

/// Sends a call as it is: one that carries an effect; or any one that has no audience, so that it
/// is counted as a change by the server's save points.
pub(crate) fn verbatim(call: &Call<'_>) {
    if let Err(NotSent) = call.replicate_verbatim() {
        count_failure(call);
    }
}

fn send(call: &Call<'_>, key: &Key<'_>, expiry_millis: u64, change: &Change) {
    let mut payload = Payload::new();
    payload.extend(expiry_millis.to_be_bytes());
    change.encode(&mut payload);
    if let Err(NotSent) = call.replicate(APPLY, key, payload.bytes()) {
        count_failure(call);
    }
}

/// The changes that were not sent, and when that was logged last.
static FAILURES: AtomicU64 = AtomicU64::new(0);
static LOGGED_MICROS: AtomicU64 = AtomicU64::new(0);

/// The number of changes that were not sent since the module was loaded.
pub(crate) fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// Counts a change that was not sent. Logs the first one, and then one line a second at most.
#[cold]
fn count_failure(call: &Call<'_>) {
    let failures = failures().wrapping_add(1);
    FAILURES.store(failures, Ordering::Relaxed);
    let (now, logged) = (clock::now().as_micros(), LOGGED_MICROS.load(Ordering::Relaxed));
    // A clock that was set back lets the next line through.
    if failures > 1 && (logged..logged.saturating_add(1_000_000)).contains(&now) {
        return;
    }
    LOGGED_MICROS.store(now, Ordering::Relaxed);
    call.log_warning(&format!(
        "the server refused to replicate changes of limiter keys ({failures} so far): run \
         BGREWRITEAOF to repair the append-only file, and let every replica synchronize in full"
    ));
}

/// The payload that gives a key this value; its expiry is sent by the server itself.
pub(crate) fn restore(value: &impl Algorithm) -> Vec<u8> {
    let mut payload = 0_u64.to_be_bytes().to_vec();
    value.encode(&mut payload);
    payload
}

/// The expiry and the change of a payload.
pub(crate) fn parse(payload: &[u8]) -> Result<(u64, Change), DecodeError> {
    let (expiry, change) = payload.split_first_chunk().ok_or(DecodeError::Malformed)?;
    let expiry_millis = u64::from_be_bytes(*expiry);
    if expiry_millis > i64::MAX.unsigned_abs() {
        return Err(DecodeError::Malformed);
    }
    match Change::decode(change)? {
        Change::Deletion if expiry_millis > 0 => Err(DecodeError::Malformed),
        change => Ok((expiry_millis, change)),
    }
}

/// The payload of one call, without an allocation.
struct Payload {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl Payload {
    /// The expiry and the longest change that a single call makes: the state of a bucket.
    const MAX: usize = 8 + limiter::TokenBucket::MAX_BYTES;

    const fn new() -> Self {
        Self { bytes: [0; Self::MAX], len: 0 }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

impl Extend<u8> for Payload {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        for byte in bytes {
            debug_assert!(self.len < Self::MAX, "no single call changes more than a bucket");
            if let Some(next) = self.bytes.get_mut(self.len) {
                *next = byte;
                self.len += 1;
            }
        }
    }
}
