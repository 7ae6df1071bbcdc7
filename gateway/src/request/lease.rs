//! The fields of requests for leases.

use std::ops::RangeInclusive;

use limiter::{Fences, Holder};

use super::{
    field_error::BrokenRule,
    input::Input,
    value::{self, text},
};

/// Maximum size of the name of a lease in bytes. The minimum is 1.
pub(crate) const MAX_LEASE_BYTES: usize = Holder::MAX_BYTES;

/// The range of a fence.
pub(crate) const FENCE: RangeInclusive<u64> = 1..=Fences::MAX;

/// The range of the number of leases to list.
pub(crate) const LIST_COUNT: RangeInclusive<u32> = 1..=1_000;

/// The name that no lease can have: RENEW and RELEASE read it as an option, in capitals or not.
const RESERVED: &str = "FENCED";

/// Reads the name of a lease.
pub(crate) fn lease(value: &Input<'_>) -> Result<Holder, BrokenRule> {
    let name = text(value, MAX_LEASE_BYTES)?;
    if name.eq_ignore_ascii_case(RESERVED) {
        let rule = format!("Value error, a lease cannot be called {RESERVED}");
        return Err(BrokenRule::new("value_error", rule));
    }
    // The text has the bounds of a holder, so that this cannot fail.
    Holder::new(&name).ok_or_else(|| BrokenRule::new("value_error", "Value error, invalid lease"))
}

/// Reads the fence of a lease.
pub(crate) fn fence(value: &Input<'_>) -> Result<u64, BrokenRule> {
    value::whole(value, &FENCE)
}

/// Reads the number of leases to list.
pub(crate) fn list_count(value: &Input<'_>) -> Result<u32, BrokenRule> {
    value::whole(value, &LIST_COUNT)
}
