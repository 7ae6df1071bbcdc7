//! The facts of a command, and their translation for the server, whose COMMAND INFO and COMMAND
//! DOCS tell them to clients, cluster proxies and redis-cli.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use redis_module::raw;

use super::api::api;

/// What the server and its clients are told of a command.
pub(crate) struct Facts {
    /// Its name, in lower case.
    pub(crate) name: &'static CStr,
    /// One sentence: what it does.
    pub(crate) summary: &'static CStr,
    /// What a call costs.
    pub(crate) complexity: &'static CStr,
    /// The module's version that first had it.
    pub(crate) since: &'static CStr,
    /// The server's flags for it, separated by spaces.
    pub(crate) flags: &'static CStr,
    /// Who is meant to call it.
    pub(crate) callers: Callers,
    /// The server's access categories that it belongs to, separated by spaces.
    pub(crate) categories: &'static CStr,
    /// Hints for clients and cluster proxies, separated by spaces.
    pub(crate) tips: Option<&'static CStr>,
    /// How many arguments a call has, the name included; -4 stands for four or more. The server
    /// refuses any other call.
    pub(crate) arity: c_int,
    /// Which arguments are keys, and what happens to them.
    pub(crate) keys: Keys,
    /// All arguments behind the name.
    pub(crate) arguments: &'static [Argument],
}

/// Who is meant to call a command.
pub(crate) enum Callers {
    /// Users; the command is in the module's own access category too.
    Users,
    /// Those who run the server.
    Operators,
    /// Other servers, and this one when it loads its append-only file.
    Servers,
}

/// Which arguments of a command are keys, and what happens to them.
pub(crate) enum Keys {
    /// None.
    None,
    /// The first argument.
    First(Access),
    /// All arguments.
    All(Access),
    /// The first argument is their number, and they follow it.
    Counted(Access),
}

/// What happens to a key.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    /// It is looked at.
    Read,
    /// It is changed, whatever it was.
    Write,
    /// It is looked at and changed.
    Update,
    /// It is removed.
    Delete,
}

/// One argument of a command, or a group of them.
#[derive(Clone, Copy)]
pub(crate) struct Argument {
    name: &'static CStr,
    kind: Kind,
    token: Option<&'static CStr>,
    optional: bool,
    multiple: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Key,
    Integer,
    Double,
    String,
    Token,
    OneOf(&'static [Argument]),
    Block(&'static [Argument]),
}

impl Argument {
    /// A key, or the keys when it is [`multiple`](Self::multiple).
    pub(crate) const fn key() -> Self {
        Self::new(c"key", Kind::Key)
    }

    /// An integer.
    pub(crate) const fn integer(name: &'static CStr) -> Self {
        Self::new(name, Kind::Integer)
    }

    /// A number that may have decimals.
    pub(crate) const fn double(name: &'static CStr) -> Self {
        Self::new(name, Kind::Double)
    }

    /// Any bytes.
    pub(crate) const fn string(name: &'static CStr) -> Self {
        Self::new(name, Kind::String)
    }

    /// A word that has no value.
    pub(crate) const fn word(name: &'static CStr, token: &'static CStr) -> Self {
        Self::new(name, Kind::Token).after(token)
    }

    /// One of these.
    pub(crate) const fn one_of(name: &'static CStr, arguments: &'static [Self]) -> Self {
        Self::new(name, Kind::OneOf(arguments))
    }

    /// All of these.
    pub(crate) const fn block(name: &'static CStr, arguments: &'static [Self]) -> Self {
        Self::new(name, Kind::Block(arguments))
    }

    /// The same, with this word before it.
    pub(crate) const fn after(mut self, token: &'static CStr) -> Self {
        self.token = Some(token);
        self
    }

    /// The same, and it may be left out.
    pub(crate) const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The same, once or more.
    pub(crate) const fn multiple(mut self) -> Self {
        self.multiple = true;
        self
    }

    const fn new(name: &'static CStr, kind: Kind) -> Self {
        Self { name, kind, token: None, optional: false, multiple: false }
    }
}

/// Tells the server the facts of a command; whether it accepted them.
///
/// # Safety
///
/// The command must be one that this module has created and not described before.
pub(super) unsafe fn describe(command: *mut raw::RedisModuleCommand, facts: &Facts) -> bool {
    let mut key_specs = key_specs(&facts.keys);
    let mut arguments = RawArguments::new(facts.arguments);
    let info = raw::RedisModuleCommandInfo {
        version: &raw const VERSION,
        summary: facts.summary.as_ptr(),
        complexity: facts.complexity.as_ptr(),
        since: facts.since.as_ptr(),
        history: ptr::null_mut(),
        tips: address(facts.tips),
        arity: facts.arity,
        key_specs: key_specs.as_mut_ptr(),
        args: arguments.list.as_mut_ptr(),
    };
    // SAFETY: the caller vouches for the command; the lists end as the server expects, and it
    // copies all that it is shown before they are dropped.
    let status = unsafe { api!(RedisModule_SetCommandInfo)(command, &raw const info) };
    status == raw::REDISMODULE_OK as c_int
}

/// The layout of what the server is shown.
static VERSION: raw::RedisModuleCommandInfoVersion = raw::RedisModuleCommandInfoVersion {
    version: 1,
    sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
    sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
    sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
};

/// A list of arguments as the server takes it, and the lists that it points to.
struct RawArguments {
    list: Vec<raw::RedisModuleCommandArg>,
    nested: Vec<RawArguments>,
}

impl RawArguments {
    fn new(arguments: &[Argument]) -> Self {
        let mut raw = Self { list: vec![], nested: vec![] };
        for argument in arguments {
            raw.push(argument);
        }
        raw.list.push(NO_ARGUMENT);
        raw
    }

    fn push(&mut self, argument: &Argument) {
        let (type_, subargs) = match argument.kind {
            Kind::Key => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY, &[][..]),
            Kind::Integer => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER, &[][..]),
            Kind::Double => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_DOUBLE, &[][..]),
            Kind::String => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING, &[][..]),
            Kind::Token => {
                (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN, &[][..])
            }
            Kind::OneOf(list) => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_ONEOF, list),
            Kind::Block(list) => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_BLOCK, list),
        };
        let optional = if argument.optional { raw::REDISMODULE_CMD_ARG_OPTIONAL } else { 0 };
        let multiple = if argument.multiple { raw::REDISMODULE_CMD_ARG_MULTIPLE } else { 0 };
        let raw = raw::RedisModuleCommandArg {
            name: argument.name.as_ptr(),
            type_,
            token: address(argument.token),
            flags: (optional | multiple).cast_signed(),
            subargs: self.nest(subargs),
            ..NO_ARGUMENT
        };
        self.list.push(raw);
    }

    /// The address of a list that lives as long as this one; null for an empty list.
    fn nest(&mut self, arguments: &[Argument]) -> *mut raw::RedisModuleCommandArg {
        if arguments.is_empty() {
            return ptr::null_mut();
        }
        let mut nested = Self::new(arguments);
        let address = nested.list.as_mut_ptr();
        self.nested.push(nested);
        address
    }
}

