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

use std::ffi::CStr;

use limiter::Algorithm;
use limiter::codec::{Change, DecodeError};

use crate::server::call::Call;
use crate::server::data_type::DataType;
use crate::server::key::Key;

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
        // Reaches nobody, and is counted as a change by the server's save points.
        call.replicate_verbatim();
        return;
    }
    // The call has just changed the value, so it is there.
    if let Ok(Some(state)) = key.get() {
        send(call, key, expiry_millis, &change(state));
    }
}

fn send(call: &Call<'_>, key: &Key<'_>, expiry_millis: u64, change: &Change) {
    let mut payload = Payload::new();
    payload.extend(expiry_millis.to_be_bytes());
    change.encode(&mut payload);
    call.replicate(APPLY, key, payload.bytes());
}

/// Sends the deletion of a key by a call.
pub(crate) fn delete(call: &Call<'_>, key: &Key<'_>) {
    call.replicate_delete(key);
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
    Ok((expiry_millis, Change::decode(change)?))
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
