//! The bytes in which states and their changes are stored and sent.
//!
//! ```text
//!  version  kind  fields ...      every field an unsigned LEB128 integer
//! ```
//!
//! | version | kind | what | fields |
//! |---|---|---|---|
//! | 1 | 1 | a token bucket | time, window in ms, limit, units, parts |
//! | 1 | 2 | a sliding window log | window in ms, then per entry: µs since the one before, units |
//! | 1 | 3 | a grant that was logged | time, window in ms, units |
//! | 1 | 4 | a refund from a log | time, units |
//! | 2 | 5 | the deletion of a state | none |
//! | 2 | 6 | a sliding window log | window in ms, age of the first grant, then as kind 2 |
//!
//! Times are in microseconds since the epoch. A kind is of the version that was the first to have
//! it, so that an older reader refuses no more than it must.
//!
//! The age of the first grant is that in the newest entry of a log: µs until the latest one, or 0
//! if the time of the first grant was not kept. A log without it has one time in its newest entry,
//! and is written as kind 2.
//!
//! Bytes of a newer version are refused, bytes of an older one are read for ever. Decoding checks
//! every bound that the algorithms rely on; it does not ask whether any calls could have led to a
//! state, nor whether an integer is padded. A state of which nothing is used has no bytes that are
//! read: it is the state of a key that does not exist.

use crate::limits::{Units, Window};
use crate::sliding_window_log::SlidingWindowLog;
use crate::time::Instant;
use crate::token_bucket::{TokenBucket, parts_per_unit};
use crate::varint;

/// The newest version that is written, and that [`Change::decode`] reads.
pub const VERSION: u8 = 2;

const TOKEN_BUCKET: u8 = 1;
const SLIDING_WINDOW_LOG: u8 = 2;
const GRANT: u8 = 3;
const REFUND: u8 = 4;
const DELETION: u8 = 5;
const LOG_WITH_AGE: u8 = 6;

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
    /// There is no state any more, of whichever algorithm it was.
    Deletion,
}

impl Change {
    /// Appends the bytes of this change to `bytes`: about 20 for all but a whole log.
    pub fn encode(&self, bytes: &mut impl Extend<u8>) {
        match self {
            Self::TokenBucket(bucket) => put_token_bucket(bucket, bytes),
            Self::SlidingWindowLog(log) => put_sliding_window_log(log, bytes),
            Self::Grant { time, window, units } => {
                let fields = [time.as_micros(), window.as_millis(), u64::from(units.get())];
                put(bytes, GRANT, &fields);
            }
            Self::Refund { time, units } => {
                put(bytes, REFUND, &[time.as_micros(), u64::from(units.get())]);
            }
            Self::Deletion => bytes.extend([2, DELETION]),
        }
    }

    /// Reads back what [`Change::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        // Every version that was ever written has a line here, and keeps it.
        match *bytes {
            [] | [0, ..] => Err(DecodeError::Malformed),
            [1, ref fields @ ..] => Self::decode_version_1(fields),
            [2, DELETION] => Ok(Self::Deletion),
            [2, LOG_WITH_AGE, ref fields @ ..] => {
                let log = Fields(fields).log_with_age();
                log.map(Self::SlidingWindowLog).ok_or(DecodeError::Malformed)
            }
            [2, ..] => Err(DecodeError::Malformed),
            [newer, ..] => Err(DecodeError::NewerVersion(newer)),
        }
    }

    fn decode_version_1(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (&kind, fields) = bytes.split_first().ok_or(DecodeError::Malformed)?;
        let mut fields = Fields(fields);
        let change = match kind {
            TOKEN_BUCKET => fields.token_bucket().map(Self::TokenBucket),
            SLIDING_WINDOW_LOG => fields.sliding_window_log().map(Self::SlidingWindowLog),
            GRANT => fields.grant(),
            REFUND => fields.refund(),
            _ => None,
        };
        change.filter(|_| fields.0.is_empty()).ok_or(DecodeError::Malformed)
    }
}

impl TokenBucket {
    /// The most bytes that a state takes: version, kind and five integers within their bounds.
    pub const MAX_BYTES: usize = 2 + 9 + 5 + 5 + 5 + 7;
}

