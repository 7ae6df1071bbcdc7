//! The functions of the module API, as the server passes them when it loads the module.

use std::ffi::{CStr, c_char, c_int, c_long, c_longlong, c_uint, c_ulong, c_ulonglong, c_void};

use super::types::{
    RedisModuleCmdFunc, RedisModuleCommand, RedisModuleCommandInfo, RedisModuleConfigApplyFunc,
    RedisModuleConfigGetNumericFunc, RedisModuleConfigSetNumericFunc, RedisModuleCtx,
    RedisModuleDefragCtx, RedisModuleDigest, RedisModuleEvent, RedisModuleEventCallback,
    RedisModuleIO, RedisModuleInfoCtx, RedisModuleInfoFunc, RedisModuleKey,
    RedisModuleServerInfoData, RedisModuleString, RedisModuleType, RedisModuleTypeMethods,
    RedisModuleUser, mstime_t, ustime_t,
};

/// Defines a pointer for each function, and the function that reads all pointers from the server. A
/// pointer is null before the load, and when the server lacks the function.
macro_rules! functions {
    ($($name:ident($($parameters:tt)*) $(-> $result:ty)?;)+) => {
        $(
            pub(crate) static mut $name:
                Option<unsafe extern "C" fn($($parameters)*) $(-> $result)?> = None;
        )+

        /// Reads all pointers.
        ///
        /// # Safety
        ///
        /// `find` must be the function of the server that is loading the module, and no other code
        /// of the module may run.
        unsafe fn find_all(find: GetApi) {
            $({
                const NAME: &CStr =
                    match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => panic!("the name has no zero byte at its end"),
                    };
                // SAFETY: the caller vouches for the function, which writes a pointer to the named
                // function, or nothing. The type of the pointer is that of redismodule.h.
                unsafe { find(NAME.as_ptr(), (&raw mut $name).cast()) };
            })+
        }
    };
}

