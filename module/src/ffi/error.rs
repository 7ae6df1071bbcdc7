//! The errors of refused calls, with the messages that clients receive.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

/// The reason for which a call was refused. A refused call has changed nothing.
#[derive(Debug)]
pub(crate) enum Error {
    /// The call has too few or too many arguments. The server words the message itself.
    WrongArity,
    /// The key holds a value of another type.
    WrongType,
    /// The server is using the key, so that it cannot be changed now.
    InUse,
    /// The user may not call a command that is not meant for users: the whole message.
    NoPermission(Cow<'static, CStr>),
    /// An argument broke a rule: the whole message, which names the argument and the rule.
    Argument(Cow<'static, CStr>),
    /// The server did what its documentation excludes: the whole message.
    Internal(&'static CStr),
}

impl Error {
    /// An argument broke this rule.
    pub(crate) const fn argument(rule: &'static CStr) -> Self {
        Self::Argument(Cow::Borrowed(rule))
    }

    /// The user may not call the command of this name.
    pub(super) fn no_permission(command: &CStr) -> Self {
        let command = command.to_string_lossy();
        let message = format!("NOPERM this user has no permissions to run the '{command}' command");
        Self::NoPermission(CString::new(message).map_or(Cow::Borrowed(c"NOPERM"), Cow::Owned))
    }

    /// The message as the client receives it.
    pub(super) fn message(&self) -> &CStr {
        match self {
            Self::WrongArity => c"ERR wrong number of arguments",
            Self::WrongType => c"WRONGTYPE Operation against a key holding the wrong kind of value",
            // The word by which clients of a cluster repeat a call.
            Self::InUse => c"TRYAGAIN the server is saving this key: repeat the call",
            Self::NoPermission(message) | Self::Argument(message) => message,
            Self::Internal(message) => message,
        }
    }
}