/// At most [`TokenBucket::MAX_BYTES`].
pub(crate) fn put_token_bucket(bucket: &TokenBucket, bytes: &mut impl Extend<u8>) {
    let TokenBucket { time, window, parts, units, limit } = *bucket;
    let (limit, units) = (u64::from(limit.get()), u64::from(units));
    put(bytes, TOKEN_BUCKET, &[time.as_micros(), window.as_millis(), limit, units, parts]);
}

/// Three to eight bytes for each entry.
pub(crate) fn put_sliding_window_log(log: &SlidingWindowLog, bytes: &mut impl Extend<u8>) {
    let (first, latest) = (log.grants.newest_first(), log.grants.newest_time());
    if first == Some(latest) {
        put(bytes, SLIDING_WINDOW_LOG, &[log.window.as_millis()]);
    } else {
        bytes.extend([2, LOG_WITH_AGE]);
        varint::put(bytes, log.window.as_millis());
        varint::put(bytes, first.map_or(0, |first| latest.micros_since(first)));
    }
    let mut last = Instant::EPOCH;
    for grant in log.grants.iter() {
        varint::put(bytes, grant.time.micros_since(last));
        varint::put(bytes, u64::from(grant.units));
        last = grant.time;
    }
}

/// A kind of version 1 with its fields.
fn put(bytes: &mut impl Extend<u8>, kind: u8, fields: &[u64]) {
    bytes.extend([1, kind]);
    for &field in fields {
        varint::put(bytes, field);
    }
}

