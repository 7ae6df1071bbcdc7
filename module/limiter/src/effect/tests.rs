use alloc::vec::Vec;

use super::*;
use crate::limits::{Limit, Request, Units, Window};
use crate::log_options::LogLimit;
use crate::sliding_window_log::LogEffect;
use crate::state::Limiter;
use crate::token_bucket::parts_per_unit;

/// A bucket as version 1 writes it. It must be readable for ever.
const BUCKET_1: &[u8] = b"\x01\x01\x80\x80\xe2\xc4\xf2\xa2\x99\x03\xe0\xd4\x03\x64\x2a\
    \x80\x80\x80\xce\x86\xa7\x0e";

/// A log of two entries as version 1 writes it. It must be readable for ever.
const LOG_1: &[u8] = b"\x01\x02\xe0\xd4\x03\x80\x80\xe2\xc4\xf2\xa2\x99\x03\x01\xdc\x0b\xac\x02";

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
    let (limit, mut bucket) = (Limit::new(units(100), minute()), TokenBucket::new());
    bucket.take(&limit, Request::all(units(42)), Instant::from_micros(NOW_MICROS - 1));
    bucket.take(&limit, Request::all(units(1)), now());
    bucket
}

/// Of 1000 units a minute, 1 was granted now and 300 one and a half milliseconds later.
fn log() -> SlidingWindowLog {
    let limit = LogLimit::new(units(1_000), minute());
    let mut log = SlidingWindowLog::new();
    log.take(&limit, Request::all(units(1)), now());
    log.take(&limit, Request::all(units(300)), now().plus_micros(1_500));
    log
}

fn whole(log: SlidingWindowLog) -> Effect {
    Effect::SlidingWindowLog(LogEffect::Whole(log))
}

fn encoded(effect: &Effect) -> Vec<u8> {
    let mut bytes = Vec::new();
    effect.encode(&mut bytes);
    bytes
}

fn bytes(kind: Kind, fields: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::put(&mut bytes, kind, fields);
    bytes
}

#[test]
fn a_bucket_is_written_and_read_as_version_1() {
    assert_eq!(encoded(&Effect::TokenBucket(bucket())), BUCKET_1);
    assert_eq!(TokenBucket::decode(BUCKET_1), Ok(bucket()));
    assert_eq!(SlidingWindowLog::decode(BUCKET_1), Err(DecodeError::Malformed));
}

#[test]
fn a_log_is_written_and_read_as_version_1() {
    assert_eq!(encoded(&whole(log())), LOG_1);
    assert_eq!(SlidingWindowLog::decode(LOG_1), Ok(log()));
    assert_eq!(TokenBucket::decode(LOG_1), Err(DecodeError::Malformed));
}

#[test]
fn a_log_whose_newest_entry_has_more_than_one_time_is_written_with_an_age() {
    let mut joined = log();
    assert_eq!(
        joined.apply(LogEffect::Grant {
            time: now().plus_micros(1_600),
            window: minute(),
            units: units(1)
        }),
        Ok(())
    );
    let mut refunded = joined.clone();
    assert_eq!(refunded.refund(units(301), now().plus_micros(1_700)).refunded, 301);
    for (log, age, entries) in
        [(joined, 100, &[NOW_MICROS, 1, 1_600, 301][..]), (refunded, 0, &[NOW_MICROS, 1])]
    {
        let fields = [&[60_000, age], entries].concat();
        let expected = bytes(Kind::SlidingWindowLogWithAge, &fields);
        assert_eq!(encoded(&whole(log.clone())), expected);
        assert_eq!(SlidingWindowLog::decode(&expected), Ok(log));
    }
}

#[test]
fn a_first_grant_that_is_too_old_is_refused() {
    for (age, valid) in [(7, true), (8, false), (u64::MAX, false)] {
        let fields = bytes(Kind::SlidingWindowLogWithAge, &[1, age, 7, 1]);
        let read = SlidingWindowLog::decode(&fields);
        assert_eq!(read.is_ok(), valid, "{age}");
    }
}

