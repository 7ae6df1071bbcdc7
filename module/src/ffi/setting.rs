//! A setting as the server keeps it: redis.conf, CONFIG GET, CONFIG SET and CONFIG REWRITE.

use std::ffi::{CStr, c_char, c_int, c_longlong, c_void};
use std::ptr;

use redis_module::{Context, Status, raw};

use super::api::api;

/// A setting that is an integer between two bounds.
pub(crate) trait Setting: Sync {
    /// Its name, to which the server adds that of the module.
    fn name(&self) -> &CStr;

    /// The lowest and the highest value, which the server checks.
    fn bounds(&self) -> (i64, i64);

    /// Its value.
    fn get(&self) -> i64;

    /// Takes another value, which is within the bounds.
    fn set(&self, value: i64);
}

/// Registers a setting with the server, which sets it when [`load`] is called.
pub(crate) fn register<S: Setting>(ctx: &Context, setting: &'static S, default: i64) -> Status {
    let (min, max) = setting.bounds();
    // SAFETY: the context is that of the running OnLoad, the name a C string that the server
    // copies; the setting lives for ever, and the callbacks take it as what it is.
    let status = unsafe {
        api!(RedisModule_RegisterNumericConfig)(
            ctx.ctx,
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
        return Status::Ok;
    }
    let name = setting.name().to_string_lossy();
    ctx.log_warning(&format!("cannot register the setting {name}"));
    Status::Err
}

/// Has the server give all registered settings the values of its configuration.
pub(crate) fn load(ctx: &Context) -> Status {
    // SAFETY: the context is that of the running OnLoad.
    if unsafe { api!(RedisModule_LoadConfigs)(ctx.ctx) } == OK {
        return Status::Ok;
    }
    ctx.log_warning("the server refuses the value of a setting: the line before this one names it");
    Status::Err
}

unsafe extern "C" fn get<S: Setting>(_name: *const c_char, setting: *mut c_void) -> c_longlong {
    // SAFETY: the server passes the address of the setting that was registered with it.
    unsafe { &*setting.cast::<S>() }.get()
}

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
