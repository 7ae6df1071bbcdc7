//! The RATELIMIT commands that the store sends.

use limiter::{Algorithm, Anchor, FixedLimit, Limit, LogLimit, Period, Quota};
use redis::Cmd;

use crate::{
    check::{Check, Refund},
    key::key,
    millis::Millis,
};

/// A command and its one key, which selects the node of a cluster.
#[derive(Debug)]
pub(super) struct KeyedCommand {
    pub(super) key: String,
    pub(super) command: Cmd,
}

/// Returns the command that takes the cost of a check, or looks when the cost is 0.
/// `quota` is that of the check now.
pub(super) fn check(key_prefix: &str, check: &Check, quota: &Quota) -> KeyedCommand {
    let Check { identifier, cost, force, .. } = check;
    let key = key(key_prefix, quota.algorithm(), identifier);
    if *cost == 0 { look(key, quota, 1) } else { take(key, quota, *cost, *force) }
}

/// Returns the command that looks whether one unit could be taken.
pub(super) fn peek(key_prefix: &str, identifier: &str, quota: &Quota) -> KeyedCommand {
    look(key(key_prefix, quota.algorithm(), identifier), quota, 1)
}

/// Returns the command that takes a cost of at least one unit.
pub(super) fn take(key: String, quota: &Quota, cost: u32, force: bool) -> KeyedCommand {
    let mut command = redis::cmd(quota.algorithm().facts().command);
    command.arg(&key);
    append_quota(&mut command, quota);
    append_cost(&mut command, cost);
    if force {
        command.arg("FORCE");
    }
    KeyedCommand { key, command }
}

/// Returns the command that looks whether a cost could be taken.
pub(super) fn look(key: String, quota: &Quota, cost: u32) -> KeyedCommand {
    let mut command = redis::cmd("RATELIMIT.PEEK");
    command.arg(&key).arg(quota.algorithm().word());
    append_quota(&mut command, quota);
    append_cost(&mut command, cost);
    KeyedCommand { key, command }
}

/// Returns the command that gives units back.
pub(super) fn refund(key_prefix: &str, refund: &Refund) -> KeyedCommand {
    give_back(key(key_prefix, refund.algorithm, &refund.identifier), refund.amount.get())
}

/// Returns the command that gives units of a key back.
pub(super) fn give_back(key: String, amount: u32) -> KeyedCommand {
    let mut command = redis::cmd("RATELIMIT.REFUND");
    command.arg(&key).arg(amount);
    KeyedCommand { key, command }
}

/// Returns the command that deletes a key.
pub(super) fn reset(key: String) -> KeyedCommand {
    let mut command = redis::cmd("RATELIMIT.RESET");
    command.arg(&key);
    KeyedCommand { key, command }
}

/// Commands take one unit by default.
pub(super) fn append_cost(command: &mut Cmd, cost: u32) {
    if cost > 1 {
        command.arg("COST").arg(cost);
    }
}

/// Returns a call that changes nothing and needs the same rights as decisions. Its key is that of an
/// empty identifier, which no client can send and which the rights to all keys of clients include.
pub(super) fn probe(key_prefix: &str) -> KeyedCommand {
    let key = key(key_prefix, Algorithm::TokenBucket, "");
    let mut command = redis::cmd("RATELIMIT.PEEK");
    command.arg(&key).arg("TB").arg(1).arg(1);
    KeyedCommand { key, command }
}

pub(super) fn append_quota(command: &mut Cmd, quota: &Quota) {
    command.arg(quota.limit().get());
    match *quota {
        Quota::TokenBucket(Limit { limit, window, capacity }) => {
            append_seconds(command, window.as_millis());
            // The capacity is the limit by default.
            if capacity != limit {
                command.arg("BURST").arg(capacity.get());
            }
        }
        Quota::SlidingWindow(LogLimit { window, options, .. }) => {
            append_seconds(command, window.as_millis());
            if let Some(resolution) = options.resolution {
                command.arg("RESOLUTION");
                append_seconds(command, resolution.as_millis());
            }
        }
        Quota::FixedWindow(FixedLimit { period, .. }) => append_period(command, period),
    }
}

