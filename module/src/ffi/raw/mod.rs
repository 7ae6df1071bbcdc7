//! The module API of Redis, as `redismodule.h` declares it, and of it only what the module uses. To
//! use another function, add its declaration to `functions`.
//!
//! The names are those of the header.

#![allow(
    non_snake_case,
    non_upper_case_globals,
    non_camel_case_types,
    reason = "names of the server"
)]
#![allow(dead_code, reason = "records have fields that the module leaves empty")]

mod constants;
mod functions;
mod types;

pub(crate) use constants::*;
pub(crate) use functions::*;
pub(crate) use types::*;
