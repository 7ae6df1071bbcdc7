//! Calls whose quotas depend on the time, such as those of the calendar.
//!
//! A call is sent with the quotas of now. A server whose time is outside the window of a quota does
//! nothing and answers its time, and the call is sent once more with the quotas of that time.

use limiter::Instant;
use redis::Value;

use super::{call_error::CallError, commands::KeyedCommand, connections::Connections};
use crate::{
    clock::system_time,
    error::StoreError,
    redis_error::{RedisErrorKind, missing_answer},
};

/// A call whose quotas depend on the time.
pub(super) trait DatedCall: Sync {
    /// The quotas at one time.
    type Quotas: Send;
    /// The answer to the caller of the store.
    type Answer: Send;

    /// Returns the quotas at the time of a clock, which only quotas of the calendar read.
    fn quotas(&self, now: impl Fn() -> Instant) -> Result<Self::Quotas, StoreError>;

    /// Returns the command with these quotas.
    fn command(&self, key_prefix: &str, quotas: &Self::Quotas) -> KeyedCommand;

    /// Reads the reply to the command.
    fn answer(&self, reply: Value, quotas: &Self::Quotas) -> Result<Self::Answer, StoreError>;
}

/// The reason why a call of a pipeline has no answer.
#[derive(Debug, Clone)]
enum Failure {
    /// The time of the server, which is outside the window of a quota.
    Outside(Instant),
    /// The error of the call, which is not reported yet.
    Call(CallError),
    Undecided(StoreError),
}

/// Sends a call.
pub(super) async fn send<C: DatedCall>(
    connections: &Connections,
    key_prefix: &str,
    call: &C,
) -> Result<C::Answer, StoreError> {
    let quotas = call.quotas(system_time)?;
    match connections.call(call.command(key_prefix, &quotas)).await? {
        Ok(reply) => call.answer(reply, &quotas),
        Err(error) => match error.server_time() {
            Some(time) => {
                let quotas = call.quotas(|| time)?;
                let command = call.command(key_prefix, &quotas);
                // Only a call around the end of a window is sent again.
                call.answer(Box::pin(connections.send(command)).await?, &quotas)
            }
            None => Err(error.report()),
        },
    }
}

/// Sends calls, each as if alone, in one pipeline to each server. Answers in their order.
pub(super) async fn send_all<C: DatedCall>(
    connections: &Connections,
    key_prefix: &str,
    calls: &[C],
) -> Vec<Result<C::Answer, StoreError>> {
    if calls.is_empty() {
        return Vec::new();
    }
    let dated = calls.iter().map(|call| (call, call.quotas(system_time)));
    let mut answers = send_at(connections, key_prefix, dated.collect()).await;
    let is_outside = |(place, answer): (usize, &Result<_, Failure>)| match answer {
        Err(Failure::Outside(time)) => Some((place, *time)),
        _ => None,
    };
    let outside: Vec<_> = answers.iter().enumerate().filter_map(is_outside).collect();
    if !outside.is_empty() {
        let again = outside.iter().map(|(place, time)| {
            let call = &calls[*place];
            (call, call.quotas(|| *time))
        });
        let again = send_at(connections, key_prefix, again.collect()).await;
        for ((place, _), answer) in outside.into_iter().zip(again) {
            answers[place] = answer;
        }
    }
    answers.into_iter().map(|answer| answer.map_err(Failure::report)).collect()
}

/// Sends each call with its quotas, all in one pipeline, and answers in their order.
async fn send_at<C: DatedCall>(
    connections: &Connections,
    key_prefix: &str,
    calls: Vec<(&C, Result<C::Quotas, StoreError>)>,
) -> Vec<Result<C::Answer, Failure>> {
    let commands = calls.iter().filter_map(|(call, quotas)| {
        let quotas = quotas.as_ref().ok()?;
        Some(call.command(key_prefix, quotas))
    });
    let mut replies = match connections.call_all(commands.collect()).await {
        Ok(replies) => replies.into_iter(),
        Err(error) => {
            let failure = |_| Err(Failure::Undecided(error.clone()));
            return calls.iter().map(failure).collect();
        }
    };
    let answer = |(call, quotas): (&C, Result<C::Quotas, StoreError>)| {
        let quotas = quotas?;
        let reply = replies.next().ok_or_else(missing_answer)?;
        Ok(call.answer(reply?, &quotas)?)
    };
    calls.into_iter().map(answer).collect()
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        error.server_time().map_or(Self::Call(error), Self::Outside)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Undecided(error)
    }
}

impl Failure {
    fn report(self) -> StoreError {
        match self {
            // The clock of the server has moved on once more.
            Self::Outside(_) => RedisErrorKind::Unexpected.report(),
            Self::Call(error) => error.report(),
            Self::Undecided(error) => error,
        }
    }
}
