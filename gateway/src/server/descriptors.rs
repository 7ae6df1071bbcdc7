//! How many file descriptors the process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is kept for everything that is no connection of a client: connections to Redis, files,
/// timers, and the clients that are told that there are too many.
const RESERVE: u64 = 512;

/// Makes room for this many connections of clients, as far as the system allows it, and returns
/// how many fit. Logs when that is less: as a warning, unless it is the default, which is meant for
/// large machines and was asked for by no operator.
pub(super) fn make_room(connections: usize, is_default: bool) -> usize {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(RESERVE);
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
    // Half of what there is, where the reserve would take nearly all of it.
    let fit = allowed.saturating_sub(RESERVE).max(allowed / 2);
    if is_default {
        tracing::info!(
            open_files = allowed,
            used = fit,
            "MAX_CONNECTIONS is what the limit of open files leaves room for"
        );
    } else {
        tracing::warn!(
            MAX_CONNECTIONS = connections,
            open_files = allowed,
            used = fit,
            "the limit of open files leaves room for fewer connections; raise it (ulimit -n, \
             LimitNOFILE) or lower MAX_CONNECTIONS"
        );
    }
    usize::try_from(fit).unwrap_or(connections)
}
