//! The sliding window log as a value of the server.

use std::ffi::CStr;

use limiter::SlidingWindowLog;

use crate::ffi::data_type::{DataType, Native};
use crate::replicate;

impl DataType for SlidingWindowLog {
    const NAME: &'static CStr = c"ratelimSW";

    const RESTORE_COMMAND: &'static CStr = replicate::APPLY;

    fn restore_payload(&self) -> Vec<u8> {
        replicate::restore(self)
    }

    fn native() -> &'static Native<Self> {
        static NATIVE: Native<SlidingWindowLog> = Native::unregistered();
        &NATIVE
    }
}
