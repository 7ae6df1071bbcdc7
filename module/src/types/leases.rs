//! Leases as a value of the server.

use std::ffi::CStr;

use limiter::Leases;

use crate::fences;
use crate::ffi::data_type::{DataType, Native};
use crate::replicate;

impl DataType for Leases {
    const NAME: &'static CStr = c"ratelimLE";

    const RESTORE_COMMAND: &'static CStr = replicate::APPLY;

    fn restore_payload(&self) -> Vec<u8> {
        replicate::restore(self)
    }

    fn observe(&self) {
        fences::observe(self.highest_fence());
    }

    fn native() -> &'static Native<Self> {
        static NATIVE: Native<Leases> = Native::unregistered();
        &NATIVE
    }
}
