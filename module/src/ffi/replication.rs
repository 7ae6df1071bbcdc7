//! What a call sends to replicas and the append-only file, and whether there are any.
//!
//! Handing a command of one's own to the server for replication costs a quarter of a granted call,
//! also when nobody receives it; replicating a call as it is costs next to nothing then. So the
//! module keeps track of whether there is an audience: a replica, a backlog from which one could
//! catch up, or an append-only file.
//!
//! Nobody can join unseen. A replica without a backlog to catch up from, and an append-only file
//! that is turned on, start from a snapshot, for which the server forks and tells its modules. What
//! was written before the fork is in the snapshot, so it need not have been sent; this holds as well
//! where the snapshot has a connection of its own. A server that was a replica has a backlog, and
//! tells its modules when its role changes. One that was restarted may have a backlog from the
//! start, and the module may be loaded when a replica is there already. So the first granted call,
//! and the next one after each of these events, looks for itself. In a cluster, where slots may be
//! moved by other means, an audience is taken for granted.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU8, Ordering};

use redis_module::{Context, Status, raw};

use super::api::api;
use super::call::Call;
use super::key::Key;

/// What is known of the audience: [`UNKNOWN`], [`NOBODY`] or [`SOMEBODY`].
static AUDIENCE: AtomicU8 = AtomicU8::new(UNKNOWN);

const UNKNOWN: u8 = 0;
const NOBODY: u8 = 1;
const SOMEBODY: u8 = 2;

impl Call<'_> {
    /// Whether anyone receives what this server replicates.
    pub(crate) fn has_audience(&self) -> bool {
        let known = AUDIENCE.load(Ordering::Relaxed);
        if known != UNKNOWN {
            return known == SOMEBODY;
        }
        let somebody = self.finds_audience();
        AUDIENCE.store(if somebody { SOMEBODY } else { NOBODY }, Ordering::Relaxed);
        somebody
    }

    /// Sends `command key payload` instead of this call. The server refuses a command that it does
    /// not have under this name.
    pub(crate) fn replicate(
        &self,
        command: &CStr,
        key: &Key<'_>,
        payload: &[u8],
    ) -> Result<(), NotSent> {
        // SAFETY: the format names what follows: a string of the server ("s"), then bytes with
        // their length ("b").
        let status = unsafe {
            api!(RedisModule_Replicate)(
                self.ctx(),
                command.as_ptr(),
                c"sb".as_ptr(),
                key.name(),
                payload.as_ptr().cast::<c_char>(),
                payload.len(),
            )
        };
        sent(status)
    }

    /// Sends this call as it is, and counts it as a change that is not saved yet.
    pub(crate) fn replicate_verbatim(&self) -> Result<(), NotSent> {
        // SAFETY: the context is that of the running callback.
        sent(unsafe { api!(RedisModule_ReplicateVerbatim)(self.ctx()) })
    }

    fn finds_audience(&self) -> bool {
        const TAKEN_FOR_GRANTED: u32 = raw::REDISMODULE_CTX_FLAGS_AOF
            | raw::REDISMODULE_CTX_FLAGS_CLUSTER
            | raw::REDISMODULE_CTX_FLAGS_SLAVE;
        // SAFETY: the context is that of the running callback.
        let flags = unsafe { api!(RedisModule_GetContextFlags)(self.ctx()) };
        if flags.cast_unsigned() & TAKEN_FOR_GRANTED != 0 {
            return true;
        }
        // SAFETY: as above; the section's name is a C string.
        let info = unsafe { api!(RedisModule_GetServerInfo)(self.ctx(), c"replication".as_ptr()) };
        let found = [c"connected_slaves", c"repl_backlog_active"].iter().any(|field| {
            let mut error = 0;
            // SAFETY: the server's answer is not freed before the loop has ended.
            let value = unsafe {
                api!(RedisModule_ServerInfoGetFieldUnsigned)(info, field.as_ptr(), &raw mut error)
            };
            error != 0 || value > 0
        });
        // SAFETY: the answer is freed once, with the context it was made with.
        unsafe { api!(RedisModule_FreeServerInfo)(self.ctx(), info) };
        found
    }
}

/// The server refused to send something: replicas and the append-only file lack it.
#[derive(Debug)]
#[must_use]
pub(crate) struct NotSent;

fn sent(status: c_int) -> Result<(), NotSent> {
    if status == raw::REDISMODULE_OK as c_int { Ok(()) } else { Err(NotSent) }
}

/// Subscribes to the events after which there may be an audience, or to none of them.
///
/// A subscription stays after a refused load, so it is ended when another one fails.
pub(crate) fn watch_audience(ctx: &Context) -> Status {
    let failed = EVENTS.iter().position(|&id| !subscribe(ctx, id, Some(forget_audience)));
    let Some(failed) = failed else {
        return Status::Ok;
    };
    // Only those that have begun: the server takes the end of any other one for a new one.
    for &id in EVENTS.iter().take(failed) {
        subscribe(ctx, id, None);
    }
    ctx.log_warning("ratelimit needs a server that has events of forks and replicas");
    Status::Err
}

const EVENTS: [u64; 3] = [
    raw::REDISMODULE_EVENT_FORK_CHILD,
    raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED,
    raw::REDISMODULE_EVENT_REPLICA_CHANGE,
];

/// Begins a subscription to an event, or ends it if there is no callback. Returns false if the
/// server refuses.
fn subscribe(ctx: &Context, id: u64, callback: raw::RedisModuleEventCallback) -> bool {
    let event = raw::RedisModuleEvent { id, dataver: 1 };
    // SAFETY: the context is that of the running OnLoad.
    let status = unsafe { api!(RedisModule_SubscribeToServerEvent)(ctx.ctx, event, callback) };
    status == raw::REDISMODULE_OK as c_int
}

/// The callback of those events, whatever they say.
unsafe extern "C" fn forget_audience(
    _ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    _subevent: u64,
    _data: *mut c_void,
) {
    AUDIENCE.store(UNKNOWN, Ordering::Relaxed);
}
