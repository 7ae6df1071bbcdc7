//! Numbers of arguments and settings, read from text.

/// Reads an integer as the server itself does: digits without sign, space or leading zeros.
pub(crate) fn integer(text: &[u8]) -> Option<u64> {
    match *text {
        [] | [b'0', _, ..] => None,
        _ => digits(text),
    }
}

/// Reads a number of seconds with up to three decimals. Returns milliseconds.
#[inline(always)]
pub(crate) fn millis(text: &[u8]) -> Option<u64> {
    match integer(text) {
        Some(seconds) => seconds.checked_mul(1_000),
        None => decimal_millis(text),
    }
}

/// Reads a number of seconds with one to three decimals. Returns milliseconds.
fn decimal_millis(text: &[u8]) -> Option<u64> {
    let point = text.iter().position(|&byte| byte == b'.')?;
    let decimals = text.get(point + 1..)?;
    let scale = match decimals.len() {
        1 => 100,
        2 => 10,
        3 => 1,
        _ => return None,
    };
    let millis = integer(text.get(..point)?)?.checked_mul(1_000)?;
    millis.checked_add(digits(decimals)? * scale)
}

/// Reads a number that has digits only, and no more of them than always fit.
fn digits(text: &[u8]) -> Option<u64> {
    /// 10^19 - 1 is the highest number of all nines below 2^64.
    const MAX_DIGITS: usize = 19;
    if text.len() > MAX_DIGITS {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        // A byte below '0' wraps to a large number, which is no digit.
        let digit = u64::from(*byte).wrapping_sub(u64::from(b'0'));
        // No digits of this number overflow, so that wrapping changes no value.
        (digit <= 9).then(|| value.wrapping_mul(10).wrapping_add(digit))
    })
}
