//! The reservation as a value of the server.

use std::ffi::CStr;

use limiter::Reservation;

use crate::ffi::data_type::{DataType, Native};
use crate::replicate;

impl DataType for Reservation {
    const NAME: &'static CStr = c"ratelimRE";

    /// A copy could be settled as well, and would correct the same estimates twice.
    const CAN_BE_COPIED: bool = false;

    const RESTORE_COMMAND: &'static CStr = replicate::APPLY;

    fn restore_payload(&self) -> Vec<u8> {
        replicate::restore(self)
    }

    fn native() -> &'static Native<Self> {
        static NATIVE: Native<Reservation> = Native::unregistered();
        &NATIVE
    }
}
