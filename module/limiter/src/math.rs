//! Arithmetic of which the exact result always fits.

/// Integers with operations that are exact. A debug build asserts it, so that property tests and
/// fuzzers find a result that does not fit; a release build wraps, which costs nothing.
pub(crate) trait Exact: Copy {
    /// `self + other`.
    fn plus(self, other: Self) -> Self;
    /// `self - other`.
    fn minus(self, other: Self) -> Self;
    /// `self * other`.
    fn times(self, other: Self) -> Self;
}

macro_rules! exact {
    ($($integer:ty),*) => {$(
        impl Exact for $integer {
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                debug_assert!(self.checked_add(other).is_some(), "{self} + {other} does not fit");
                self.wrapping_add(other)
            }

            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                debug_assert!(self.checked_sub(other).is_some(), "{self} - {other} does not fit");
                self.wrapping_sub(other)
            }

            #[inline(always)]
            fn times(self, other: Self) -> Self {
                debug_assert!(self.checked_mul(other).is_some(), "{self} * {other} does not fit");
                self.wrapping_mul(other)
            }
        }
    )*};
}

exact!(u32, u64, u128, usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_fits_is_exact() {
        assert_eq!((3_u32.plus(4), 7_u64.minus(4), 3_u128.times(4)), (7, 3, 12));
        assert_eq!(
            (u32::MAX.plus(0), 0_usize.minus(0), u64::MAX.times(1)),
            (u32::MAX, 0, u64::MAX)
        );
    }

    #[test]
    #[should_panic(expected = "4294967295 + 1 does not fit")]
    #[cfg(debug_assertions)]
    fn a_sum_that_does_not_fit_is_found() {
        let _sum = u32::MAX.plus(1);
    }

    #[test]
    #[should_panic(expected = "0 - 1 does not fit")]
    #[cfg(debug_assertions)]
    fn a_difference_below_zero_is_found() {
        let _difference = 0_u64.minus(1);
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    #[cfg(debug_assertions)]
    fn a_product_that_does_not_fit_is_found() {
        let _product = u128::MAX.times(2);
    }
}
