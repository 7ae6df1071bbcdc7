//! Facts about the commands that the server returns to clients, cluster proxies and people.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use redis::{Value, from_redis_value_ref};
use tempfile::NamedTempFile;

use crate::harness::{NOON, Server, eventually};

/// The facts of a command as a client sees them.
struct Facts {
    name: &'static str,
    arity: i64,
    flags: &'static [&'static str],
    /// First, last and step, which clients without key specs use.
    positions: [i64; 3],
    categories: &'static [&'static str],
    tips: &'static [&'static str],
    /// Flags, the begin of the search, and the way to find the keys.
    key_spec: &'static str,
    summary: &'static str,
    since: &'static str,
    /// The arguments with their types; a key has the number of its key spec in place of a type.
    syntax: &'static str,
}

const NO_TIPS: &[&str] = &[];
const VARIES: &[&str] = &["nondeterministic_output"];
const TAKES: &[&str] = &["denyoom", "fast", "module", "write"];
const FIRST: &str = "RW access update, index index 1, range lastkey 0 keystep 1 limit 0";

const COMMANDS: [Facts; 14] = [
    Facts {
        name: "ratelimit.acquire",
        arity: -5,
        flags: TAKES,
        positions: [1, 1, 1],
        categories: &["@fast", "@ratelimit", "@write"],
        tips: VARIES,
        key_spec: FIRST,
        summary: "Takes a lease, which its holder has until it is released or expires.",
        since: "1.1.0",
        syntax: "key:0 limit:integer ttl:double holder:string [COST cost:integer]",
    },
    Facts {
        name: "ratelimit.fw",
        arity: -4,
        flags: TAKES,
        positions: [1, 1, 1],
        categories: &["@fast", "@ratelimit", "@write"],
        tips: VARIES,
        key_spec: FIRST,
        summary: "Takes units from a fixed window.",
        since: "1.1.0",
        syntax: "key:0 limit:integer (window:double [ANCHOR anchor:integer]|DAY|WEEK|MONTH|YEAR\
                 |FROM begin:double UNTIL end:double) [COST cost:integer] [(PARTIAL|FORCE)]",
    },
    Facts {
        name: "ratelimit.holders",
        arity: -2,
        flags: &["fast", "module", "readonly"],
        positions: [1, 1, 1],
        categories: &["@fast", "@ratelimit", "@read"],
        tips: VARIES,
        key_spec: "RO access, index index 1, range lastkey 0 keystep 1 limit 0",
        summary: "Lists the live leases of a key.",
        since: "1.1.0",
        syntax: "key:0 [COUNT count:integer]",
    },
    Facts {
        name: "ratelimit.multi",
        arity: -6,
        flags: &["denyoom", "fast", "module", "movablekeys", "write"],
        positions: [0, 0, 0],
        categories: &["@fast", "@ratelimit", "@write"],
        tips: VARIES,
        key_spec: "RW access update, index index 1, keynum keynumidx 0 firstkey 1 keystep 1",
        summary: "Takes units from several keys, or from none of them.",
        since: "1.0.0",
        syntax: "numkeys:integer key:0... \
                 (TB limit:integer window:double [BURST capacity:integer] [COST cost:integer]\
                 |SW limit:integer window:double [RESOLUTION seconds:double] [COST cost:integer]\
                 |FW limit:integer (window:double [ANCHOR anchor:integer]|DAY|WEEK|MONTH|YEAR\
                 |FROM begin:double UNTIL end:double) [COST cost:integer])...",
    },
    Facts {
        name: "ratelimit.peek",
        arity: -5,
        flags: &["fast", "module", "readonly"],
        positions: [1, 1, 1],
        categories: &["@fast", "@ratelimit", "@read"],
        tips: VARIES,
        key_spec: "RO access, index index 1, range lastkey 0 keystep 1 limit 0",
        summary: "Returns the reply of RATELIMIT.TB, RATELIMIT.SW or RATELIMIT.FW without taking units.",
        since: "1.0.0",
        syntax: "key:0 \
                 (TB limit:integer window:double [BURST capacity:integer] [COST cost:integer]\
                 |SW limit:integer window:double [RESOLUTION seconds:double] [COST cost:integer]\
                 |FW limit:integer (window:double [ANCHOR anchor:integer]|DAY|WEEK|MONTH|YEAR\
                 |FROM begin:double UNTIL end:double) [COST cost:integer])",
    },
    Facts {
        name: "ratelimit.refund",
        arity: 3,
        flags: &["fast", "module", "write"],
        positions: [1, 1, 1],
        categories: &["@fast", "@ratelimit", "@write"],
        tips: VARIES,
        key_spec: FIRST,
        summary: "Gives back units that were taken and not used.",
        since: "1.0.0",
        syntax: "key:0 amount:integer",
    },
    Facts {
        name: "ratelimit.release",
        arity: -3,
        flags: &["fast", "module", "write"],
        positions: [1, 1, 1],
        categories: &["@fast", "@ratelimit", "@write"],
        tips: VARIES,
        key_spec: FIRST,
        summary: "Ends leases.",
        since: "1.1.0",
        syntax: "key:0 [FENCED] holder:string [fence:integer]...",
    },
    Facts {
        name: "ratelimit.renew",
        arity: -4,
        flags: &["fast", "module", "write"],
        positions: [1, 1, 1],
        categories: &["@fast", "@ratelimit", "@write"],
        tips: VARIES,
        key_spec: FIRST,
        summary: "Moves the expiry of leases.",
        since: "1.1.0",
        syntax: "key:0 ttl:double [FENCED] holder:string [fence:integer]...",
    },
    Facts {
        name: "ratelimit.reserve",
        arity: -8,
        flags: &["denyoom", "fast", "module", "movablekeys", "write"],
        positions: [1, 1, 1],
        categories: &["@fast", "@ratelimit", "@write"],
        tips: VARIES,
        key_spec: "RW access update, index index 1, range lastkey 0 keystep 1 limit 0; \
                   RW access update, index index 3, keynum keynumidx 0 firstkey 1 keystep 1",
        summary: "Takes estimated costs from several keys, or from none, to be settled once.",
        since: "1.1.0",
        syntax: "reservation:0 ttl:double numkeys:integer key:1... \
                 (TB limit:integer window:double [BURST capacity:integer] [COST cost:integer]\
                 |SW limit:integer window:double [RESOLUTION seconds:double] [COST cost:integer]\
                 |FW limit:integer (window:double [ANCHOR anchor:integer]|DAY|WEEK|MONTH|YEAR\
                 |FROM begin:double UNTIL end:double) [COST cost:integer])...",
    },
    Facts {
        name: "ratelimit.reset",
        arity: -2,
        flags: &["fast", "module", "write"],
        positions: [1, -1, 1],
        categories: &["@fast", "@ratelimit", "@write"],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        key_spec: "RM delete, index index 1, range lastkey -1 keystep 1 limit 0",
        summary: "Removes limiter keys.",
        since: "1.0.0",
        syntax: "key:0...",
    },
    Facts {
        name: "ratelimit.settle",
        arity: -4,
        flags: &["fast", "module", "movablekeys", "write"],
        positions: [1, 1, 1],
        categories: &["@fast", "@ratelimit", "@write"],
        tips: VARIES,
        key_spec: "RW access delete, index index 1, range lastkey 0 keystep 1 limit 0; \
                   RW access update, index index 2, keynum keynumidx 0 firstkey 1 keystep 1",
        summary: "Corrects the estimates of a reservation, once.",
        since: "1.1.0",
        syntax: "reservation:0 numkeys:integer key:1... [ACTUAL amount:integer...]",
    },
    Facts {
        name: "ratelimit.sw",
        arity: -4,
        flags: TAKES,
        positions: [1, 1, 1],
        categories: &["@fast", "@ratelimit", "@write"],
        tips: VARIES,
        key_spec: FIRST,
        summary: "Takes units from a sliding window log.",
        since: "1.0.0",
        syntax: "key:0 limit:integer window:double [RESOLUTION seconds:double] \
                 [COST cost:integer] [(PARTIAL|FORCE)]",
    },
    Facts {
        name: "ratelimit.tb",
        arity: -4,
        flags: TAKES,
        positions: [1, 1, 1],
        categories: &["@fast", "@ratelimit", "@write"],
        tips: VARIES,
        key_spec: FIRST,
        summary: "Takes units from a token bucket.",
        since: "1.0.0",
        syntax: "key:0 limit:integer window:double [BURST capacity:integer] [COST cost:integer] \
                 [(PARTIAL|FORCE)]",
    },
    Facts {
        name: "ratelimit.top",
        arity: -1,
        flags: &["admin", "loading", "module", "stale"],
        positions: [0, 0, 0],
        categories: &["@admin", "@dangerous", "@slow"],
        tips: &["nondeterministic_output", "request_policy:all_nodes"],
        key_spec: "none",
        summary: "Lists the keys with the most recent denials.",
        since: "1.0.0",
        syntax: "[COUNT count:integer]",
    },
];

