//! The server's C API made safe, and all unsafe code of the module.
//!
//! * `load`: what the server calls when it loads the module.
//! * [`api`]: the functions of the server that the module cannot do without.
//! * [`call`]: one invocation of a command: its arguments, its reply, what it replicates.
//! * `caller`: who runs a call.
//! * [`key`]: one key, opened for reading or for writing.
//! * [`command`]: a command as the rest of the module sees it, and its registration.
//! * [`command_info`]: what the server and its clients are told of a command.
//! * [`replication`]: what a call sends to replicas and the append-only file.
//! * [`setting`]: a setting as the server keeps it.
//! * [`info`]: the module's section of INFO and of crash reports.
//! * [`data_type`]: a native data type as the rest of the module sees it, and its callbacks.
//! * `memory`: what a value takes, and moving it to where memory is less fragmented.

pub(crate) mod api;
pub(crate) mod call;
mod caller;
pub(crate) mod command;
pub(crate) mod command_info;
pub(crate) mod data_type;
pub(crate) mod info;
pub(crate) mod key;
mod load;
mod memory;
pub(crate) mod replication;
pub(crate) mod setting;
pub(crate) mod system;
