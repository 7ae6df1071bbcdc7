//! A setting that the server keeps: redis.conf, CONFIG GET, CONFIG SET and CONFIG REWRITE.

use std::ffi::{CStr, c_char, c_int, c_longlong, c_void};
use std::ptr;

use super::api::api;
use super::load::{LoadRefused, Loading};
use super::raw;

/// A setting that is an integer between two bounds.
pub(crate) trait Setting: Sync {
    /// Returns the name. The server prefixes it with the module's.
    fn name(&self) -> &CStr;

    /// Returns the lowest and the highest value, which the server checks.
    fn bounds(&self) -> (i64, i64);

    /// Returns the value.
    fn get(&self) -> i64;

    /// Sets the value to another one within the bounds.
    fn set(&self, value: i64);
}

/// Registers a setting with the server, which sets it when [`load`] is called.
pub(crate) fn register<S: Setting>(
    loading: &Loading,
    setting: &'static S,
    default: i64,
) -> Result<(), LoadRefused> {
    let (min, max) = setting.bounds();
    // SAFETY: the context is that of the running OnLoad, the name a C string that the server
    // copies. The setting is static, and the callbacks take its address as that of an `S`.
    let status = unsafe {
        api!(loading.api(), RedisModule_RegisterNumericConfig)(
            loading.ctx(),
            setting.name().as_ptr(),
            default,
            raw::REDISMODULE_CONFIG_DEFAULT,
            min,
            max,
            Some(get::<S>),
            Some(set::<S>),
            None,
            ptr::from_ref(setting).cast_mut().cast(),
        )
    };
    if status == OK {
        return Ok(());
    }
    let name = setting.name().to_string_lossy();
    Err(loading.refuse(&format!("cannot register the setting {name}")))
}

/// Lets the server set all registered settings from its configuration.
pub(crate) fn load(loading: &Loading) -> Result<(), LoadRefused> {
    // SAFETY: the context is that of the running OnLoad.
    if unsafe { api!(loading.api(), RedisModule_LoadConfigs)(loading.ctx()) } == OK {
        return Ok(());
    }
    let rule = "the server refuses the value of a setting: the line before this one names it";
    Err(loading.refuse(rule))
}

/// # Safety
///
/// Only for the server to call, with the address that [`register`] has passed to it.
unsafe extern "C" fn get<S: Setting>(_name: *const c_char, setting: *mut c_void) -> c_longlong {
    // SAFETY: the address is that of a static `S`, which is `Sync`.
    unsafe { &*setting.cast::<S>() }.get()
}

/// # Safety
///
/// As for [`get`].
unsafe extern "C" fn set<S: Setting>(
    _name: *const c_char,
    value: c_longlong,
    setting: *mut c_void,
    _error: *mut *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: as above.
    unsafe { &*setting.cast::<S>() }.set(value);
    OK
}

const OK: c_int = raw::REDISMODULE_OK as c_int;
