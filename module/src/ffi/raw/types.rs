//! The types of the module API: records that the server reads, callbacks, and values that only the
//! server can read.

use std::ffi::{c_char, c_int, c_longlong, c_uint, c_void};

/// Defines types of which the module has pointers only.
macro_rules! opaque {
    ($($name:ident),+ $(,)?) => {
        $(
            #[repr(C)]
            #[derive(Debug)]
            pub(crate) struct $name {
                _private: [u8; 0],
            }
        )+
    };
}

opaque!(
    RedisModuleCommand,
    RedisModuleCtx,
    RedisModuleDefragCtx,
    RedisModuleDigest,
    RedisModuleIO,
    RedisModuleInfoCtx,
    RedisModuleKey,
    RedisModuleKeyOptCtx,
    RedisModuleServerInfoData,
    RedisModuleString,
    RedisModuleType,
    RedisModuleUser,
);

pub(crate) type RedisModuleCmdFunc = Option<
    unsafe extern "C" fn(
        ctx: *mut RedisModuleCtx,
        argv: *mut *mut RedisModuleString,
        argc: c_int,
    ) -> c_int,
>;
pub(crate) type RedisModuleCommandArgType = c_uint;
pub(crate) type RedisModuleConfigApplyFunc = Option<
    unsafe extern "C" fn(
        ctx: *mut RedisModuleCtx,
        privdata: *mut c_void,
        err: *mut *mut RedisModuleString,
    ) -> c_int,
>;
pub(crate) type RedisModuleConfigGetNumericFunc =
    Option<unsafe extern "C" fn(name: *const c_char, privdata: *mut c_void) -> c_longlong>;
pub(crate) type RedisModuleConfigSetNumericFunc = Option<
    unsafe extern "C" fn(
        name: *const c_char,
        val: c_longlong,
        privdata: *mut c_void,
        err: *mut *mut RedisModuleString,
    ) -> c_int,
>;
pub(crate) type RedisModuleEventCallback = Option<
    unsafe extern "C" fn(
        ctx: *mut RedisModuleCtx,
        eid: RedisModuleEvent,
        subevent: u64,
        data: *mut c_void,
    ),
>;
pub(crate) type RedisModuleInfoFunc =
    Option<unsafe extern "C" fn(ctx: *mut RedisModuleInfoCtx, for_crash_report: c_int)>;
pub(crate) type RedisModuleKeySpecBeginSearchType = c_uint;
pub(crate) type RedisModuleKeySpecFindKeysType = c_uint;
pub(crate) type RedisModuleTypeAuxLoadFunc =
    Option<unsafe extern "C" fn(rdb: *mut RedisModuleIO, encver: c_int, when: c_int) -> c_int>;
pub(crate) type RedisModuleTypeAuxSaveFunc =
    Option<unsafe extern "C" fn(rdb: *mut RedisModuleIO, when: c_int)>;
pub(crate) type RedisModuleTypeCopyFunc = Option<
    unsafe extern "C" fn(
        fromkey: *mut RedisModuleString,
        tokey: *mut RedisModuleString,
        value: *const c_void,
    ) -> *mut c_void,
>;
pub(crate) type RedisModuleTypeCopyFunc2 = Option<
    unsafe extern "C" fn(ctx: *mut RedisModuleKeyOptCtx, value: *const c_void) -> *mut c_void,
>;
pub(crate) type RedisModuleTypeDefragFunc = Option<
    unsafe extern "C" fn(
        ctx: *mut RedisModuleDefragCtx,
        key: *mut RedisModuleString,
        value: *mut *mut c_void,
    ) -> c_int,
>;
pub(crate) type RedisModuleTypeDigestFunc =
    Option<unsafe extern "C" fn(digest: *mut RedisModuleDigest, value: *mut c_void)>;
pub(crate) type RedisModuleTypeFreeEffortFunc =
    Option<unsafe extern "C" fn(key: *mut RedisModuleString, value: *const c_void) -> usize>;
pub(crate) type RedisModuleTypeFreeEffortFunc2 =
    Option<unsafe extern "C" fn(ctx: *mut RedisModuleKeyOptCtx, value: *const c_void) -> usize>;
pub(crate) type RedisModuleTypeFreeFunc = Option<unsafe extern "C" fn(value: *mut c_void)>;
pub(crate) type RedisModuleTypeLoadFunc =
    Option<unsafe extern "C" fn(rdb: *mut RedisModuleIO, encver: c_int) -> *mut c_void>;
pub(crate) type RedisModuleTypeMemUsageFunc =
    Option<unsafe extern "C" fn(value: *const c_void) -> usize>;
pub(crate) type RedisModuleTypeMemUsageFunc2 = Option<
    unsafe extern "C" fn(
        ctx: *mut RedisModuleKeyOptCtx,
        value: *const c_void,
        sample_size: usize,
    ) -> usize,
