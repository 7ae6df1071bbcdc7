//! The changes that a call sends to replicas and to the append-only file, and whether there is a
//! receiver of them.
//!
//! To replicate a command of one's own costs a quarter of a granted call, also when there is no
//! receiver. To replicate the call as it is costs next to nothing then. So the module keeps a flag
//! that says whether there is a receiver: a replica, a backlog from which a replica could catch up,
//! or an append-only file.
//!
//! 1. The flag is unknown at first.
//! 2. A fork, a change of the server's role and a change of its replicas make it unknown again.
//! 3. The next call that changes a key sets the flag from the server's own figures.
//! 4. In a cluster the flag is always set, because slots may be moved by other means.
//!
//! Every new receiver causes an event of step 2, so that no receiver misses a change:
//!
//! * A replica that cannot catch up from a backlog, and an append-only file that is turned on,
//!   start from a snapshot, for which the server forks. The snapshot has every change before the
//!   fork, also where it has a connection of its own.
//! * A server that was a replica has a backlog. Its role changes when it becomes a primary.
//! * A server that was restarted may have a backlog, and the module may be loaded when a replica is
//!   connected already. In both cases the flag is still unknown.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU8, Ordering};

use super::api::api;
use super::call::Call;
use super::load::{LoadRefused, Loading};
use super::raw;

/// The presence of a receiver: [`UNKNOWN`], [`ABSENT`] or [`PRESENT`].
static RECEIVERS: AtomicU8 = AtomicU8::new(UNKNOWN);

const UNKNOWN: u8 = 0;
const ABSENT: u8 = 1;
const PRESENT: u8 = 2;

impl Call<'_> {
    /// Returns whether the changes that this server replicates have a receiver.
    #[inline(always)]
    pub(crate) fn has_receivers(&self) -> bool {
        match RECEIVERS.load(Ordering::Relaxed) {
            UNKNOWN => self.find_receivers(),
            receivers => receivers == PRESENT,
        }
    }

    /// Sends `command key payload` instead of this call, where the key is the argument with this
    /// index. The server refuses a command that it does not have under this name.
    pub(crate) fn replicate(
        &mut self,
        command: &CStr,
        key: usize,
        payload: &[u8],
    ) -> Result<(), NotReplicated> {
        let key = self.string(key).map_err(|_| NotReplicated)?;
        // SAFETY: the context is that of the running callback. The format names what follows: a
        // string of the server ("s"), then bytes with their length ("b").
        let status = unsafe {
            api!(self.api(), RedisModule_Replicate)(
                self.ctx(),
                command.as_ptr(),
                c"sb".as_ptr(),
                key,
                payload.as_ptr().cast::<c_char>(),
                payload.len(),
            )
        };
        replicated(status)
    }

    /// Sends this call as it is, and counts it as a change that is not saved yet.
    #[inline(always)]
    pub(crate) fn replicate_verbatim(&mut self) -> Result<(), NotReplicated> {
        // SAFETY: the context is that of the running callback.
        replicated(unsafe { api!(self.api(), RedisModule_ReplicateVerbatim)(self.ctx()) })
    }

    /// Sets the flag from the server's own figures.
    #[cold]
    fn find_receivers(&self) -> bool {
        const CERTAIN: u32 = raw::REDISMODULE_CTX_FLAGS_AOF
            | raw::REDISMODULE_CTX_FLAGS_CLUSTER
            | raw::REDISMODULE_CTX_FLAGS_SLAVE;
        // SAFETY: the context is that of the running callback.
        let flags = unsafe { api!(self.api(), RedisModule_GetContextFlags)(self.ctx()) };
        let present = flags.cast_unsigned() & CERTAIN != 0 || self.has_replicas_or_backlog();
        RECEIVERS.store(if present { PRESENT } else { ABSENT }, Ordering::Relaxed);
        present
    }

    fn has_replicas_or_backlog(&self) -> bool {
        let (api, ctx) = (self.api(), self.ctx());
        // SAFETY: the context is that of the running callback; the section's name is a C string.
        let info = unsafe { api!(api, RedisModule_GetServerInfo)(ctx, c"replication".as_ptr()) };
        let mut present = false;
        for field in [c"connected_slaves", c"repl_backlog_active"] {
            let mut error = 0;
            // SAFETY: the section is freed after the loop; the field's name is a C string.
            let value = unsafe {
                api!(api, RedisModule_ServerInfoGetFieldUnsigned)(
                    info,
                    field.as_ptr(),
                    &raw mut error,
                )
            };
            present |= error != 0 || value > 0;
        }
        // SAFETY: the section is freed once, with the context it was made with.
        unsafe { api!(api, RedisModule_FreeServerInfo)(ctx, info) };
        present
    }
}

/// The error of a change that the server refused to replicate: its receivers lack the change.
#[derive(Debug)]
#[must_use]
pub(crate) struct NotReplicated;

fn replicated(status: c_int) -> Result<(), NotReplicated> {
    if status == raw::REDISMODULE_OK as c_int { Ok(()) } else { Err(NotReplicated) }
}

/// Subscribes to the events after which there may be a new receiver: to all of them or to none.
///
/// A subscription outlives a refused load, so it is ended when a later one fails.
pub(crate) fn subscribe(load: &Loading) -> Result<(), LoadRefused> {
    for (index, &id) in EVENTS.iter().enumerate() {
        if set_callback(load, id, Some(forget_receivers)) {
            continue;
        }
        // Only subscriptions that exist are ended: the server takes the end of another one for a
        // new subscription.
        for &id in EVENTS.iter().take(index) {
            set_callback(load, id, None);
        }
        return Err(load.refuse("ratelimit needs a server that has events of forks and replicas"));
    }
    Ok(())
}

const EVENTS: [u64; 3] = [
    raw::REDISMODULE_EVENT_FORK_CHILD,
    raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED,
    raw::REDISMODULE_EVENT_REPLICA_CHANGE,
];

/// Subscribes to an event, or ends the subscription if there is no callback. Returns false if the
/// server refuses.
fn set_callback(load: &Loading, id: u64, callback: raw::RedisModuleEventCallback) -> bool {
    let event = raw::RedisModuleEvent { id, dataver: 1 };
    // SAFETY: the context is that of the running OnLoad. The callback takes any event.
    let status = unsafe {
        api!(load.api(), RedisModule_SubscribeToServerEvent)(load.ctx(), event, callback)
    };
    status == raw::REDISMODULE_OK as c_int
}

/// The callback of all those events.
unsafe extern "C" fn forget_receivers(
    _ctx: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    _subevent: u64,
    _data: *mut c_void,
) {
    RECEIVERS.store(UNKNOWN, Ordering::Relaxed);
}