#[test]
fn a_grant_and_a_refund_are_written_and_read_as_version_1() {
    let (time, window, five) = (now(), minute(), units(5));
    let grant = Effect::SlidingWindowLog(LogEffect::Grant { time, window, units: five });
    assert_eq!(encoded(&grant), bytes(Kind::GrantOfLog, &[NOW_MICROS, 60_000, 5]));
    assert_eq!(Effect::decode(&encoded(&grant)), Ok(grant));
    let refund = Effect::SlidingWindowLog(LogEffect::Refund { time, units: five });
    assert_eq!(encoded(&refund), bytes(Kind::RefundOfLog, &[NOW_MICROS, 5]));
    assert_eq!(Effect::decode(&encoded(&refund)), Ok(refund));
}

#[test]
fn a_deletion_is_written_and_read_as_version_2_and_is_no_state() {
    let deletion = encoded(&Effect::Deletion);
    assert_eq!(deletion, [2, 5]);
    assert_eq!(Effect::decode(&deletion), Ok(Effect::Deletion));
    assert_eq!(TokenBucket::decode(&deletion), Err(DecodeError::Malformed));
    assert_eq!(SlidingWindowLog::decode(&deletion), Err(DecodeError::Malformed));
}

#[test]
fn the_longest_effect_of_a_call_takes_as_many_bytes_as_its_state_allows() {
    let (latest, longest) = (Instant::MAX.as_micros(), Window::MAX.as_millis());
    let most = u64::from(Units::MAX.get());
    let bucket = [latest, longest, most, most - 1, parts_per_unit(Window::MAX).get() - 1];
    for (kind, fields, bytes_of_effect) in [
        (Kind::TokenBucket, &bucket[..], TokenBucket::MAX_EFFECT_BYTES),
        (
            Kind::OtherGrantOfLog,
            &[latest, longest, most, longest, 1],
            SlidingWindowLog::MAX_EFFECT_BYTES,
        ),
    ] {
        let longest = bytes(kind, fields);
        assert_eq!(longest.len(), bytes_of_effect, "{kind:?}");
        assert!(Effect::decode(&longest).is_ok());
    }
}

#[test]
fn a_newer_version_is_distinguished_from_malformed_bytes() {
    assert_eq!(Effect::decode(&[3, 1, 1]), Err(DecodeError::NewerVersion(3)));
    assert_eq!(Effect::decode(&[255]), Err(DecodeError::NewerVersion(255)));
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
        assert_eq!(Effect::decode(malformed), Err(DecodeError::Malformed), "{malformed:?}");
    }
}