>;
pub(crate) type RedisModuleTypeRewriteFunc = Option<
    unsafe extern "C" fn(aof: *mut RedisModuleIO, key: *mut RedisModuleString, value: *mut c_void),
>;
pub(crate) type RedisModuleTypeSaveFunc =
    Option<unsafe extern "C" fn(rdb: *mut RedisModuleIO, value: *mut c_void)>;
pub(crate) type RedisModuleTypeUnlinkFunc =
    Option<unsafe extern "C" fn(key: *mut RedisModuleString, value: *const c_void)>;
pub(crate) type RedisModuleTypeUnlinkFunc2 =
    Option<unsafe extern "C" fn(ctx: *mut RedisModuleKeyOptCtx, value: *const c_void)>;
pub(crate) type mstime_t = c_longlong;
pub(crate) type ustime_t = c_longlong;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RedisModuleCommandArg {
    pub(crate) name: *const c_char,
    pub(crate) type_: RedisModuleCommandArgType,
    pub(crate) key_spec_index: c_int,
    pub(crate) token: *const c_char,
    pub(crate) summary: *const c_char,
    pub(crate) since: *const c_char,
    pub(crate) flags: c_int,
    pub(crate) deprecated_since: *const c_char,
    pub(crate) subargs: *mut RedisModuleCommandArg,
    pub(crate) display_text: *const c_char,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RedisModuleCommandHistoryEntry {
    pub(crate) since: *const c_char,
    pub(crate) changes: *const c_char,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RedisModuleCommandInfo {
    pub(crate) version: *const RedisModuleCommandInfoVersion,
    pub(crate) summary: *const c_char,
    pub(crate) complexity: *const c_char,
    pub(crate) since: *const c_char,
    pub(crate) history: *mut RedisModuleCommandHistoryEntry,
    pub(crate) tips: *const c_char,
    pub(crate) arity: c_int,
    pub(crate) key_specs: *mut RedisModuleCommandKeySpec,
    pub(crate) args: *mut RedisModuleCommandArg,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RedisModuleCommandInfoVersion {
    pub(crate) version: c_int,
    pub(crate) sizeof_historyentry: usize,
    pub(crate) sizeof_keyspec: usize,
    pub(crate) sizeof_arg: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RedisModuleCommandKeySpec {
    pub(crate) notes: *const c_char,
    pub(crate) flags: u64,
    pub(crate) begin_search_type: RedisModuleKeySpecBeginSearchType,
    pub(crate) bs: KeySpecBeginSearch,
    pub(crate) find_keys_type: RedisModuleKeySpecFindKeysType,
    pub(crate) fk: KeySpecFindKeys,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union KeySpecBeginSearch {
    pub(crate) index: KeySpecIndex,
    pub(crate) keyword: KeySpecKeyword,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct KeySpecIndex {
    pub(crate) pos: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct KeySpecKeyword {
    pub(crate) keyword: *const c_char,
    pub(crate) startfrom: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union KeySpecFindKeys {
    pub(crate) range: KeySpecRange,
    pub(crate) keynum: KeySpecKeyNum,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct KeySpecRange {
    pub(crate) lastkey: c_int,
    pub(crate) keystep: c_int,
    pub(crate) limit: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct KeySpecKeyNum {
    pub(crate) keynumidx: c_int,
    pub(crate) firstkey: c_int,
    pub(crate) keystep: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RedisModuleEvent {
    pub(crate) id: u64,
    pub(crate) dataver: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RedisModuleTypeMethods {
    pub(crate) version: u64,
    pub(crate) rdb_load: RedisModuleTypeLoadFunc,
    pub(crate) rdb_save: RedisModuleTypeSaveFunc,
    pub(crate) aof_rewrite: RedisModuleTypeRewriteFunc,
    pub(crate) mem_usage: RedisModuleTypeMemUsageFunc,
    pub(crate) digest: RedisModuleTypeDigestFunc,
    pub(crate) free: RedisModuleTypeFreeFunc,
    pub(crate) aux_load: RedisModuleTypeAuxLoadFunc,
    pub(crate) aux_save: RedisModuleTypeAuxSaveFunc,
    pub(crate) aux_save_triggers: c_int,
    pub(crate) free_effort: RedisModuleTypeFreeEffortFunc,
    pub(crate) unlink: RedisModuleTypeUnlinkFunc,
    pub(crate) copy: RedisModuleTypeCopyFunc,
    pub(crate) defrag: RedisModuleTypeDefragFunc,
    pub(crate) mem_usage2: RedisModuleTypeMemUsageFunc2,
    pub(crate) free_effort2: RedisModuleTypeFreeEffortFunc2,
    pub(crate) unlink2: RedisModuleTypeUnlinkFunc2,
    pub(crate) copy2: RedisModuleTypeCopyFunc2,
    pub(crate) aux_save2: RedisModuleTypeAuxSaveFunc,
}
