//! The bytes in which states and their changes are stored and sent.
//!
//! ```text
//!  version  kind  fields ...      every field an unsigned LEB128 integer
//! ```
//!
//! | kind | what | fields |
//! |---|---|---|
//! | 1 | a token bucket | time, window in ms, limit, units, parts |
//! | 2 | a sliding window log | window in ms, then per grant: µs since the one before, units |
//! | 3 | a grant that was logged | time, window in ms, units |
//! | 4 | a refund from a log | time, units |
//!
//! Times are in microseconds since the epoch. A log's whole state would be too long to send for
//! every grant, so what travels is the grant, and replaying it on the same log gives the same log.
//! A bucket is as short as its changes would be, and travels whole.
//!
//! Bytes of a newer version are refused, bytes of an older one are read for ever. Decoding checks
//! every bound and accepts nothing that these functions could not have written, except that an
//! integer may be padded.

use crate::limits::{Units, Window};
use crate::sliding_window_log::SlidingWindowLog;
use crate::time::Instant;
use crate::token_bucket::TokenBucket;
use crate::varint;

/// The version that is written, and the newest that is read.
pub const VERSION: u8 = 1;

const TOKEN_BUCKET: u8 = 1;
const SLIDING_WINDOW_LOG: u8 = 2;
const GRANT: u8 = 3;
const REFUND: u8 = 4;

/// Why bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes are of this version, newer than [`VERSION`].
    NewerVersion(u8),
    /// The bytes are not what this version writes.
    Malformed,
}

/// A change to a state, complete enough to be made again elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The bucket is now this one.
    TokenBucket(TokenBucket),
    /// The log is now this one.
    SlidingWindowLog(SlidingWindowLog),
    /// Units were granted from the log.
    Grant {
        /// When they were granted.
        time: Instant,
        /// The window of the call.
        window: Window,
        /// How many.
        units: Units,
    },
    /// Units were given back to the log.
    Refund {
        /// When they were given back.
        time: Instant,
        /// How many.
        units: Units,
    },
}

impl Change {
    /// Appends the bytes of this change to `bytes`: about 20 for all but a whole log.
    pub fn encode(&self, bytes: &mut impl Extend<u8>) {
        match self {
            Self::TokenBucket(bucket) => bucket.encode(bytes),
            Self::SlidingWindowLog(log) => log.encode(bytes),
            Self::Grant { time, window, units } => {
                let fields = [time.as_micros(), window.as_millis(), u64::from(units.get())];
                put(bytes, GRANT, &fields);
            }
            Self::Refund { time, units } => {
                put(bytes, REFUND, &[time.as_micros(), u64::from(units.get())]);
            }
        }
    }

    /// Reads back what [`Change::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, mut fields) = Fields::open(bytes)?;
        let change = match kind {
            TOKEN_BUCKET => fields.token_bucket().map(Self::TokenBucket),
            SLIDING_WINDOW_LOG => fields.sliding_window_log().map(Self::SlidingWindowLog),
            GRANT => fields.grant(),
            REFUND => fields.refund(),
            _ => None,
        };
        fields.close(change)
    }
}

impl TokenBucket {
    /// The most bytes that a state takes: version, kind and five integers within their bounds.
    pub const MAX_BYTES: usize = 2 + 9 + 5 + 5 + 5 + 7;

    /// Appends the bytes of this state to `bytes`: at most [`TokenBucket::MAX_BYTES`].
    pub fn encode(&self, bytes: &mut impl Extend<u8>) {
        let Self { time, window, parts, units, limit } = *self;
        let (limit, units) = (u64::from(limit.get()), u64::from(units));
        put(bytes, TOKEN_BUCKET, &[time.as_micros(), window.as_millis(), limit, units, parts]);
    }

    /// Reads back what [`TokenBucket::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match Change::decode(bytes)? {
            Change::TokenBucket(bucket) => Ok(bucket),
            _ => Err(DecodeError::Malformed),
        }
    }
}

impl SlidingWindowLog {
    /// Appends the bytes of this state to `bytes`: some three for each logged grant.
    pub fn encode(&self, bytes: &mut impl Extend<u8>) {
        put(bytes, SLIDING_WINDOW_LOG, &[self.window.as_millis()]);
        let mut last = Instant::EPOCH;
        for grant in self.grants.iter() {
            varint::put(bytes, grant.time.micros_since(last));
            varint::put(bytes, u64::from(grant.units));
            last = grant.time;
        }
    }

    /// Reads back what [`SlidingWindowLog::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match Change::decode(bytes)? {
            Change::SlidingWindowLog(log) => Ok(log),
            _ => Err(DecodeError::Malformed),
        }
    }
}

fn put(bytes: &mut impl Extend<u8>, kind: u8, fields: &[u64]) {
    bytes.extend([VERSION, kind]);
    for &field in fields {
        varint::put(bytes, field);
    }
}

/// The fields that have not been read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The kind, and the fields behind it.
    fn open(bytes: &'a [u8]) -> Result<(u8, Self), DecodeError> {
        match *bytes {
            [VERSION, kind, ref fields @ ..] => Ok((kind, Self(fields))),
            [version, ..] if version > VERSION => Err(DecodeError::NewerVersion(version)),
            _ => Err(DecodeError::Malformed),
        }
    }

    /// `decoded`, provided that it took all fields.
    fn close<T>(self, decoded: Option<T>) -> Result<T, DecodeError> {
        decoded.filter(|_| self.0.is_empty()).ok_or(DecodeError::Malformed)
    }

    fn token_bucket(&mut self) -> Option<TokenBucket> {
        let (time, window, limit) = (self.time()?, self.window()?, self.units()?);
        let (units, parts) = (u32::try_from(self.integer()?).ok()?, self.integer()?);
        let used = units > 0 || parts > 0;
        let in_bounds = units <= Units::MAX.get() && parts < window.as_micros();
        (used && in_bounds).then_some(TokenBucket { time, window, parts, units, limit })
    }

    fn sliding_window_log(&mut self) -> Option<SlidingWindowLog> {
        let mut log = SlidingWindowLog { window: self.window()?, ..SlidingWindowLog::new() };
        let (mut time, mut total) = (Instant::EPOCH, 0_u64);
        while !self.0.is_empty() {
            let step = self.integer()?;
            let next =
                time.as_micros().checked_add(step).filter(|&t| t <= Instant::MAX.as_micros());
            time = Instant::from_micros(next.filter(|_| step > 0 || log.is_empty())?);
            let units = self.units()?;
            total = total.saturating_add(u64::from(units.get()));
            Units::new(total)?;
            log.grants.push(time, units.get());
        }
        (!log.is_empty()).then_some(log)
    }

    fn grant(&mut self) -> Option<Change> {
        let (time, window, units) = (self.time()?, self.window()?, self.units()?);
        Some(Change::Grant { time, window, units })
    }

    fn refund(&mut self) -> Option<Change> {
        let (time, units) = (self.time()?, self.units()?);
        Some(Change::Refund { time, units })
    }

    fn integer(&mut self) -> Option<u64> {
        varint::take(&mut self.0)
    }

    fn time(&mut self) -> Option<Instant> {
        let micros = self.integer()?;
        (micros <= Instant::MAX.as_micros()).then_some(Instant::from_micros(micros))
    }

    fn window(&mut self) -> Option<Window> {
        Window::from_millis(self.integer()?)
    }

    fn units(&mut self) -> Option<Units> {
        Units::new(self.integer()?)
    }
}
