//! The constants of the module API, with the types of the parameters that take them.

use std::ffi::c_int;

use super::types::{
    RedisModuleCommandArgType, RedisModuleKeySpecBeginSearchType, RedisModuleKeySpecFindKeysType,
};

pub(crate) const REDISMODULE_APIVER_1: u32 = 1;
pub(crate) const REDISMODULE_ARG_TYPE_BLOCK: RedisModuleCommandArgType = 8;
pub(crate) const REDISMODULE_ARG_TYPE_DOUBLE: RedisModuleCommandArgType = 2;
pub(crate) const REDISMODULE_ARG_TYPE_INTEGER: RedisModuleCommandArgType = 1;
pub(crate) const REDISMODULE_ARG_TYPE_KEY: RedisModuleCommandArgType = 3;
pub(crate) const REDISMODULE_ARG_TYPE_ONEOF: RedisModuleCommandArgType = 7;
pub(crate) const REDISMODULE_ARG_TYPE_PURE_TOKEN: RedisModuleCommandArgType = 6;
pub(crate) const REDISMODULE_ARG_TYPE_STRING: RedisModuleCommandArgType = 0;
pub(crate) const REDISMODULE_CMD_ARG_MULTIPLE: u32 = 2;
pub(crate) const REDISMODULE_CMD_ARG_OPTIONAL: u32 = 1;
pub(crate) const REDISMODULE_CMD_KEY_ACCESS: u32 = 16;
pub(crate) const REDISMODULE_CMD_KEY_DELETE: u32 = 128;
pub(crate) const REDISMODULE_CMD_KEY_RM: u32 = 8;
pub(crate) const REDISMODULE_CMD_KEY_RO: u32 = 1;
pub(crate) const REDISMODULE_CMD_KEY_RW: u32 = 2;
pub(crate) const REDISMODULE_CMD_KEY_UPDATE: u32 = 32;
pub(crate) const REDISMODULE_CONFIG_DEFAULT: u32 = 0;
pub(crate) const REDISMODULE_CTX_FLAGS_AOF: u32 = 64;
pub(crate) const REDISMODULE_CTX_FLAGS_CLUSTER: u32 = 32;
pub(crate) const REDISMODULE_CTX_FLAGS_LOADING: u32 = 1 << 13;
pub(crate) const REDISMODULE_CTX_FLAGS_REPLICATED: u32 = 1 << 12;
pub(crate) const REDISMODULE_CTX_FLAGS_SLAVE: u32 = 8;
pub(crate) const REDISMODULE_ERR: isize = 1;
pub(crate) const REDISMODULE_EVENT_FORK_CHILD: u64 = 13;
pub(crate) const REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED: u64 = 0;
pub(crate) const REDISMODULE_EVENT_REPLICA_CHANGE: u64 = 6;
pub(crate) const REDISMODULE_KEYTYPE_EMPTY: isize = 0;
pub(crate) const REDISMODULE_KSPEC_BS_INDEX: RedisModuleKeySpecBeginSearchType = 2;
pub(crate) const REDISMODULE_KSPEC_BS_INVALID: RedisModuleKeySpecBeginSearchType = 0;
pub(crate) const REDISMODULE_KSPEC_FK_KEYNUM: RedisModuleKeySpecFindKeysType = 3;
pub(crate) const REDISMODULE_KSPEC_FK_OMITTED: RedisModuleKeySpecFindKeysType = 0;
pub(crate) const REDISMODULE_KSPEC_FK_RANGE: RedisModuleKeySpecFindKeysType = 2;
pub(crate) const REDISMODULE_NOTIFY_GENERIC: c_int = 4;
pub(crate) const REDISMODULE_NOTIFY_MODULE: c_int = 1 << 13;
pub(crate) const REDISMODULE_OK: isize = 0;
pub(crate) const REDISMODULE_OPEN_KEY_NONOTIFY: u32 = 1 << 17;
pub(crate) const REDISMODULE_OPTIONS_HANDLE_IO_ERRORS: u32 = 1;
pub(crate) const REDISMODULE_OPTIONS_HANDLE_REPL_ASYNC_LOAD: u32 = 4;
pub(crate) const REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED: u32 = 2;
pub(crate) const REDISMODULE_READ: u32 = 1;
pub(crate) const REDISMODULE_TYPE_METHOD_VERSION: u32 = 5;
pub(crate) const REDISMODULE_WRITE: u32 = 2;
