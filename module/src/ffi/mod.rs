//! The server's C API made safe, and all unsafe code of the module.
//!
//! Nothing here imports a part of the module outside this directory. The rest of the module hands
//! over its commands, data types, settings and section of INFO as implementations of traits.
//!
//! * [`load`]: the entry point of the module, and the proof of a running load.
//! * `api`: the functions of the server that the module requires.
//! * [`call`]: one invocation of a command: its arguments, its reply.
//! * [`reply`]: the replies; [`error`]: the errors of refused calls.
//! * `caller`: checks of the caller.
//! * [`key`]: the keys of a call, opened for reading or for writing.
//! * [`command`]: a command as the rest of the module defines it, and its registration.
//! * [`command_info`]: the facts about a command that the server and its clients receive.
//! * [`replication`]: the changes that a call sends to replicas and the append-only file.
//! * [`setting`]: a setting that the server keeps.
//! * [`info`]: the module's section of INFO and of crash reports.
//! * [`data_type`]: a native data type as the rest of the module defines it, and its callbacks.
//! * `memory`: the memory of a value; `allocator`: the allocator of the module.
//! * `log`: lines in the log of the server.
//! * [`clock`]: the clocks of the server and of the system.
//! * `raw`: the declarations of the API.

mod allocator;
mod api;
pub(crate) mod call;
mod caller;
pub(crate) mod clock;
pub(crate) mod command;
pub(crate) mod command_info;
pub(crate) mod data_type;
pub(crate) mod error;
pub(crate) mod info;
pub(crate) mod key;
pub(crate) mod load;
mod log;
mod memory;
pub(crate) mod raw;
pub(crate) mod replication;
pub(crate) mod reply;
pub(crate) mod setting;
