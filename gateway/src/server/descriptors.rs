//! The limit of open files of the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors for everything but connections of clients: connections to Redis, files, timers, and
/// connections that are refused.
const RESERVE: u64 = 512;

/// Raises the limit of open files for this many connections of clients and `others` beside them, as far
/// as the system allows it. Returns the number of connections that fit, and logs when that is less: as
/// a warning, unless the number is the default, which is for large machines.
pub(super) fn make_room(connections: usize, is_default: bool, others: usize) -> usize {
    let reserve = u64::try_from(others).unwrap_or(u64::MAX).saturating_add(RESERVE);
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(reserve);
    let limit = getrlimit(Resource::Nofile);
    // Without a limit there is nothing to raise.
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= needed {
        return connections;
    }
    let maximum = limit.maximum.unwrap_or(u64::MAX).min(needed);
    let raised = Rlimit { current: Some(maximum), maximum: limit.maximum };
    let allowed = setrlimit(Resource::Nofile, raised).map_or(current, |()| maximum);
    if allowed >= needed {
        return connections;
    }
    // Half of the limit, where the reserve would take nearly all of it.
    let fit = allowed.saturating_sub(reserve).max(allowed / 2);
    if is_default {
        tracing::info!(
            open_files = allowed,
            used = fit,
            "MAX_CONNECTIONS was lowered to `used`, because of the limit of open files"
        );
    } else {
        tracing::warn!(
            MAX_CONNECTIONS = connections,
            open_files = allowed,
            used = fit,
            "MAX_CONNECTIONS was lowered to `used`, because of the limit of open files; raise it \
             (ulimit -n, LimitNOFILE) or lower MAX_CONNECTIONS"
        );
    }
    usize::try_from(fit).unwrap_or(connections)
}
