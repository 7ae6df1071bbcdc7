//! The effects that this server sends to replicas and to the append-only file.
//!
//! A granted call is replicated as its effect: the change that it made, with the time of the change
//! and the absolute expiry of the key. The receiver of an effect reads no clock and decides
//! nothing, so that replicas, and a server that loads its append-only file, hold the same bytes.
//! Calls that change nothing send nothing.
//!
//! ```text
//! RATELIMIT.APPLY key payload
//!                     └ 8 bytes: expiry in Unix milliseconds, big-endian, 0 for no change of it
//!                       then the effect in the limiter's codec
//! ```
//!
//! Deletions are effects too. No command of the server is used: an operator can rename those, and
//! the server then refuses to send them. The module's own command cannot be renamed, as no module
//! is loaded yet when the server reads `rename-command`.
//!
//! An effect that the server refuses to send is counted in INFO and logged.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

use limiter::codec::DecodeError;
use limiter::{Effect, Encode, Limiter, TokenBucket};

use crate::clock;
use crate::ffi::call::Call;
use crate::ffi::replication::NotReplicated;

/// The command that carries effects.
pub(crate) const APPLY: &CStr = c"ratelimit.apply";

/// Sends the effect of a call on a key. The payload is made only if there is a receiver.
#[inline(always)]
pub(crate) fn effect(call: &mut Call<'_>, key: usize, payload: impl FnOnce() -> Payload) {
    if call.has_receivers() {
        send(call, key, payload().bytes());
    } else {
        verbatim(call);
    }
}

/// Sends an effect of any length of a call on a key. The effect is made only if there is a
/// receiver.
pub(crate) fn long_effect<E: Encode>(
    call: &mut Call<'_>,
    key: usize,
    expiry_millis: u64,
    effect: impl FnOnce() -> E,
) {
    if call.has_receivers() {
        send(call, key, Some(&encoded(expiry_millis, &effect())));
    } else {
        verbatim(call);
    }
}

/// Sends the deletion of a key by a call.
pub(crate) fn deletion(call: &mut Call<'_>, key: usize) {
    effect(call, key, || Payload::new(0, &Effect::Deletion));
}

/// Sends a call as it is: one that carries an effect; or any one without a receiver, so that the
/// server's save points count the call as a change.
#[inline(always)]
pub(crate) fn verbatim(call: &mut Call<'_>) {
    if let Err(NotReplicated) = call.replicate_verbatim() {
        count_failure(call);
    }
}

/// Returns the payload of the effect of one call.
pub(crate) fn payload<T: Limiter>(expiry_millis: u64, effect: &T::Effect) -> Payload {
    const {
        assert!(Payload::EXPIRY_BYTES + T::MAX_EFFECT_BYTES <= Payload::MAX);
    }
    Payload::new(expiry_millis, effect)
}

/// Returns the payload of the effect of one call that takes units, by any algorithm. [`payload`]
/// checks the length for each algorithm, whose own command calls that function.
pub(crate) fn payload_of_any(expiry_millis: u64, effect: &Effect) -> Payload {
    Payload::new(expiry_millis, effect)
}

fn send(call: &mut Call<'_>, key: usize, payload: Option<&[u8]>) {
    let sent = match payload {
        Some(bytes) => call.replicate(APPLY, key, bytes),
        None => Err(NotReplicated),
    };
    if let Err(NotReplicated) = sent {
        count_failure(call);
    }
}

/// The number of effects that were not sent, and the time of the latest line about them in the log.
static FAILURES: AtomicU64 = AtomicU64::new(0);
static LOGGED_MICROS: AtomicU64 = AtomicU64::new(0);

/// Returns the number of effects that were not sent since the module was loaded.
pub(crate) fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// Counts an effect that was not sent. Logs the first one, and then one line a second at most.
#[cold]
fn count_failure(call: &Call<'_>) {
    let failures = failures().wrapping_add(1);
    FAILURES.store(failures, Ordering::Relaxed);
    let (now, logged) = (clock::now().as_micros(), LOGGED_MICROS.load(Ordering::Relaxed));
    // After a step back of the clock, the next line is logged at once.
    if failures > 1 && (logged..logged.saturating_add(1_000_000)).contains(&now) {
        return;
    }
    LOGGED_MICROS.store(now, Ordering::Relaxed);
    call.log_warning(&format!(
        "the server refused to replicate changes of limiter keys ({failures} so far): run \
         BGREWRITEAOF to repair the append-only file, and let every replica synchronize in full"
    ));
}

/// Returns the payload that gives a key this value; the server itself sends the expiry.
pub(crate) fn restore(value: &impl Encode) -> Vec<u8> {
    encoded(0, value)
}

fn encoded(expiry_millis: u64, effect: &impl Encode) -> Vec<u8> {
    let mut payload = expiry_millis.to_be_bytes().to_vec();
    effect.encode(&mut payload);
    payload
}

/// Returns the expiry and the effect of a payload.
pub(crate) fn parse(payload: &[u8]) -> Result<(u64, Effect), DecodeError> {
    let (expiry, effect) = payload.split_first_chunk().ok_or(DecodeError::Malformed)?;
    let expiry_millis = u64::from_be_bytes(*expiry);
    if expiry_millis > i64::MAX.unsigned_abs() {
        return Err(DecodeError::Malformed);
    }
    match Effect::decode(effect)? {
        Effect::Deletion if expiry_millis > 0 => Err(DecodeError::Malformed),
        effect => Ok((expiry_millis, effect)),
    }
}

/// The payload of the effect of one call, without an allocation.
pub(crate) struct Payload {
    bytes: [u8; Self::MAX],
    /// More than [`Self::MAX`] if the effect did not fit.
    len: usize,
}

impl Payload {
    const EXPIRY_BYTES: usize = 8;
    /// The expiry and the longest effect of a single call, which is that on a bucket.
    const MAX: usize = Self::EXPIRY_BYTES + TokenBucket::MAX_EFFECT_BYTES;

    fn new(expiry_millis: u64, effect: &impl Encode) -> Self {
        let mut payload = Self { bytes: [0; Self::MAX], len: 0 };
        payload.extend(expiry_millis.to_be_bytes());
        effect.encode(&mut payload);
        debug_assert!(payload.len <= Self::MAX, "no effect is longer than that on a bucket");
        payload
    }

    /// Returns the bytes, or `None` if the effect did not fit.
    fn bytes(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len)
    }
}

impl Extend<u8> for Payload {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        for byte in bytes {
            if let Some(next) = self.bytes.get_mut(self.len) {
                *next = byte;
            }
            self.len += 1;
        }
    }
}