/// The fields that have not been read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn token_bucket(&mut self) -> Option<TokenBucket> {
        let (time, window, limit) = (self.time()?, self.window()?, self.units()?);
        let (units, parts) = (u32::try_from(self.integer()?).ok()?, self.integer()?);
        let used = units.checked_add(u32::from(parts > 0))?;
        let in_bounds =
            Units::new(u64::from(used)).is_some() && parts < parts_per_unit(window).get();
        in_bounds.then_some(TokenBucket { time, window, parts, units, limit })
    }

    fn sliding_window_log(&mut self) -> Option<SlidingWindowLog> {
        let window = self.window()?;
        self.entries(window)
    }

    fn log_with_age(&mut self) -> Option<SlidingWindowLog> {
        let (window, age) = (self.window()?, self.integer()?);
        let mut log = self.entries(window)?;
        let first = log.grants.newest_time().as_micros().checked_sub(age)?;
        log.grants.set_newest_first((age > 0).then_some(Instant::from_micros(first)));
        Some(log)
    }

    fn entries(&mut self, window: Window) -> Option<SlidingWindowLog> {
        let mut log = SlidingWindowLog { window, ..SlidingWindowLog::new() };
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

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::algorithm::Algorithm;
    use crate::limits::{BucketLimit, Demand, WindowLimit};

    /// A bucket as version 1 writes it. It must be readable for ever.
    const BUCKET_1: &[u8] = b"\x01\x01\x80\x80\xe2\xc4\xf2\xa2\x99\x03\xe0\xd4\x03\x64\x2a\
        \x80\x80\x80\xce\x86\xa7\x0e";

    /// A log of two entries as version 1 writes it. It must be readable for ever.
    const LOG_1: &[u8] =
        b"\x01\x02\xe0\xd4\x03\x80\x80\xe2\xc4\xf2\xa2\x99\x03\x01\xdc\x0b\xac\x02";

    const NOW_MICROS: u64 = 1_800_000_000_000_000;

    fn now() -> Instant {
        Instant::from_micros(NOW_MICROS)
    }

    fn minute() -> Window {
        Window::from_millis(60_000).unwrap()
    }

    fn units(units: u64) -> Units {
        Units::new(units).unwrap()
    }

    /// Of 100 units a minute, 42 were used and drained for a microsecond, and then one more.
    fn bucket() -> TokenBucket {
        let (limit, mut bucket) = (BucketLimit::new(units(100), minute()), TokenBucket::new());
        bucket.take(&limit, Demand::all(units(42)), Instant::from_micros(NOW_MICROS - 1));
        bucket.take(&limit, Demand::all(units(1)), now());
        bucket
    }

    /// Of 1000 units a minute, 1 was granted now and 300 one and a half milliseconds later.
    fn log() -> SlidingWindowLog {
        let limit = WindowLimit { limit: units(1_000), window: minute() };
        let mut log = SlidingWindowLog::new();
        log.take(&limit, Demand::all(units(1)), now());
        log.take(&limit, Demand::all(units(300)), now().plus_micros(1_500));
        log
    }

    fn encoded(change: &Change) -> Vec<u8> {
        let mut bytes = Vec::new();
        change.encode(&mut bytes);
        bytes
    }

    fn bytes(kind: u8, fields: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, kind, fields);
        bytes
    }

    #[test]
    fn a_bucket_is_written_and_read_as_version_1() {
        assert_eq!(encoded(&Change::TokenBucket(bucket())), BUCKET_1);
        assert_eq!(TokenBucket::decode(BUCKET_1), Ok(bucket()));
        assert_eq!(SlidingWindowLog::decode(BUCKET_1), Err(DecodeError::Malformed));
    }

    #[test]
    fn a_log_is_written_and_read_as_version_1() {
        assert_eq!(encoded(&Change::SlidingWindowLog(log())), LOG_1);
        assert_eq!(SlidingWindowLog::decode(LOG_1), Ok(log()));
        assert_eq!(TokenBucket::decode(LOG_1), Err(DecodeError::Malformed));
    }

    #[test]
    fn a_log_whose_newest_entry_has_more_than_one_time_is_written_with_an_age() {
        let mut joined = log();
        assert!(joined.replay(minute(), units(1), now().plus_micros(1_600)));
        let mut refunded = joined.clone();
        assert_eq!(refunded.refund(units(301), now().plus_micros(1_700)).refunded, 301);
        for (log, age, entries) in
            [(joined, 100, &[NOW_MICROS, 1, 1_600, 301][..]), (refunded, 0, &[NOW_MICROS, 1])]
        {
            let fields = [&[60_000, age], entries].concat();
            let expected = [&[2], &bytes(LOG_WITH_AGE, &fields)[1..]].concat();
            assert_eq!(encoded(&Change::SlidingWindowLog(log.clone())), expected);
            assert_eq!(SlidingWindowLog::decode(&expected), Ok(log));
        }
    }

    #[test]
    fn a_first_grant_that_is_too_old_is_refused() {
        for (age, valid) in [(7, true), (8, false), (u64::MAX, false)] {
            let fields = bytes(LOG_WITH_AGE, &[1, age, 7, 1]);
            let read = SlidingWindowLog::decode(&[&[2], &fields[1..]].concat());
            assert_eq!(read.is_ok(), valid, "{age}");
        }
    }

    #[test]
    fn a_grant_and_a_refund_are_written_and_read_as_version_1() {
        let (time, window, five) = (now(), minute(), units(5));
        let grant = Change::Grant { time, window, units: five };
        assert_eq!(encoded(&grant), bytes(GRANT, &[NOW_MICROS, 60_000, 5]));
        assert_eq!(Change::decode(&encoded(&grant)), Ok(grant));
        let refund = Change::Refund { time, units: five };
        assert_eq!(encoded(&refund), bytes(REFUND, &[NOW_MICROS, 5]));
        assert_eq!(Change::decode(&encoded(&refund)), Ok(refund));
    }

    #[test]
    fn a_deletion_is_written_and_read_as_version_2_and_is_no_state() {
        let deletion = encoded(&Change::Deletion);
        assert_eq!(deletion, [2, 5]);
        assert_eq!(Change::decode(&deletion), Ok(Change::Deletion));
        assert_eq!(TokenBucket::decode(&deletion), Err(DecodeError::Malformed));
        assert_eq!(SlidingWindowLog::decode(&deletion), Err(DecodeError::Malformed));
    }

    #[test]
    fn the_longest_bucket_takes_as_many_bytes_as_are_announced() {
        let fields = [
            Instant::MAX.as_micros(),
            Window::MAX.as_millis(),
            u64::from(Units::MAX.get()),
            u64::from(Units::MAX.get()) - 1,
            parts_per_unit(Window::MAX).get() - 1,
        ];
        let longest = bytes(TOKEN_BUCKET, &fields);
        assert_eq!(longest.len(), TokenBucket::MAX_BYTES);
        assert!(TokenBucket::decode(&longest).is_ok());
    }

    #[test]
    fn a_newer_version_is_told_from_malformed_bytes() {
        assert_eq!(Change::decode(&[3, 1, 1]), Err(DecodeError::NewerVersion(3)));
        assert_eq!(Change::decode(&[255]), Err(DecodeError::NewerVersion(255)));
        for malformed in [
            &[][..],
            &[0],
            &[0, 1, 1],
            &[1],
            &[1, 0],
            &[1, 5],
            &[1, 5, 1, 1, 1],
            &[1, 6, 1, 0, 1, 1],
            &[2],
            &[2, 1, 1],
            &[2, 2, 1, 1, 1],
            &[2, 5, 0],
            &[2, 6, 1, 0],
        ] {
            assert_eq!(Change::decode(malformed), Err(DecodeError::Malformed), "{malformed:?}");
        }
    }

    #[test]
    fn a_field_out_of_bounds_is_refused() {
        const BILLION: u64 = 1_000_000_000;
        let (late, long) = ((1 << 62) + 1, 31_622_400_001);
        for (kind, fields) in [
            (TOKEN_BUCKET, &[late, 1, 1, 1, 0][..]),
            (TOKEN_BUCKET, &[0, 0, 1, 1, 0]),
            (TOKEN_BUCKET, &[0, long, 1, 1, 0]),
            (TOKEN_BUCKET, &[0, 1, 0, 1, 0]),
            (TOKEN_BUCKET, &[0, 1, BILLION + 1, 1, 0]),
            (TOKEN_BUCKET, &[0, 1, 1, BILLION + 1, 0]),
            (TOKEN_BUCKET, &[0, 1, 1, BILLION, 1]),
            (TOKEN_BUCKET, &[0, 1, 1, 1, 1_000 << 36]),
            (TOKEN_BUCKET, &[0, 1, 1, 0, 0]),
            (TOKEN_BUCKET, &[0, 1, 1, 1]),
            (TOKEN_BUCKET, &[0, 1, 1, 1, 0, 0]),
            (SLIDING_WINDOW_LOG, &[1]),
            (SLIDING_WINDOW_LOG, &[0, 0, 1]),
            (SLIDING_WINDOW_LOG, &[long, 0, 1]),
            (SLIDING_WINDOW_LOG, &[1, 0]),
            (SLIDING_WINDOW_LOG, &[1, 0, 0]),
            (SLIDING_WINDOW_LOG, &[1, late, 1]),
            (SLIDING_WINDOW_LOG, &[1, 1, 1, 0, 1]),
            (SLIDING_WINDOW_LOG, &[1, 1, 1, late - 1, 1]),
            (SLIDING_WINDOW_LOG, &[1, 1, 1, u64::MAX, 1]),
            (SLIDING_WINDOW_LOG, &[1, 1, BILLION, 1, 1]),
            (GRANT, &[late, 1, 1]),
            (GRANT, &[0, 0, 1]),
            (GRANT, &[0, 1, 0]),
            (REFUND, &[late, 1]),
            (REFUND, &[0, BILLION + 1]),
        ] {
            let refused = Change::decode(&bytes(kind, fields));
            assert_eq!(refused, Err(DecodeError::Malformed), "{kind}: {fields:?}");
        }
    }

    #[test]
    fn a_field_at_its_bound_is_read() {
        const BILLION: u64 = 1_000_000_000;
        for (kind, fields) in [
            (TOKEN_BUCKET, &[0, 1, 1, 0, (1_000 << 36) - 1][..]),
            (TOKEN_BUCKET, &[1 << 62, 31_622_400_000, BILLION, BILLION, 0]),
            (SLIDING_WINDOW_LOG, &[1, 0, 1]),
            (SLIDING_WINDOW_LOG, &[31_622_400_000, (1 << 62) - 1, BILLION - 1, 1, 1]),
            (GRANT, &[1 << 62, 31_622_400_000, BILLION]),
            (REFUND, &[0, 1]),
        ] {
            let read = Change::decode(&bytes(kind, fields)).unwrap();
            assert_eq!(encoded(&read), bytes(kind, fields));
        }
    }

    #[test]
    fn a_state_of_nothing_has_no_bytes_that_are_read() {
        for nothing in [
            Change::TokenBucket(TokenBucket::new()),
            Change::SlidingWindowLog(SlidingWindowLog::new()),
        ] {
            assert_eq!(Change::decode(&encoded(&nothing)), Err(DecodeError::Malformed));
        }
    }
}