/// The command that exists only with the module argument `cl-throttle yes`.
const THROTTLE: Facts = Facts {
    name: "cl.throttle",
    arity: -5,
    flags: TAKES,
    positions: [1, 1, 1],
    categories: &["@fast", "@ratelimit", "@write"],
    tips: VARIES,
    key_spec: FIRST,
    summary: "Takes units from a token bucket, as redis-cell does.",
    since: "1.1.0",
    syntax: "key:0 max_burst:integer count:integer period:integer [quantity:integer]",
};

/// The only command that is not for users.
const APPLY: Facts = Facts {
    name: "ratelimit.apply",
    arity: 3,
    flags: &["fast", "module", "write"],
    positions: [1, 1, 1],
    categories: &["@admin", "@dangerous"],
    tips: NO_TIPS,
    key_spec: "RW update, index index 1, range lastkey 0 keystep 1 limit 0",
    summary: "Applies the effect of a call on another server; not for clients.",
    since: "1.0.0",
    syntax: "key:0 payload:string",
};

#[test]
fn command_info_is_complete_and_true() {
    let server = Server::builder().module_arguments(&["cl-throttle", "yes"]).start();
    let mut client = server.client().acting_as_a_server();
    let categories: Vec<String> = client.call("ACL CAT");
    let has_own = categories.iter().any(|category| category == "ratelimit");
    for facts in COMMANDS.iter().chain([&APPLY, &THROTTLE]) {
        let name = facts.name;
        let [info]: [Vec<Value>; 1] = client.call(&format!("COMMAND INFO {name}"));
        assert_eq!(text(&info[0]), name);
        assert_eq!(info[1], Value::Int(facts.arity), "{name}");
        let mut flags = words(&info[2]);
        // The server itself adds `noscript` to an internal command.
        flags.retain(|flag| name != APPLY.name || flag != "noscript");
        assert_eq!(flags, facts.flags, "{name}");
        assert_eq!(info[3..6], facts.positions.map(Value::Int), "{name}");
        let mut categories = facts.categories.to_vec();
        categories.retain(|category| has_own || *category != "@ratelimit");
        // Some servers have categories for their own commands only.
        if has_own || !words(&info[6]).is_empty() {
            assert_eq!(words(&info[6]), categories, "{name}");
        }
        assert_eq!(words(&info[7]), facts.tips, "{name}");
        assert_eq!(key_spec(&info[8]), facts.key_spec, "{name}");
        assert_eq!(info[9], Value::Array(vec![]), "{name} has no subcommands");
    }
}

