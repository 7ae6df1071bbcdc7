//! Tests of the module: its commands, and the servers that run them.

// Replies, and errors.

// The range of every argument, and the exact text of every error.
mod arguments;
// CL.THROTTLE: the command of redis-cell.
mod cl_throttle;
// The replies that all algorithms have in common.
mod decisions;
// RATELIMIT.FW, and the commands on fixed windows.
mod fixed_window;
// FORCE: units that are taken in every case.
mod force;
// INFO ratelimit: its counters and its sizes.
mod info;
// RATELIMIT.ACQUIRE, RENEW, RELEASE and HOLDERS.
mod leases;
// Loading the module: each reason to refuse it.
mod loading;
// RATELIMIT.MULTI: several keys, all or none.
mod multi;
// RATELIMIT.RESERVE and RATELIMIT.SETTLE.
mod reservations;
// RATELIMIT.RESERVE and RATELIMIT.SETTLE in random histories.
mod reservations_agreement;
// Reservations in replicas, on disk, in clusters, and as bytes of any origin.
mod reservations_stored;
// RESOLUTION: logs in bounded memory.
mod resolution;
// The settings of the module: where they can be set, and the values that it refuses.
mod settings;
// RATELIMIT.SW, and the commands on logs.
mod sliding_window_log;
// RATELIMIT.TB, and the commands on buckets.
mod token_bucket;
// RATELIMIT.TOP: the keys with the most denied calls.
mod top;

// Facts about commands, and rights.

// The access rules of the server, for every command.
mod access;
// redis_exporter: metrics of INFO ratelimit.
mod exporter;
// COMMAND, COMMAND DOCS and related commands: the facts that the server returns.
mod introspection;

// Effects of calls: in the key, in replicas, on disk, in other nodes.

// Clusters: the node of each key, and slots that move under load.
mod cluster;
// Denied calls change nothing.
mod denied;
// The expiry of keys, and when a call sets it.
mod expiry;
// Failover of a pair under load: grants that may be lost, and grants that may not.
mod failover;
// Key events of grants and refunds.
mod key_events;
// Fences and bytes of leases over restarts, promotion and moved keys.
mod leases_fences;
// Memory of leases: its size, its release, its defragmentation.
mod leases_memory;
// Memory of values: its size, its release, its defragmentation.
mod memory;
// Keys that the server does not open.
mod openings;
// Stored bytes of every version.
mod payloads;
// Reload and restart: equal bytes before and after.
mod persistence;
// Replication: equal bytes on replicas.
mod replication;
// Replicas and append-only files that begin while grants are made.
mod replication_receivers;
// Transactions, scripts and functions.
mod scripts;
// Failover by Sentinels.
mod sentinel;

// Hostile input, load and races.

// Decisions of the pure crate and of a server over the same history.
mod agreement;
// The same for leases.
mod leases_agreement;
// Many clients on one key.
mod concurrency;
// Bytes that fuzzing found, and mutations of them.
mod corpus;
// Hostile input and hostile stored bytes.
mod hostile;
// Generic key commands on limiter keys.
mod keyspace;
// Stored bytes of leases: those of every version, and damaged ones.
mod leases_hostile;
// Many clients on one key of leases, some of which die.
mod leases_clients;
// Servers that are out of memory, busy or paused, and modules that are loaded and unloaded.
mod pressure;
