//! The fixed window as a value of the server.

use std::ffi::CStr;

use limiter::FixedWindow;

use crate::ffi::data_type::{DataType, Native};
use crate::replicate;

impl DataType for FixedWindow {
    const NAME: &'static CStr = c"ratelimFW";

    const RESTORE_COMMAND: &'static CStr = replicate::APPLY;

    fn restore_payload(&self) -> Vec<u8> {
        replicate::restore(self)
    }

    fn native() -> &'static Native<Self> {
        static NATIVE: Native<FixedWindow> = Native::unregistered();
        &NATIVE
    }
}