#[test]
fn command_docs_are_complete_and_true() {
    let server = Server::builder().module_arguments(&["cl-throttle", "yes"]).start();
    let mut client = server.client().acting_as_a_server();
    for facts in COMMANDS.iter().chain([&APPLY, &THROTTLE]) {
        let name = facts.name;
        let docs: BTreeMap<String, Value> = client.call(&format!("COMMAND DOCS {name}"));
        let docs = map(&docs[name]);
        assert_eq!(text(&docs["summary"]), facts.summary, "{name}");
        assert_eq!(text(&docs["since"]), facts.since, "{name}");
        assert_eq!(text(&docs["group"]), "module", "{name}");
        assert_eq!(text(&docs["module"]), "ratelimit", "{name}");
        assert!(text(&docs["complexity"]).starts_with("O("), "{name}");
        assert_eq!(syntax(&docs["arguments"], " "), facts.syntax, "{name}");
    }
}

#[test]
fn the_server_finds_the_keys_of_every_call() {
    let server = Server::at(NOON);
    let mut client = server.client().acting_as_a_server();
    for (call, keys, flags) in [
        ("RATELIMIT.TB a 10 60 COST 2", &["a"][..], "RW access update"),
        ("RATELIMIT.SW a 10 60 PARTIAL", &["a"], "RW access update"),
        ("RATELIMIT.FW a 10 FROM 1 UNTIL 2 COST 3", &["a"], "RW access update"),
        ("RATELIMIT.PEEK a SW 10 60", &["a"], "RO access"),
        ("RATELIMIT.REFUND a 1", &["a"], "RW access update"),
        ("RATELIMIT.RESET a", &["a"], "RM delete"),
        ("RATELIMIT.RESET a b a", &["a", "b", "a"], "RM delete"),
        ("RATELIMIT.MULTI 1 a TB 10 60", &["a"], "RW access update"),
        ("RATELIMIT.MULTI 3 a b c TB 1 1 SW 1 1 TB 1 1", &["a", "b", "c"], "RW access update"),
        ("RATELIMIT.ACQUIRE a 5 60 holder COST 2", &["a"], "RW access update"),
        ("RATELIMIT.RENEW a 60 FENCED b 1 c 2", &["a"], "RW access update"),
        ("RATELIMIT.RELEASE a b c", &["a"], "RW access update"),
        ("RATELIMIT.HOLDERS a COUNT 5", &["a"], "RO access"),
        ("RATELIMIT.APPLY a payload", &["a"], "RW update"),
        ("RATELIMIT.RESERVE r 9 2 a b TB 1 1 TB 1 1", &["r", "a", "b"], "RW access update"),
    ] {
        let found: Vec<String> = client.call(&format!("COMMAND GETKEYS {call}"));
        assert_eq!(found, keys, "{call}");
        let found: Vec<(String, Value)> = client.call(&format!("COMMAND GETKEYSANDFLAGS {call}"));
        let found: Vec<_> =
            found.iter().map(|(key, flags)| (key.as_str(), words(flags).join(" "))).collect();
        let expected: Vec<_> = keys.iter().map(|key| (*key, flags.to_owned())).collect();
        assert_eq!(found, expected, "{call}");
    }
    let call = "RATELIMIT.SETTLE r 2 a b ACTUAL 1 2";
    let found: Vec<(String, Value)> = client.call(&format!("COMMAND GETKEYSANDFLAGS {call}"));
    let found: Vec<_> =
        found.iter().map(|(key, flags)| (&key[..], words(flags).join(" "))).collect();
    let [taken, updated] = ["RW access delete", "RW access update"].map(str::to_owned);
    assert_eq!(found, [("r", taken), ("a", updated.clone()), ("b", updated)], "{call}");
    for call in ["RATELIMIT.MULTI 0 a TB 10 60", "RATELIMIT.MULTI 9 a TB 10 60", "RATELIMIT.TB"] {
        assert!(client.refusal(&format!("COMMAND GETKEYS {call}")).starts_with("ERR "), "{call}");
    }
}