functions! {
    RedisModule_ACLCheckCommandPermissions(
        user: *mut RedisModuleUser, argv: *mut *mut RedisModuleString, argc: c_int
    ) -> c_int;
    RedisModule_AddACLCategory(ctx: *mut RedisModuleCtx, name: *const c_char) -> c_int;
    RedisModule_Alloc(bytes: usize) -> *mut c_void;
    RedisModule_CachedMicroseconds() -> ustime_t;
    RedisModule_CloseKey(kp: *mut RedisModuleKey);
    RedisModule_CreateCommand(
        ctx: *mut RedisModuleCtx, name: *const c_char, cmdfunc: RedisModuleCmdFunc,
        strflags: *const c_char, firstkey: c_int, lastkey: c_int, keystep: c_int
    ) -> c_int;
    RedisModule_CreateDataType(
        ctx: *mut RedisModuleCtx, name: *const c_char, encver: c_int,
        typemethods: *mut RedisModuleTypeMethods
    ) -> *mut RedisModuleType;
    RedisModule_CreateString(
        ctx: *mut RedisModuleCtx, ptr: *const c_char, len: usize
    ) -> *mut RedisModuleString;
    RedisModule_CreateSubcommand(
        parent: *mut RedisModuleCommand, name: *const c_char, cmdfunc: RedisModuleCmdFunc,
        strflags: *const c_char, firstkey: c_int, lastkey: c_int, keystep: c_int
    ) -> c_int;
    RedisModule_DefragAlloc(ctx: *mut RedisModuleDefragCtx, ptr: *mut c_void) -> *mut c_void;
    RedisModule_DefragCursorGet(ctx: *mut RedisModuleDefragCtx, cursor: *mut c_ulong) -> c_int;
    RedisModule_DefragCursorSet(ctx: *mut RedisModuleDefragCtx, cursor: c_ulong) -> c_int;
    RedisModule_DefragShouldStop(ctx: *mut RedisModuleDefragCtx) -> c_int;
    RedisModule_DeleteKey(key: *mut RedisModuleKey) -> c_int;
    RedisModule_DigestAddStringBuffer(md: *mut RedisModuleDigest, ele: *const c_char, len: usize);
    RedisModule_DigestEndSequence(md: *mut RedisModuleDigest);
    RedisModule_EmitAOF(io: *mut RedisModuleIO, cmdname: *const c_char, fmt: *const c_char, ...);
    RedisModule_Free(ptr: *mut c_void);
    RedisModule_FreeModuleUser(user: *mut RedisModuleUser);
    RedisModule_FreeServerInfo(ctx: *mut RedisModuleCtx, data: *mut RedisModuleServerInfoData);
    RedisModule_FreeString(ctx: *mut RedisModuleCtx, str_: *mut RedisModuleString);
    RedisModule_GetClientId(ctx: *mut RedisModuleCtx) -> c_ulonglong;
    RedisModule_GetClientUserNameById(ctx: *mut RedisModuleCtx, id: u64) -> *mut RedisModuleString;
    RedisModule_GetCommand(
        ctx: *mut RedisModuleCtx, name: *const c_char
    ) -> *mut RedisModuleCommand;
    RedisModule_GetContextFlags(ctx: *mut RedisModuleCtx) -> c_int;
    RedisModule_GetModuleUserFromUserName(name: *mut RedisModuleString) -> *mut RedisModuleUser;
    RedisModule_GetNotifyKeyspaceEvents() -> c_int;
    RedisModule_GetSelectedDb(ctx: *mut RedisModuleCtx) -> c_int;
    RedisModule_GetServerInfo(
        ctx: *mut RedisModuleCtx, section: *const c_char
    ) -> *mut RedisModuleServerInfoData;
    RedisModule_InfoAddFieldULongLong(
        ctx: *mut RedisModuleInfoCtx, field: *const c_char, value: c_ulonglong
    ) -> c_int;
    RedisModule_InfoAddSection(ctx: *mut RedisModuleInfoCtx, name: *const c_char) -> c_int;
    RedisModule_IsIOError(io: *mut RedisModuleIO) -> c_int;
    RedisModule_IsKeysPositionRequest(ctx: *mut RedisModuleCtx) -> c_int;
    RedisModule_IsModuleNameBusy(name: *const c_char) -> c_int;
    RedisModule_KeyAtPos(ctx: *mut RedisModuleCtx, pos: c_int);
    RedisModule_KeyType(kp: *mut RedisModuleKey) -> c_int;
    RedisModule_LoadConfigs(ctx: *mut RedisModuleCtx) -> c_int;
    RedisModule_LoadStringBuffer(io: *mut RedisModuleIO, lenptr: *mut usize) -> *mut c_char;
    RedisModule_Log(ctx: *mut RedisModuleCtx, level: *const c_char, fmt: *const c_char, ...);
    RedisModule_LogIOError(
        io: *mut RedisModuleIO, levelstr: *const c_char, fmt: *const c_char, ...
    );
    RedisModule_MallocSize(ptr: *mut c_void) -> usize;
    RedisModule_ModuleTypeGetType(key: *mut RedisModuleKey) -> *mut RedisModuleType;
    RedisModule_ModuleTypeGetValue(key: *mut RedisModuleKey) -> *mut c_void;
    RedisModule_ModuleTypeSetValue(
        key: *mut RedisModuleKey, mt: *mut RedisModuleType, value: *mut c_void
    ) -> c_int;
    RedisModule_NotifyKeyspaceEvent(
        ctx: *mut RedisModuleCtx, type_: c_int, event: *const c_char, key: *mut RedisModuleString
    ) -> c_int;
    RedisModule_OpenKey(
        ctx: *mut RedisModuleCtx, keyname: *mut RedisModuleString, mode: c_int
    ) -> *mut RedisModuleKey;
    RedisModule_RegisterInfoFunc(ctx: *mut RedisModuleCtx, cb: RedisModuleInfoFunc) -> c_int;
    RedisModule_RegisterNumericConfig(
        ctx: *mut RedisModuleCtx, name: *const c_char, default_val: c_longlong, flags: c_uint,
        min: c_longlong, max: c_longlong, getfn: RedisModuleConfigGetNumericFunc,
        setfn: RedisModuleConfigSetNumericFunc, applyfn: RedisModuleConfigApplyFunc,
        privdata: *mut c_void
    ) -> c_int;
    RedisModule_Replicate(
        ctx: *mut RedisModuleCtx, cmdname: *const c_char, fmt: *const c_char, ...
    ) -> c_int;
    RedisModule_ReplicateVerbatim(ctx: *mut RedisModuleCtx) -> c_int;
    RedisModule_ReplyWithArray(ctx: *mut RedisModuleCtx, len: c_long) -> c_int;
    RedisModule_ReplyWithError(ctx: *mut RedisModuleCtx, err: *const c_char) -> c_int;
    RedisModule_ReplyWithLongLong(ctx: *mut RedisModuleCtx, ll: c_longlong) -> c_int;
    RedisModule_ReplyWithNull(ctx: *mut RedisModuleCtx) -> c_int;
    RedisModule_ReplyWithSimpleString(ctx: *mut RedisModuleCtx, msg: *const c_char) -> c_int;
    RedisModule_ReplyWithStringBuffer(
        ctx: *mut RedisModuleCtx, buf: *const c_char, len: usize
    ) -> c_int;
    RedisModule_SaveStringBuffer(io: *mut RedisModuleIO, str_: *const c_char, len: usize);
    RedisModule_ServerInfoGetFieldUnsigned(
        data: *mut RedisModuleServerInfoData, field: *const c_char, out_err: *mut c_int
    ) -> c_ulonglong;
    RedisModule_SetAbsExpire(key: *mut RedisModuleKey, expire: mstime_t) -> c_int;
    RedisModule_SetCommandACLCategories(
        command: *mut RedisModuleCommand, ctgrsflags: *const c_char
    ) -> c_int;
    RedisModule_SetCommandInfo(
        command: *mut RedisModuleCommand, info: *const RedisModuleCommandInfo
    ) -> c_int;
    RedisModule_SetModuleAttribs(
        ctx: *mut RedisModuleCtx, name: *const c_char, ver: c_int, apiver: c_int
    );
    RedisModule_SetModuleOptions(ctx: *mut RedisModuleCtx, options: c_int);
    RedisModule_SignalModifiedKey(
        ctx: *mut RedisModuleCtx, keyname: *mut RedisModuleString
    ) -> c_int;
    RedisModule_StringPtrLen(str_: *const RedisModuleString, len: *mut usize) -> *const c_char;
    RedisModule_SubscribeToServerEvent(
        ctx: *mut RedisModuleCtx, event: RedisModuleEvent, callback: RedisModuleEventCallback
    ) -> c_int;
    RedisModule_UnlinkKey(key: *mut RedisModuleKey) -> c_int;
    RedisModule_WrongArity(ctx: *mut RedisModuleCtx) -> c_int;
}

