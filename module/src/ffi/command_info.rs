//! The facts of a command, and their translation for the server. Clients, cluster proxies and
//! redis-cli read them with COMMAND INFO and COMMAND DOCS.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use super::api::{Api, api};
use super::call::Call;
use super::key::KeyNames;
use super::raw;

/// The facts about a command that the server and its clients receive.
pub(crate) struct Facts {
    /// The name, in lower case.
    pub(crate) name: &'static CStr,
    /// One sentence that describes the command.
    pub(crate) summary: &'static CStr,
    /// The cost of a call.
    pub(crate) complexity: &'static CStr,
    /// The first version of the module that has the command.
    pub(crate) since: &'static CStr,
    /// The flags that the server keeps for the command, separated by spaces.
    pub(crate) flags: &'static CStr,
    /// The callers that the command is meant for.
    pub(crate) callers: Callers,
    /// The server's access categories of the command, separated by spaces.
    pub(crate) categories: &'static CStr,
    /// Hints for clients and cluster proxies, separated by spaces.
    pub(crate) tips: Option<&'static CStr>,
    /// The number of arguments of a call, the name included; -4 stands for four or more. The server
    /// refuses any other call.
    pub(crate) arity: c_int,
    /// The arguments that are keys, and their usage.
    pub(crate) keys: Keys,
    /// All arguments after the name.
    pub(crate) arguments: &'static [Argument],
}

impl Facts {
    /// The facts that commands of users share which take from one key. Each command adds its name,
    /// its summary, its cost, its version, its arity and its arguments.
    pub(crate) const OF_TAKING: Self = Self {
        name: c"",
        summary: c"",
        complexity: c"",
        since: c"",
        flags: c"write deny-oom fast",
        callers: Callers::Users,
        categories: c"write fast",
        tips: Some(c"nondeterministic_output"),
        arity: 0,
        keys: Keys::First(KeyUsage::Update),
        arguments: &[],
    };
}

/// The callers that a command is meant for.
pub(crate) enum Callers {
    /// Users. The command is in the module's own access category too.
    Users,
    /// Operators of the server.
    Operators,
    /// Other servers, and this one when it loads its append-only file.
    Servers,
}

/// The arguments of a command that are keys, and their usage.
pub(crate) enum Keys {
    /// No argument.
    None,
    /// The first argument.
    First(KeyUsage),
    /// All arguments.
    All(KeyUsage),
    /// An argument is the number of keys, and the keys follow it.
    Counted {
        /// The usage of the first argument, if that is a key as well.
        first: Option<KeyUsage>,
        /// The argument that is the number of the other keys.
        number: c_int,
        /// The usage of the other keys.
        usage: KeyUsage,
        /// Returns the arguments of a call that are keys, or `None` if the call has wrong keys.
        find: for<'a> fn(&Call<'a>) -> Option<KeyNames<'a>>,
    },
}

/// The usage of a key by a command.
#[derive(Clone, Copy)]
pub(crate) enum KeyUsage {
    /// The command reads the value.
    Read,
    /// The command changes the value without reading it.
    Write,
    /// The command reads the value and changes it.
    Update,
    /// The command reads the value and removes the key.
    Take,
    /// The command removes the key.
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
    /// Of a key, the number of its place in the list of places.
    place: c_int,
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
    /// A key, or several keys if the argument is [`multiple`](Self::multiple).
    pub(crate) const fn key() -> Self {
        Self::new(c"key", Kind::Key)
    }

    /// A key with a name of its own.
    pub(crate) const fn named_key(name: &'static CStr) -> Self {
        Self::new(name, Kind::Key)
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

    /// A word without a value.
    pub(crate) const fn word(name: &'static CStr, token: &'static CStr) -> Self {
        Self::new(name, Kind::Token).after(token)
    }

    /// One of these arguments.
    pub(crate) const fn one_of(name: &'static CStr, arguments: &'static [Self]) -> Self {
        Self::new(name, Kind::OneOf(arguments))
    }

    /// All of these arguments.
    pub(crate) const fn block(name: &'static CStr, arguments: &'static [Self]) -> Self {
        Self::new(name, Kind::Block(arguments))
    }

    /// The same argument after this word.
    pub(crate) const fn after(mut self, token: &'static CStr) -> Self {
        self.token = Some(token);
        self
    }

    /// The same argument, which may be omitted.
    pub(crate) const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The same argument, once or more.
    pub(crate) const fn multiple(mut self) -> Self {
        self.multiple = true;
        self
    }

    /// The same key, in the second of the places where the command has keys.
    pub(crate) const fn in_second_place(mut self) -> Self {
        self.place = 1;
        self
    }

    const fn new(name: &'static CStr, kind: Kind) -> Self {
        Self { name, kind, token: None, optional: false, multiple: false, place: 0 }
    }
}

/// Passes the facts of a command to the server. Returns whether the server accepted them.
///
/// # Safety
///
/// The command must be one that this module has created and not described before.
pub(super) unsafe fn describe(
    api: Api,
    command: *mut raw::RedisModuleCommand,
    facts: &Facts,
) -> bool {
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
    // SAFETY: the caller vouches for the command. The lists end as the server expects, and the
    // server copies everything before they are dropped.
    let status = unsafe { api!(api, RedisModule_SetCommandInfo)(command, &raw const info) };
    status == raw::REDISMODULE_OK as c_int
}

/// The layout of the structures that the server reads.
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
            Kind::Key => (raw::REDISMODULE_ARG_TYPE_KEY, &[][..]),
            Kind::Integer => (raw::REDISMODULE_ARG_TYPE_INTEGER, &[][..]),
            Kind::Double => (raw::REDISMODULE_ARG_TYPE_DOUBLE, &[][..]),
            Kind::String => (raw::REDISMODULE_ARG_TYPE_STRING, &[][..]),
            Kind::Token => (raw::REDISMODULE_ARG_TYPE_PURE_TOKEN, &[][..]),
            Kind::OneOf(list) => (raw::REDISMODULE_ARG_TYPE_ONEOF, list),
            Kind::Block(list) => (raw::REDISMODULE_ARG_TYPE_BLOCK, list),
        };
        let optional = if argument.optional { raw::REDISMODULE_CMD_ARG_OPTIONAL } else { 0 };
        let multiple = if argument.multiple { raw::REDISMODULE_CMD_ARG_MULTIPLE } else { 0 };
        let raw = raw::RedisModuleCommandArg {
            name: argument.name.as_ptr(),
            type_,
            key_spec_index: argument.place,
            token: address(argument.token),
            flags: (optional | multiple).cast_signed(),
            subargs: self.nest(subargs),
            ..NO_ARGUMENT
        };
        self.list.push(raw);
    }

    /// Returns the address of a list that lives as long as this one, or null for an empty list.
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

