//! The sliding window log as a value of the server.

use std::ffi::CStr;

use limiter::SlidingWindowLog;

use crate::ffi::data_type::{DataType, Native};

impl DataType for SlidingWindowLog {
    const NAME: &'static CStr = c"ratelimSW";

    fn native() -> &'static Native {
        static NATIVE: Native = Native::unregistered();
        &NATIVE
    }
}