#[test]
fn a_field_out_of_bounds_is_refused() {
    const BILLION: u64 = 1_000_000_000;
    let (late, long) = ((1 << 62) + 1, 31_622_400_001);
    for (kind, fields) in [
        (Kind::TokenBucket, &[late, 1, 1, 1, 0][..]),
        (Kind::TokenBucket, &[0, 0, 1, 1, 0]),
        (Kind::TokenBucket, &[0, long, 1, 1, 0]),
        (Kind::TokenBucket, &[0, 1, 0, 1, 0]),
        (Kind::TokenBucket, &[0, 1, BILLION + 1, 1, 0]),
        (Kind::TokenBucket, &[0, 1, 1, BILLION + 1, 0]),
        (Kind::TokenBucket, &[0, 1, 1, BILLION, 1]),
        (Kind::TokenBucket, &[0, 1, 1, 1, 1_000 << 36]),
        (Kind::TokenBucket, &[0, 1, 1, 0, 0]),
        (Kind::TokenBucket, &[0, 1, 1, 1]),
        (Kind::TokenBucket, &[0, 1, 1, 1, 0, 0]),
        (Kind::SlidingWindowLog, &[1]),
        (Kind::SlidingWindowLog, &[0, 0, 1]),
        (Kind::SlidingWindowLog, &[long, 0, 1]),
        (Kind::SlidingWindowLog, &[1, 0]),
        (Kind::SlidingWindowLog, &[1, 0, 0]),
        (Kind::SlidingWindowLog, &[1, late, 1]),
        (Kind::SlidingWindowLog, &[1, 1, 1, 0, 1]),
        (Kind::SlidingWindowLog, &[1, 1, 1, late - 1, 1]),
        (Kind::SlidingWindowLog, &[1, 1, 1, u64::MAX, 1]),
        (Kind::SlidingWindowLog, &[1, 1, BILLION, 1, 1]),
        (Kind::GrantOfLog, &[late, 1, 1]),
        (Kind::GrantOfLog, &[0, 0, 1]),
        (Kind::GrantOfLog, &[0, 1, 0]),
        (Kind::RefundOfLog, &[late, 1]),
        (Kind::RefundOfLog, &[0, BILLION + 1]),
        (Kind::TokenBucketInDebt, &[0, 1, 1, BILLION, 0]),
        (Kind::TokenBucketInDebt, &[0, 1, 1, u64::from(u32::MAX), 1]),
        (Kind::TokenBucketInDebt, &[0, 1, 1, 1 << 32, 0]),
        (Kind::SlidingWindowLogInDebt, &[1, 0, 1, BILLION]),
        (Kind::SlidingWindowLogInDebt, &[1, 0, 1, u64::from(u32::MAX), 1, 1]),
        (Kind::SlidingWindowLogInDebt, &[1, 0, 1, 1 << 32]),
        (Kind::SlidingWindowLogInDebt, &[1, 3, 1, BILLION + 1]),
        (Kind::OtherGrantOfLog, &[0, 1, BILLION + 1, 1, 0]),
        (Kind::OtherGrantOfLog, &[0, 1, 1, long, 0]),
        (Kind::OtherGrantOfLog, &[0, 1, 1, 1, 2]),
        (Kind::ReturnToLog, &[0, late, 1]),
        (Kind::ReturnToLog, &[0, 0, 0]),
    ] {
        let refused = Effect::decode(&bytes(kind, fields));
        assert_eq!(refused, Err(DecodeError::Malformed), "{kind:?}: {fields:?}");
    }
}

#[test]
fn a_field_at_its_bound_is_read() {
    const BILLION: u64 = 1_000_000_000;
    for (kind, fields) in [
        (Kind::TokenBucket, &[0, 1, 1, 0, (1_000 << 36) - 1][..]),
        (Kind::TokenBucket, &[1 << 62, 31_622_400_000, BILLION, BILLION, 0]),
        (Kind::SlidingWindowLog, &[1, 0, 1]),
        (Kind::SlidingWindowLog, &[31_622_400_000, (1 << 62) - 1, BILLION - 1, 1, 1]),
        (Kind::GrantOfLog, &[1 << 62, 31_622_400_000, BILLION]),
        (Kind::RefundOfLog, &[0, 1]),
        (Kind::TokenBucketInDebt, &[0, 1, 1, BILLION, 1]),
        (Kind::TokenBucketInDebt, &[0, 1, 1, u64::from(u32::MAX), 0]),
        (Kind::SlidingWindowLogInDebt, &[1, 0, 1, BILLION, 1, 1]),
        (Kind::SlidingWindowLogInDebt, &[1, 2, 1, u64::from(u32::MAX)]),
        (Kind::OtherGrantOfLog, &[1 << 62, 31_622_400_000, BILLION, 31_622_400_000, 1]),
        (Kind::OtherGrantOfLog, &[0, 1, 1, 0, 0]),
        (Kind::ReturnToLog, &[1 << 62, 1 << 62, BILLION]),
    ] {
        let read = Effect::decode(&bytes(kind, fields)).unwrap();
        assert_eq!(encoded(&read), bytes(kind, fields));
    }
}

#[test]
fn a_state_of_nothing_has_no_bytes_that_are_read() {
    for nothing in [Effect::TokenBucket(TokenBucket::new()), whole(SlidingWindowLog::new())] {
        assert_eq!(Effect::decode(&encoded(&nothing)), Err(DecodeError::Malformed));
    }
}
