//! The token bucket as a value of the server.

use std::ffi::CStr;

use limiter::TokenBucket;

use crate::ffi::data_type::{DataType, Native};
use crate::replicate;

impl DataType for TokenBucket {
    const NAME: &'static CStr = c"ratelimTB";

    const RESTORE_COMMAND: &'static CStr = replicate::APPLY;

    fn restore_payload(&self) -> Vec<u8> {
        replicate::restore(self)
    }

    fn native() -> &'static Native<Self> {
        static NATIVE: Native<TokenBucket> = Native::unregistered();
        &NATIVE
    }
}
