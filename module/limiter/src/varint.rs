//! Unsigned integers as LEB128: seven bits per byte, lowest bits first.

/// Appends `value` to `bytes`: one byte below 128, at most ten.
pub(crate) fn put(bytes: &mut impl Extend<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.extend([value as u8 | 0x80]);
        value >>= 7;
    }
    bytes.extend([value as u8]);
}

/// Takes one integer from the front of `bytes`. Returns `None` if it is cut off or does not fit.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    let mut shift = 0_u32;
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        let shifted = bits.checked_shl(shift)?;
        if shifted >> shift != bits {
            return None;
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift = shift.saturating_add(7);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn what_is_put_is_taken_and_the_rest_is_left() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            bytes.push(42);
            let mut rest = bytes.as_slice();
            assert_eq!(take(&mut rest), Some(value));
            assert_eq!(rest, [42]);
        }
    }

    #[test]
    fn unfinished_and_overlong_integers_are_refused() {
        for bytes in [&[][..], &[0x80], &[0xff; 9], &[0xff; 10], &[0x80; 40]] {
            assert_eq!(take(&mut &bytes[..]), None, "{bytes:?}");
        }
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(take(&mut &too_large[..]), None);
    }
}