/// What a list of arguments ends with.
const NO_ARGUMENT: raw::RedisModuleCommandArg = raw::RedisModuleCommandArg {
    name: ptr::null(),
    type_: raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING,
    key_spec_index: 0,
    token: ptr::null(),
    summary: ptr::null(),
    since: ptr::null(),
    flags: 0,
    deprecated_since: ptr::null(),
    subargs: ptr::null_mut(),
    display_text: ptr::null(),
};

/// A list of one place where keys are, or of none, as the server takes it.
fn key_specs(keys: &Keys) -> Vec<raw::RedisModuleCommandKeySpec> {
    let (access, find_keys_type, fk) = match *keys {
        Keys::None => return vec![NO_KEYS],
        Keys::First(access) => (access, RANGE, up_to(0)),
        Keys::All(access) => (access, RANGE, up_to(-1)),
        Keys::Counted(access) => (access, KEYNUM, COUNTED),
    };
    let flags = match access {
        Access::Read => raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS,
        Access::Write => raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_UPDATE,
        Access::Update => {
            raw::REDISMODULE_CMD_KEY_RW
                | raw::REDISMODULE_CMD_KEY_UPDATE
                | raw::REDISMODULE_CMD_KEY_ACCESS
        }
        Access::Delete => raw::REDISMODULE_CMD_KEY_RM | raw::REDISMODULE_CMD_KEY_DELETE,
    };
    let spec = raw::RedisModuleCommandKeySpec {
        flags: u64::from(flags),
        begin_search_type: raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX,
        find_keys_type,
        fk,
        ..NO_KEYS
    };
    vec![spec, NO_KEYS]
}

const RANGE: raw::RedisModuleKeySpecFindKeysType =
    raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
const KEYNUM: raw::RedisModuleKeySpecFindKeysType =
    raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_KEYNUM;

/// All arguments from the first up to this one, which is relative to it, or -1 for the last.
const fn up_to(lastkey: c_int) -> raw::RedisModuleCommandKeySpec__bindgen_ty_2 {
    let range = raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_1 {
        lastkey,
        keystep: 1,
        limit: 0,
    };
    raw::RedisModuleCommandKeySpec__bindgen_ty_2 { range }
}

/// As many arguments behind the first as that says.
const COUNTED: raw::RedisModuleCommandKeySpec__bindgen_ty_2 =
    raw::RedisModuleCommandKeySpec__bindgen_ty_2 {
        keynum: raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_2 {
            keynumidx: 0,
            firstkey: 1,
            keystep: 1,
        },
    };

/// What a list of places of keys ends with. The search begins at the first argument.
const NO_KEYS: raw::RedisModuleCommandKeySpec = raw::RedisModuleCommandKeySpec {
    notes: ptr::null(),
    flags: 0,
    begin_search_type: raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INVALID,
    bs: raw::RedisModuleCommandKeySpec__bindgen_ty_1 {
        index: raw::RedisModuleCommandKeySpec__bindgen_ty_1__bindgen_ty_1 { pos: 1 },
    },
    find_keys_type: raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_OMITTED,
    fk: up_to(0),
};

fn address(text: Option<&'static CStr>) -> *const c_char {
    text.map_or(ptr::null(), CStr::as_ptr)
}