#[test]
fn the_server_lists_the_commands_and_the_module() {
    let server = Server::at(NOON);
    let mut client = server.client();
    let mut listed: Vec<String> = client.call("COMMAND LIST FILTERBY MODULE ratelimit");
    let without: i64 = Server::builder().without_module().start().client().call("COMMAND COUNT");
    let with: i64 = client.call("COMMAND COUNT");
    assert_eq!(with - without, i64::try_from(listed.len()).unwrap());
    // Internal commands are neither listed nor counted.
    listed.retain(|name| name != APPLY.name);
    listed.sort();
    assert_eq!(listed, COMMANDS.map(|facts| facts.name));
    let modules: Vec<BTreeMap<String, Value>> = client.call("MODULE LIST");
    let module = modules.iter().find(|module| text(&module["name"]) == "ratelimit").unwrap();
    let [major, minor, patch] = [
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    ]
    .map(|number| number.parse::<i64>().unwrap());
    assert_eq!(module["ver"], Value::Int(major * 10_000 + minor * 100 + patch));
    assert!(text(&module["path"]).ends_with("libratelimit.so"));
}

#[test]
fn redis_cli_explains_every_command() {
    let server = Server::at(NOON);
    for (name, syntax) in [
        ("RATELIMIT.TB", "key limit window [BURST capacity] [COST cost] [PARTIAL|FORCE]"),
        ("RATELIMIT.SW", "key limit window [RESOLUTION seconds] [COST cost] [PARTIAL|FORCE]"),
        (
            "RATELIMIT.FW",
            "key limit window [ANCHOR anchor]|DAY|WEEK|MONTH|YEAR|FROM begin UNTIL end [COST cost] \
             [PARTIAL|FORCE]",
        ),
        (
            "RATELIMIT.PEEK",
            "key TB limit window [BURST capacity] [COST cost]|SW limit window [RESOLUTION seconds] \
             [COST cost]|FW limit window [ANCHOR anchor]|DAY|WEEK|MONTH|YEAR|FROM begin UNTIL end \
             [COST cost]",
        ),
        ("RATELIMIT.REFUND", "key amount"),
        ("RATELIMIT.ACQUIRE", "key limit ttl holder [COST cost]"),
        ("RATELIMIT.RENEW", "key ttl [FENCED] holder [fence] [holder [fence] ...]"),
        ("RATELIMIT.RELEASE", "key [FENCED] holder [fence] [holder [fence] ...]"),
        ("RATELIMIT.HOLDERS", "key [COUNT count]"),
        ("RATELIMIT.RESET", "key [key ...]"),
        ("RATELIMIT.TOP", "[COUNT count]"),
    ] {
        let help = help(&server, name);
        assert!(help.contains(&format!("{name} {syntax}\r\n")), "{help}");
        assert!(help.contains("summary: "), "{help}");
    }
    let help = help(&server, "RATELIMIT.MULTI");
    assert!(help.contains("RATELIMIT.MULTI numkeys key [key ...] TB limit window"), "{help}");
}

