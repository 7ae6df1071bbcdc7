//! Values and their changes, encoded as a server sends them, made without a server.

use limiter::{
    Effect, Encode, Instant, Limiter, LogLimit, Request, SlidingWindowLog, Units, Window,
};

/// Returns a value with the footer that RESTORE checks before it calls the module. The footer has
/// the version of the server's format, as the server's own DUMP ends, and a checksum.
pub(crate) fn sealed(value: &[u8], version: &[u8]) -> Vec<u8> {
    let mut payload = [value, version].concat();
    let checksum = crc64(&payload);
    payload.extend(checksum.to_le_bytes());
    payload
}

/// Returns the CRC-64 of Redis: Jones' polynomial, reflected, starting from zero.
fn crc64(bytes: &[u8]) -> u64 {
    const REFLECTED_POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
    bytes.iter().fold(0, |mut crc, byte| {
        crc ^= u64::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ REFLECTED_POLYNOMIAL } else { crc >> 1 };
        }
        crc
    })
}

/// Returns the payload of an effect as a primary sends it.
pub(crate) fn effect(expiry_millis: u64, effect: &Effect) -> Vec<u8> {
    let mut payload = expiry_millis.to_be_bytes().to_vec();
    effect.encode(&mut payload);
    payload
}

/// Returns the answer of DUMP for a log, where `sample` is the answer of DUMP for any other log.
pub(crate) fn dumped(log: &SlidingWindowLog, sample: &[u8]) -> Vec<u8> {
    // The head has the kind of value and the name of its type. The type of the next field, a
    // string, and the length follow.
    let head = sample.get(..11).expect("the dump of a value");
    let (_, footer) = sample.split_at(sample.len() - 10);
    let mut bytes = Vec::new();
    log.encode(&mut bytes);
    let length = u32::try_from(bytes.len()).expect("fewer than 2^32 bytes");
    let value = [head, &[0x80], &length.to_be_bytes(), &bytes, &[0]].concat();
    sealed(&value, &footer[..2])
}

/// Returns a log of one unit every two milliseconds, the last of them at `now`, in a window of a
/// day.
pub(crate) fn log(entries: u32, now: u64) -> SlidingWindowLog {
    let window = Window::from_millis(86_400_000).expect("a window");
    let limit = LogLimit::new(Units::MAX, window);
    let mut log = SlidingWindowLog::new();
    for age in (0..u64::from(entries)).rev() {
        log.take(&limit, Request::all(Units::MIN), Instant::from_micros(now - age * 2_000));
    }
    log
}