fn append_period(command: &mut Cmd, period: Period) {
    match period {
        Period::Length(window, anchor) => {
            append_seconds(command, window.as_millis());
            // Windows are counted from the epoch by default.
            if anchor != Anchor::MIN {
                command.arg("ANCHOR").arg(anchor.as_secs());
            }
        }
        Period::Day => {
            command.arg("DAY");
        }
        Period::Week => {
            command.arg("WEEK");
        }
        Period::Month => {
            command.arg("MONTH");
        }
        Period::Year => {
            command.arg("YEAR");
        }
        Period::Bounds(bounds) => {
            command.arg("FROM");
            append_seconds(command, bounds.begin_millis());
            command.arg("UNTIL");
            append_seconds(command, bounds.end_millis());
        }
    }
}

fn append_seconds(command: &mut Cmd, millis: u64) {
    // Most times are whole seconds, which need no text of their own.
    if millis.is_multiple_of(1_000) {
        command.arg(millis / 1_000);
    } else {
        command.arg(Millis(millis).to_string());
    }
}

/// Returns the words of a command.
#[cfg(test)]
pub(super) fn words(command: &KeyedCommand) -> String {
    let words = command.command.args_iter().map(|argument| match argument {
        redis::Arg::Simple(word) => String::from_utf8_lossy(word).into_owned(),
        _ => unreachable!("all arguments are words"),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use limiter::{
        Algorithm, Bounds, FixedLimit, LogLimit, LogOptions, Period, Quota, Units, Window,
    };

    use super::{check, peek, words};
    use crate::check::{Check, bucket, quota};

    #[test]
    fn a_check_is_one_command_without_options_that_are_the_default() {
        let of = |algorithm| quota(algorithm, 100, 1_500);
        let (plain, log) = (of(Algorithm::TokenBucket), of(Algorithm::SlidingWindow));
        let (burst, fixed) = (bucket(100, 1_500, 7), of(Algorithm::FixedWindow));
        let log_limit = LogLimit::new(Units::MIN, Window::from_millis(60_000).unwrap());
        let options = LogOptions { resolution: Window::from_millis(500), ..LogOptions::USUAL };
        let coarse = Quota::SlidingWindow(LogLimit { options, ..log_limit });
        let windows = |period| Quota::FixedWindow(FixedLimit { limit: Units::MIN, period });
        let bounds = Bounds::from_millis(1_799_967_600_000, 1_800_054_000_500).unwrap();
        let (month, bounds) = (windows(Period::Month), windows(Period::Bounds(bounds)));
        for (quota, cost, expected) in [
            (&coarse, 1, "RATELIMIT.SW p:sliding_window:{user} 1 60 RESOLUTION 0.5"),
            (&month, 1, "RATELIMIT.FW p:fixed_window:{user} 1 MONTH"),
            (
                &bounds,
                0,
                "RATELIMIT.PEEK p:fixed_window:{user} FW 1 FROM 1799967600 UNTIL 1800054000.5",
            ),
            (&plain, 1, "RATELIMIT.TB p:token_bucket:{user} 100 1.5"),
            (&plain, 2, "RATELIMIT.TB p:token_bucket:{user} 100 1.5 COST 2"),
            (&burst, 1, "RATELIMIT.TB p:token_bucket:{user} 100 1.5 BURST 7"),
            (&burst, 7, "RATELIMIT.TB p:token_bucket:{user} 100 1.5 BURST 7 COST 7"),
            (&log, 1, "RATELIMIT.SW p:sliding_window:{user} 100 1.5"),
            (&log, 0, "RATELIMIT.PEEK p:sliding_window:{user} SW 100 1.5"),
            (&fixed, 1, "RATELIMIT.FW p:fixed_window:{user} 100 1.5"),
        ] {
            let check_of =
                Check { identifier: "user".to_owned(), quota: (*quota).into(), cost, force: false };
            let command = check("p:", &check_of, quota);
            assert_eq!(words(&command), expected);
            assert!(expected.contains(&command.key));
            if cost > 0 {
                let command = check("p:", &Check { force: true, ..check_of }, quota);
                assert_eq!(words(&command), format!("{expected} FORCE"));
            }
        }
        assert_eq!(
            words(&peek("", "user", &log)),
            "RATELIMIT.PEEK sliding_window:{user} SW 100 1.5"
        );
    }
}
