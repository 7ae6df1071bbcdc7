//! A connection to a server that explains its failures.

use std::path::PathBuf;

use redis::{Connection, FromRedisValue, RedisError, Value};

use super::process::log_tail;

/// A client whose failures print the command, the reply and the end of the server's log.
pub(crate) struct Client {
    connection: Connection,
    log: PathBuf,
}

impl Client {
    pub(super) fn connect(url: &str, log: PathBuf) -> Self {
        let client = redis::Client::open(url).expect("a valid URL");
        let connection = client
            .get_connection()
            .unwrap_or_else(|error| panic!("{url}: {error}\n{}", log_tail(&log)));
        Self { connection, log }
    }

    /// Marks the connection as a connection between servers, on servers that distinguish these from
    /// connections of users.
    pub(crate) fn acting_as_a_server(mut self) -> Self {
        let _ = self.reply(&[b"DEBUG", b"MARK-INTERNAL-CLIENT"]);
        self
    }

    /// Returns the reply to a command written as text: words separated by spaces.
    pub(crate) fn call<T: FromRedisValue>(&mut self, line: &str) -> T {
        self.send(&words(line))
    }

    /// Returns the replies to these commands, sent at once.
    pub(crate) fn calls<T: FromRedisValue>(&mut self, lines: &[String]) -> Vec<T> {
        let mut pipeline = redis::pipe();
        for line in lines {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            pipeline.cmd(name).arg(rest.split_whitespace().collect::<Vec<_>>());
        }
        let replies = pipeline.query(&mut self.connection);
        replies.unwrap_or_else(|error| panic!("{error}\n{}", log_tail(&self.log)))
    }

    /// Returns the five integers that answer RATELIMIT.TB, SW and PEEK.
    pub(crate) fn decide(&mut self, line: &str) -> [i64; 5] {
        self.call(line)
    }

    /// Returns the value of one line of the server's INFO.
    pub(crate) fn info(&mut self, section: &str, field: &str) -> String {
        let text: String = self.call(&format!("INFO {section}"));
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("INFO {section} has no {field}:\n{text}")).to_owned()
    }

    /// Returns the number of bytes that the server has allocated.
    pub(crate) fn used_memory(&mut self) -> u64 {
        self.info("memory", "used_memory").parse().expect("a number of bytes")
    }

    /// Returns the exact text of the error that answers a command which must fail.
    pub(crate) fn refusal(&mut self, line: &str) -> String {
        self.refusal_of(&words(line))
    }

    /// Returns the reply to a command whose arguments may hold any bytes.
    pub(crate) fn send<T: FromRedisValue>(&mut self, arguments: &[&[u8]]) -> T {
        let reply = match self.reply(arguments) {
            Ok(reply) => reply,
            Err(error) => self.explain(arguments, &error_text(&error)),
        };
        match T::from_redis_value_ref(&reply) {
            Ok(value) => value,
            Err(_) => self.explain(arguments, &format!("{reply:?}")),
        }
    }

    /// Returns the exact text of the error that answers a command whose arguments may hold any
    /// bytes.
    pub(crate) fn refusal_of(&mut self, arguments: &[&[u8]]) -> String {
        match self.reply(arguments) {
            Ok(reply) => self.explain(arguments, &format!("{reply:?}, not an error")),
            Err(error) if error.code().is_none() => self.explain(arguments, &error_text(&error)),
            Err(error) => error_text(&error),
        }
    }

    /// Returns the reply or the error that answers a command written as text.
    pub(crate) fn try_call(&mut self, line: &str) -> Result<Value, RedisError> {
        self.reply(&words(line))
    }

    /// Returns the reply or the error that answers a command.
    pub(crate) fn reply(&mut self, arguments: &[&[u8]]) -> Result<Value, RedisError> {
        let (name, rest) = arguments.split_first().expect("a command");
        let mut command = redis::Cmd::new();
        command.arg(*name);
        for argument in rest {
            command.arg(*argument);
        }
        command.query(&mut self.connection)
    }

    fn explain(&self, arguments: &[&[u8]], reply: &str) -> ! {
        let command: Vec<String> =
            arguments.iter().map(|argument| argument.escape_ascii().to_string()).collect();
        panic!("{}\nanswered {reply}\n{}", command.join(" "), log_tail(&self.log));
    }
}

fn words(line: &str) -> Vec<&[u8]> {
    line.split_whitespace().map(str::as_bytes).collect()
}

/// Returns the error as the server sent it: the client splits the first word off as a code.
fn error_text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => error.to_string(),
    }
}
