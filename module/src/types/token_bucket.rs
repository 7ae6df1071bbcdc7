//! The token bucket as a value of the server.

use std::ffi::CStr;

use limiter::TokenBucket;

use crate::ffi::data_type::{DataType, Native};

impl DataType for TokenBucket {
    const NAME: &'static CStr = c"ratelimTB";

    fn native() -> &'static Native {
        static NATIVE: Native = Native::unregistered();
        &NATIVE
    }
}
