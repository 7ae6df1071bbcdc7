//! A test whether Redis serves a limit: the settings of the module can be stricter than the rules of
//! this service, and an older module lacks commands and options.

use limiter::Instant;

use super::{
    Redis,
    call_error::CallError,
    commands::{self, KeyedCommand},
};
use crate::{
    clock::system_time, key::limit_key, quota_rule::QuotaRule, redis_error::RedisErrorKind,
};

/// A part of Redis that limits need.
#[derive(Debug, Clone, Copy)]
pub enum LimitNeed<'n> {
    /// Decisions by a quota.
    Quota(&'n QuotaRule),
    /// Decisions about several limits at once.
    Several,
    /// Leases.
    Leases,
}

/// The reason why Redis does not serve a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unserved {
    /// Redis refuses the limit: a sentence with the rule, or with the command that is missing.
    Refused(String),
    /// Redis does not answer about limits now.
    Unanswered,
}

/// The key of all questions. No policy has this key, and no question writes it.
const KEY: &str = "policy:question:tb:{question}";

/// The answer to a question that is no success.
#[derive(Debug)]
enum Refusal {
    /// The server has no such command.
    UnknownCommand,
    /// An argument breaks this rule.
    Rule(String),
    /// This time of the server is outside the window of the quota.
    OutsideWindow(Instant),
    /// There is no answer about limits.
    Failure,
}

impl Redis {
    /// Returns an error if Redis does not serve a limit. Takes and writes nothing.
    pub(crate) async fn serve(&self, need: LimitNeed<'_>) -> Result<(), Unserved> {
        let key = &*limit_key(&self.key_prefix, KEY);
        match need {
            LimitNeed::Quota(rule) => {
                self.require(rule.algorithm().facts().command, &[key, "0", "1"]).await?;
                self.look(rule).await
            }
            LimitNeed::Several => {
                self.require("RATELIMIT.MULTI", &["1", key, "TB", "0", "1"]).await
            }
            LimitNeed::Leases => {
                self.require("RATELIMIT.ACQUIRE", &[key, "0", "1", "question"]).await
            }
        }
    }

    /// Returns an error unless the server has a command, which is sent with wrong arguments: a server
    /// looks for the command before it looks at arguments.
    async fn require(&self, name: &str, arguments: &[&str]) -> Result<(), Unserved> {
        let key = limit_key(&self.key_prefix, KEY);
        let mut command = redis::cmd(name);
        command.arg(arguments);
        match self.ask(KeyedCommand { key, command }).await {
            Ok(()) | Err(Refusal::Rule(_) | Refusal::OutsideWindow(_)) => Ok(()),
            Err(Refusal::UnknownCommand) => match self.ask(commands::probe(&self.key_prefix)).await
            {
                Ok(()) => {
                    let advice = RedisErrorKind::ModuleMissing.advice();
                    Err(Unserved::Refused(format!("Redis has no command {name}: {advice}")))
                }
                // Without the module Redis serves no limit at all, which is a failure of Redis.
                Err(_) => Err(Unserved::Unanswered),
            },
            Err(Refusal::Failure) => Err(Unserved::Unanswered),
        }
    }

    /// Looks at a quota, at the time of the server where the quota depends on the time.
    async fn look(&self, rule: &QuotaRule) -> Result<(), Unserved> {
        let mut now = system_time();
        for _ in 0..2 {
            let quota = rule.at(|| now).map_err(|_| Unserved::Unanswered)?.quota;
            let key = limit_key(&self.key_prefix, KEY);
            match self.ask(commands::look(key, &quota, 1)).await {
                Ok(()) => return Ok(()),
                Err(Refusal::OutsideWindow(time)) => now = time,
                Err(Refusal::Rule(rule)) => return Err(Unserved::Refused(rule)),
                Err(Refusal::UnknownCommand | Refusal::Failure) => break,
            }
        }
        Err(Unserved::Unanswered)
    }

    async fn ask(&self, question: KeyedCommand) -> Result<(), Refusal> {
        match self.connections.call(question).await {
            Ok(answer) => answer.map(drop).or_else(Refusal::of),
            Err(_) => Err(Refusal::Failure),
        }
    }
}

impl Refusal {
    /// Returns the meaning of an error, and reports a failure of Redis.
    fn of(error: CallError) -> Result<(), Self> {
        if let Some(time) = error.server_time() {
            return Err(Self::OutsideWindow(time));
        }
        if let CallError::Redis(error) = &error {
            match (error.code(), RedisErrorKind::from_error(error)) {
                (_, RedisErrorKind::ModuleMissing) => return Err(Self::UnknownCommand),
                // The module has read the key, which another program has written.
                (_, RedisErrorKind::WrongType) => return Ok(()),
                (Some("ERR"), _) => {
                    return Err(Self::Rule(error.detail().unwrap_or_default().to_owned()));
                }
                _ => {}
            }
        }
        // Counted and logged as that of any call.
        let _ = error.report();
        Err(Self::Failure)
    }
}
