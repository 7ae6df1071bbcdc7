//! What a refused call is told.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

/// Why a call was refused. A refused call has changed nothing.
#[derive(Debug)]
pub(crate) enum Error {
    /// Too few or too many arguments; the server words this itself.
    WrongArity,
    /// The key holds a value of another type.
    WrongType,
    /// The user has no right to a command that is not for users: the whole message.
    NoPermission(Cow<'static, CStr>),
    /// An argument broke a rule: the whole message, which names the argument and the rule.
    Argument(Cow<'static, CStr>),
}

impl Error {
    /// An argument broke this rule.
    pub(crate) const fn argument(rule: &'static CStr) -> Self {
        Self::Argument(Cow::Borrowed(rule))
    }

    /// The user has no right to the command of this name.
    pub(crate) fn no_permission(command: &CStr) -> Self {
        let command = command.to_string_lossy();
        let message = format!("NOPERM this user has no permissions to run the '{command}' command");
        Self::NoPermission(CString::new(message).map_or(Cow::Borrowed(c"NOPERM"), Cow::Owned))
    }

    /// The message as the client gets it.
    pub(crate) fn message(&self) -> &CStr {
        match self {
            Self::WrongArity => c"ERR wrong number of arguments",
            Self::WrongType => c"WRONGTYPE Operation against a key holding the wrong kind of value",
            Self::NoPermission(message) | Self::Argument(message) => message,
        }
    }
}