/// The end of a list of arguments.
const NO_ARGUMENT: raw::RedisModuleCommandArg = raw::RedisModuleCommandArg {
    name: ptr::null(),
    type_: raw::REDISMODULE_ARG_TYPE_STRING,
    key_spec_index: 0,
    token: ptr::null(),
    summary: ptr::null(),
    since: ptr::null(),
    flags: 0,
    deprecated_since: ptr::null(),
    subargs: ptr::null_mut(),
    display_text: ptr::null(),
};

/// Returns the list of places of keys, as the server takes it.
fn key_specs(keys: &Keys) -> Vec<raw::RedisModuleCommandKeySpec> {
    let mut specs = vec![];
    match *keys {
        Keys::None => {}
        Keys::First(usage) => specs.push(key_spec(usage, 1, RANGE, up_to(0))),
        Keys::All(usage) => specs.push(key_spec(usage, 1, RANGE, up_to(-1))),
        Keys::Counted { first, number, usage, .. } => {
            specs.extend(first.map(|usage| key_spec(usage, 1, RANGE, up_to(0))));
            specs.push(key_spec(usage, number, KEYNUM, COUNTED));
        }
    }
    specs.push(NO_KEYS);
    specs
}

/// Returns the place of keys that are found from the argument with a number.
fn key_spec(
    usage: KeyUsage,
    pos: c_int,
    find_keys_type: raw::RedisModuleKeySpecFindKeysType,
    fk: raw::KeySpecFindKeys,
) -> raw::RedisModuleCommandKeySpec {
    let flags = match usage {
        KeyUsage::Read => raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS,
        KeyUsage::Write => raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_UPDATE,
        KeyUsage::Update => {
            raw::REDISMODULE_CMD_KEY_RW
                | raw::REDISMODULE_CMD_KEY_UPDATE
                | raw::REDISMODULE_CMD_KEY_ACCESS
        }
        KeyUsage::Take => {
            raw::REDISMODULE_CMD_KEY_RW
                | raw::REDISMODULE_CMD_KEY_ACCESS
                | raw::REDISMODULE_CMD_KEY_DELETE
        }
        KeyUsage::Delete => raw::REDISMODULE_CMD_KEY_RM | raw::REDISMODULE_CMD_KEY_DELETE,
    };
    raw::RedisModuleCommandKeySpec {
        flags: u64::from(flags),
        begin_search_type: raw::REDISMODULE_KSPEC_BS_INDEX,
        bs: begin_at(pos),
        find_keys_type,
        fk,
        ..NO_KEYS
    }
}

const RANGE: raw::RedisModuleKeySpecFindKeysType = raw::REDISMODULE_KSPEC_FK_RANGE;
const KEYNUM: raw::RedisModuleKeySpecFindKeysType = raw::REDISMODULE_KSPEC_FK_KEYNUM;

/// All arguments from the first one to the one with this number, counted from the first one; -1
/// stands for the last one.
const fn up_to(lastkey: c_int) -> raw::KeySpecFindKeys {
    let range = raw::KeySpecRange { lastkey, keystep: 1, limit: 0 };
    raw::KeySpecFindKeys { range }
}

/// The arguments after the one where the search begins, whose value is their number.
const COUNTED: raw::KeySpecFindKeys =
    raw::KeySpecFindKeys { keynum: raw::KeySpecKeyNum { keynumidx: 0, firstkey: 1, keystep: 1 } };

/// The search begins at the argument with this number.
const fn begin_at(pos: c_int) -> raw::KeySpecBeginSearch {
    let index = raw::KeySpecIndex { pos };
    raw::KeySpecBeginSearch { index }
}

/// The end of a list of places of keys.
const NO_KEYS: raw::RedisModuleCommandKeySpec = raw::RedisModuleCommandKeySpec {
    notes: ptr::null(),
    flags: 0,
    begin_search_type: raw::REDISMODULE_KSPEC_BS_INVALID,
    bs: begin_at(1),
    find_keys_type: raw::REDISMODULE_KSPEC_FK_OMITTED,
    fk: up_to(0),
};

fn address(text: Option<&'static CStr>) -> *const c_char {
    text.map_or(ptr::null(), CStr::as_ptr)
}