#[test]
fn redis_cli_shows_the_arguments_while_one_types() {
    let server = Server::at(NOON);
    let mut terminal = Terminal::start(&server);
    terminal.shows("> ");
    for (keys, line) in [
        (
            "RATELIMIT.TB ",
            "RATELIMIT.TB key limit window [BURST capacity] [COST cost] [PARTIAL|FORCE]",
        ),
        ("user 10 ", "RATELIMIT.TB user 10 window [BURST capacity] [COST cost] [PARTIAL|FORCE]"),
        ("60 ", "RATELIMIT.TB user 10 60 [BURST capacity] [COST cost] [PARTIAL|FORCE]"),
    ] {
        terminal.types(keys);
        terminal.shows(line);
    }
}

/// A terminal in which redis-cli runs; `script` provides it.
struct Terminal {
    process: Child,
    output: NamedTempFile,
}

impl Terminal {
    fn start(server: &Server) -> Self {
        let output = NamedTempFile::new().unwrap();
        let command = format!("stty columns 200; exec redis-cli -p {}", server.port());
        let process = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", &command, "/dev/null"])
            .envs([("TERM", "xterm"), ("REDISCLI_RCFILE", "/dev/null")])
            .env("REDISCLI_HISTFILE", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(output.reopen().unwrap())
            .spawn()
            .unwrap();
        Self { process, output }
    }

    fn types(&mut self, keys: &str) {
        self.process.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the terminal has this text, in any colours.
    fn shows(&self, text: &str) {
        let shown = || fs::read(self.output.path()).is_ok_and(|all| plain(&all).contains(text));
        eventually(text, || shown().then_some(()));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The end of `script` ends redis-cli too.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the answer of redis-cli to HELP for a command.
fn help(server: &Server, name: &str) -> String {
    let port = server.port().to_string();
    let output = Command::new("redis-cli").args(["-p", &port, "HELP", name]).output().unwrap();
    plain(&output.stdout)
}

/// Returns the text without the sequences that move the cursor or change colours.
fn plain(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.trim_start_matches(is_parameter).get(1..).unwrap())
}

fn is_parameter(character: char) -> bool {
    character.is_ascii_digit() || character == ';'
}

/// Returns the arguments of a command as a user writes them, with their types.
fn syntax(arguments: &Value, separator: &str) -> String {
    let arguments: Vec<Value> = from_redis_value_ref(arguments).unwrap();
    let arguments: Vec<String> = arguments.iter().map(|one| argument(&map(one))).collect();
    arguments.join(separator)
}

fn argument(facts: &BTreeMap<String, Value>) -> String {
    let kind = text(&facts["type"]);
    let name = text(&facts["name"]);
    let value = match kind.as_str() {
        "pure-token" => String::new(),
        "key" => format!("{name}:{}", integer(&facts["key_spec_index"])),
        "oneof" => format!("({})", syntax(&facts["arguments"], "|")),
        "block" => syntax(&facts["arguments"], " "),
        _ => format!("{name}:{kind}"),
    };
    let token = facts.get("token").map(text).unwrap_or_default();
    let written = format!("{token} {value}").trim().to_owned();
    let flags = facts.get("flags").map(words).unwrap_or_default();
    match flags.join(" ").as_str() {
        "" => written,
        "optional" => format!("[{written}]"),
        "multiple" => format!("{written}..."),
        other => panic!("{written} is {other}"),
    }
}

/// Returns the only key spec: flags, the begin of the search, and the way to find the keys.
fn key_spec(specs: &Value) -> String {
    let specs: Vec<Value> = from_redis_value_ref(specs).unwrap();
    if specs.is_empty() {
        return "none".to_owned();
    }
    specs.iter().map(place).collect::<Vec<_>>().join("; ")
}

/// Returns one key spec as text.
fn place(spec: &Value) -> String {
    let spec = map(spec);
    let step = |name| {
        let step = map(&spec[name]);
        let mut numbers: Vec<(String, Value)> = from_redis_value_ref(&step["spec"]).unwrap();
        let numbers = numbers.drain(..);
        let numbers = numbers.map(|(name, number)| format!("{name} {}", integer(&number)));
        format!("{} {}", text(&step["type"]), numbers.collect::<Vec<_>>().join(" "))
    };
    let flags = words(&spec["flags"]).join(" ");
    format!("{flags}, {}, {}", step("begin_search"), step("find_keys"))
}

fn map(value: &Value) -> BTreeMap<String, Value> {
    from_redis_value_ref(value).unwrap()
}

fn text(value: &Value) -> String {
    from_redis_value_ref(value).unwrap()
}

fn integer(value: &Value) -> i64 {
    from_redis_value_ref(value).unwrap()
}

/// Returns the words in sorted order.
fn words(value: &Value) -> Vec<String> {
    let mut words: Vec<String> = from_redis_value_ref(value).unwrap();
    words.sort();
    words
}