/// Finds a function of the server by its name, and writes the pointer to it.
pub(crate) type GetApi = unsafe extern "C" fn(*const c_char, *mut c_void) -> c_int;

/// The function that finds the others.
pub(crate) static mut RedisModule_GetApi: Option<GetApi> = None;

/// Reads the functions of the server and registers the module, as `RedisModule_Init` of
/// redismodule.h does. Returns false if the name is taken.
///
/// # Safety
///
/// The context must be that of the running `RedisModule_OnLoad`, and no other code of the module may
/// run.
pub(crate) unsafe fn initialize(
    ctx: *mut RedisModuleCtx,
    name: &CStr,
    version: c_int,
    api_version: c_int,
) -> bool {
    // SAFETY: during the load a context begins with the pointer to this function.
    let find = unsafe { *ctx.cast::<Option<GetApi>>() };
    // SAFETY: the caller excludes other code that could read the pointers.
    unsafe { RedisModule_GetApi = find };
    let Some(find) = find else { return false };
    // SAFETY: the caller vouches for the context, and excludes other code.
    unsafe { find_all(find) };
    // SAFETY: no other code writes the pointers.
    let (is_busy, set_attributes) =
        unsafe { (RedisModule_IsModuleNameBusy, RedisModule_SetModuleAttribs) };
    // SAFETY: the name is a C string.
    if is_busy.is_some_and(|is_busy| unsafe { is_busy(name.as_ptr()) } != 0) {
        return false;
    }
    let Some(set_attributes) = set_attributes else { return false };
    // SAFETY: the caller vouches for the context; the name is a C string.
    unsafe { set_attributes(ctx, name.as_ptr(), version, api_version) };
    true
}
