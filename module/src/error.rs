//! What a refused call is told.

use std::borrow::Cow;
use std::ffi::CStr;

/// Why a call was refused. A refused call has changed nothing.
#[derive(Debug)]
pub(crate) enum Error {
    /// Too few or too many arguments; the server words this itself.
    WrongArity,
    /// The key holds a value of another type.
    WrongType,
    /// The user has no right to the one command that is not for users.
    NoPermission,
    /// An argument broke a rule: the whole message, which names the argument and the rule.
    Argument(Cow<'static, CStr>),
}

impl Error {
    /// An argument broke this rule.
    pub(crate) const fn argument(rule: &'static CStr) -> Self {
        Self::Argument(Cow::Borrowed(rule))
    }

    /// The message as the client gets it.
    pub(crate) fn message(&self) -> &CStr {
        match self {
            Self::WrongArity => c"ERR wrong number of arguments",
            Self::WrongType => c"WRONGTYPE Operation against a key holding the wrong kind of value",
            Self::NoPermission => {
                c"NOPERM this user has no permissions to run the 'ratelimit.apply' command"
            }
            Self::Argument(rule) => rule,
        }
    }
}
