//! Text to validated limits and requests, and every message to a client about its arguments.

pub(crate) mod leases;

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::ops::Range;

use limiter::{
    Algorithm, Anchor, Bounds, FixedLimit, Limit, LogLimit, LogOptions, Mode, Period, Quota,
    Request, Units, Window,
};

use crate::config;
use crate::ffi::call::Call;
use crate::ffi::error::Error;
use crate::ffi::key::KeyNames;
use crate::number;

const LIMIT: &CStr = c"ERR limit must be an integer between 1 and 1000000000";
const WINDOW: &CStr = c"ERR window must be a number of seconds between 0.001 and 31622400 \
                        with at most three decimals";
const WINDOW_OR_PERIOD: &CStr = c"ERR window must be a number of seconds between 0.001 and \
                                  31622400 with at most three decimals, DAY, WEEK, MONTH, YEAR, \
                                  or FROM unix-seconds UNTIL unix-seconds";
const FROM: &CStr = c"ERR FROM must be Unix seconds up to 281474976710.655 with at most three \
                      decimals";
const UNTIL: &CStr = c"ERR UNTIL must be Unix seconds up to 281474976710.655 with at most three \
                       decimals";
const BOUNDS: &CStr = c"ERR UNTIL must be between 0.001 and 31622400 seconds after FROM";
const RESOLUTION: &CStr = c"ERR resolution must be a number of seconds between 0.001 and the \
                            window with at most three decimals";
const ANCHOR: &CStr = c"ERR anchor must be an integer between 0 and 253402300799";
const CAPACITY: &CStr = c"ERR capacity must be an integer between 1 and 1000000000";
const COST: &CStr = c"ERR cost must be an integer between 1 and 1000000000";
const NUMKEYS: &CStr =
    c"ERR numkeys must be an integer of at least 1 and followed by that many keys";
const LIMITS: &CStr = c"ERR limits must be as many as keys";
const TTL: &CStr = c"ERR ttl must be a number of seconds between 0.001 and 31622400 with at most \
                     three decimals";
const ACTUAL_AMOUNT: &CStr = c"ERR amount must be an integer between 0 and 1000000000";
const AMOUNT: &CStr = c"ERR amount must be an integer between 1 and 1000000000";
const MAX_BURST: &CStr = c"ERR max_burst must be an integer between 0 and 999999999";
const COUNT_PER_PERIOD: &CStr = c"ERR count must be an integer between 1 and 1000000000";
const PERIOD: &CStr = c"ERR period must be an integer between 1 and 31622400";
const QUANTITY: &CStr = c"ERR quantity must be an integer between 0 and 1000000000";
const COUNT: &CStr = c"ERR count must be an integer between 1 and 10000";

/// The highest count of the option COUNT.
const MAX_COUNT: u32 = 10_000;
const _: () = assert!(MAX_COUNT == config::MAX_TOP_KEYS, "all keys that are counted can be listed");

/// The place of a limit in a command, which decides the options that may follow it. COST and the
/// option of the algorithm always may.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// At the end of a call that takes units, where PARTIAL or FORCE may follow.
    Take,
    /// At the end of a call that takes nothing.
    Peek,
    /// In a list, where another limit may follow.
    List,
}

/// The option that only one algorithm has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    Burst,
    Resolution,
    Anchor,
    /// None, for a window that is not a number of seconds.
    Nothing,
}

impl Own {
    /// Returns the message about a word that is none of the options.
    const fn rule(self, syntax: Syntax) -> &'static CStr {
        match (self, syntax) {
            (Self::Burst, Syntax::Take) => {
                c"ERR options must be BURST capacity, COST cost, and PARTIAL or FORCE"
            }
            (Self::Resolution, Syntax::Take) => {
                c"ERR options must be RESOLUTION seconds, COST cost, and PARTIAL or FORCE"
            }
            (Self::Anchor, Syntax::Take) => {
                c"ERR options must be ANCHOR unix-seconds, COST cost, and PARTIAL or FORCE"
            }
            (Self::Nothing, Syntax::Take) => c"ERR options must be COST cost, and PARTIAL or FORCE",
            (Self::Burst, _) => c"ERR options must be BURST capacity or COST cost",
            (Self::Resolution, _) => c"ERR options must be RESOLUTION seconds or COST cost",
            (Self::Anchor, _) => c"ERR options must be ANCHOR unix-seconds or COST cost",
            (Self::Nothing, _) => c"ERR options must be COST cost",
        }
    }
}

/// The limit of one key, and the request to it.
pub(crate) struct KeyRequest {
    pub(crate) quota: Quota,
    pub(crate) request: Request,
}

/// The arguments of a call, read from left to right.
pub(crate) struct Args<'c, 'a> {
    call: &'c Call<'a>,
    next: usize,
}

impl<'c, 'a> Args<'c, 'a> {
    /// Returns the arguments after the command's name.
    pub(crate) fn after_name(call: &'c Call<'a>) -> Self {
        Self { call, next: 1 }
    }

    /// Returns the arguments from the one with this number on.
    pub(crate) fn from(call: &'c Call<'a>, next: usize) -> Self {
        Self { call, next }
    }

    /// Returns the arguments after the command's name and its one key.
    pub(crate) fn after_key(call: &'c Call<'a>) -> Self {
        Self { call, next: 2 }
    }

    /// Reads `algorithm limit window [options]`, up to the end.
    pub(crate) fn request(&mut self) -> Result<KeyRequest, Error> {
        self.request_with(Syntax::Peek)
    }

    /// Reads one request for each key, up to the end.
    pub(crate) fn requests(&mut self, keys: usize) -> Result<Vec<KeyRequest>, Error> {
        let mut requests = Vec::with_capacity(keys);
        for _ in 0..keys {
            if self.is_at_end() {
                return Err(Error::argument(LIMITS));
            }
            requests.push(self.request_with(Syntax::List)?);
        }
        if self.is_at_end() { Ok(requests) } else { Err(Error::argument(LIMITS)) }
    }

    /// Reads `numkeys key [key ...]`. Each key may be given once.
    pub(crate) fn keys(&mut self) -> Result<KeyNames<'a>, Error> {
        let range = self.key_range()?;
        let names = self.call.key_names(range, None);
        names.ok_or(Error::argument(c"ERR key may be given only once"))
    }

    /// Reads `numkeys key [key ...]`. The key that another argument names is one of the names as
    /// well, and is none of these keys.
    pub(crate) fn keys_beside(&mut self, reservation: usize) -> Result<KeyNames<'a>, Error> {
        let range = self.keys()?.range();
        let names = self.call.key_names(range, Some(reservation));
        names.ok_or(Error::argument(c"ERR reservation must be none of the keys"))
    }

    fn key_range(&mut self) -> Result<Range<usize>, Error> {
        let count = number::integer(self.next()?).and_then(|count| usize::try_from(count).ok());
        let first = self.next;
        let end = count.filter(|&count| count > 0).and_then(|count| first.checked_add(count));
        let end = end.filter(|&end| end <= self.call.len()).ok_or(Error::argument(NUMKEYS))?;
        self.next = end;
        Ok(first..end)
    }

    /// Reads the time after which a lease or a reservation ends.
    #[inline(always)]
    pub(crate) fn ttl(&mut self) -> Result<Window, Error> {
        window(self.next()?).ok_or_else(|| Error::argument(TTL))
    }

    /// Reads `[ACTUAL amount [amount ...]]`, up to the end: one amount for each key, or none.
    pub(crate) fn actual_amounts(&mut self, keys: usize) -> Result<Option<Vec<u32>>, Error> {
        if self.is_at_end() {
            return Ok(None);
        }
        if !self.next()?.eq_ignore_ascii_case(b"ACTUAL") {
            return Err(Error::argument(c"ERR options must be ACTUAL amount [amount ...]"));
        }
        if self.call.len() - self.next != keys {
            return Err(Error::argument(c"ERR ACTUAL must be followed by as many amounts as keys"));
        }
        let amounts = (0..keys).map(|_| {
            let amount =
                number::integer(self.next()?).and_then(|amount| u32::try_from(amount).ok());
            let amount = amount.filter(|&amount| amount <= Units::MAX.get());
            amount.ok_or(Error::argument(ACTUAL_AMOUNT))
        });
        amounts.collect::<Result<_, _>>().map(Some)
    }

    /// Reads `limit window [options]` of a token bucket.
    #[inline(always)]
    pub(crate) fn token_bucket(&mut self, syntax: Syntax) -> Result<(Limit, Request), Error> {
        let (limit, window) = (self.units(LIMIT)?, self.window()?);
        let options = self.options(Own::Burst, syntax)?;
        let capacity = options.capacity.unwrap_or(limit);
        Ok((Limit { limit, window, capacity }, options.request()))
    }

    /// Reads `limit window [options]` of a sliding window log.
    #[inline(always)]
    pub(crate) fn sliding_window(&mut self, syntax: Syntax) -> Result<(LogLimit, Request), Error> {
        let max = config::sliding_window_max_limit()
            .ok_or(Error::Internal(c"ERR internal error: a setting has no value"))?;
        let (limit, window) = (self.units(LIMIT)?, self.window()?);
        let options = self.options(Own::Resolution, syntax)?;
        let resolution = options.resolution;
        if resolution.is_some_and(|resolution| resolution > window) {
            return Err(Error::argument(RESOLUTION));
        }
        let log_options = LogOptions { resolution, max_entries: max.get() };
        let log_limit = LogLimit { limit, window, options: log_options };
        if limit > max && log_limit.most_entries() > u64::from(max.get()) {
            return Err(limit_up_to(max));
        }
        Ok((log_limit, options.request()))
    }

    /// Reads `limit WINDOW [options]` of a fixed window.
    #[inline(always)]
    pub(crate) fn fixed_window(&mut self, syntax: Syntax) -> Result<(FixedLimit, Request), Error> {
        let (limit, word) = (self.units(LIMIT)?, self.next()?);
        match number::millis(word).and_then(Window::from_millis) {
            Some(window) => {
                let options = self.options(Own::Anchor, syntax)?;
                let period = Period::Length(window, options.anchor.unwrap_or(Anchor::MIN));
                Ok((FixedLimit { limit, period }, options.request()))
            }
            None => {
                let period = self.named_period(word)?;
                let options = self.options(Own::Nothing, syntax)?;
                Ok((FixedLimit { limit, period }, options.request()))
            }
        }
    }

    /// Reads the rest of a window that is not a number of seconds and begins with this word.
    fn named_period(&mut self, word: &[u8]) -> Result<Period, Error> {
        const CALENDAR: [(&[u8], Period); 4] = [
            (b"DAY", Period::Day),
            (b"WEEK", Period::Week),
            (b"MONTH", Period::Month),
            (b"YEAR", Period::Year),
        ];
        if word.eq_ignore_ascii_case(b"FROM") {
            return self.bounds();
        }
        let named = CALENDAR.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
        named.map(|(_, period)| period).ok_or(Error::argument(WINDOW_OR_PERIOD))
    }

    /// Reads `unix-seconds UNTIL unix-seconds`.
    fn bounds(&mut self) -> Result<Period, Error> {
        let begin = self.unix_millis(FROM)?;
        if !self.call.arg(self.next).is_some_and(|word| word.eq_ignore_ascii_case(b"UNTIL")) {
            return Err(Error::argument(c"ERR FROM must be followed by Unix seconds and UNTIL"));
        }
        self.next += 1;
        let end = self.unix_millis(UNTIL)?;
        Bounds::from_millis(begin, end).map(Period::Bounds).ok_or(Error::argument(BOUNDS))
    }

    fn unix_millis(&mut self, rule: &'static CStr) -> Result<u64, Error> {
        let millis = self.call.arg(self.next).and_then(number::millis);
        self.next += 1;
        millis.filter(|&millis| millis <= Bounds::MAX_MILLIS).ok_or(Error::argument(rule))
    }

    /// Reads `max_burst count period [quantity]`, up to the end: the limit of a bucket, and the
    /// units to take if there are any.
    pub(crate) fn throttle(&mut self) -> Result<(Limit, Option<Units>), Error> {
        let max_burst = number::integer(self.next()?).and_then(|burst| burst.checked_add(1));
        let capacity = max_burst.and_then(Units::new).ok_or(Error::argument(MAX_BURST))?;
        let (limit, period) = (self.units(COUNT_PER_PERIOD)?, number::integer(self.next()?));
        let millis = period.and_then(|seconds| seconds.checked_mul(1_000));
        let window = millis.and_then(Window::from_millis).ok_or(Error::argument(PERIOD))?;
        let quantity = if self.is_at_end() {
            Some(Units::MIN)
        } else {
            match number::integer(self.next()?) {
                Some(0) => None,
                units => Some(units.and_then(Units::new).ok_or(Error::argument(QUANTITY))?),
            }
        };
        if self.is_at_end() {
            Ok((Limit { limit, window, capacity }, quantity))
        } else {
            Err(Error::WrongArity)
        }
    }

    /// Reads an amount of units to give back.
    pub(crate) fn amount(&mut self) -> Result<Units, Error> {
        self.units(AMOUNT)
    }

    /// Reads `[COUNT count]`, up to the end: the number of elements to list, or this default.
    pub(crate) fn count(&mut self, default: u32) -> Result<usize, Error> {
        let mut count = None;
        while !self.is_at_end() {
            if !self.next()?.eq_ignore_ascii_case(b"COUNT") {
                return Err(Error::argument(c"ERR options must be COUNT count"));
            }
            self.option(&mut count, &COUNT_OPTION, units)?;
        }
        match count.map_or(default, Units::get) {
            count if count <= MAX_COUNT => Ok(count as usize),
            _ => Err(Error::argument(COUNT)),
        }
    }

    fn request_with(&mut self, syntax: Syntax) -> Result<KeyRequest, Error> {
        let algorithm = Algorithm::from_word(self.next()?).ok_or_else(unknown_algorithm)?;
        let (quota, request) = match algorithm {
            Algorithm::TokenBucket => {
                let (limit, request) = self.token_bucket(syntax)?;
                (Quota::TokenBucket(limit), request)
            }
            Algorithm::SlidingWindow => {
                let (limit, request) = self.sliding_window(syntax)?;
                (Quota::SlidingWindow(limit), request)
            }
            Algorithm::FixedWindow => {
                let (limit, request) = self.fixed_window(syntax)?;
                (Quota::FixedWindow(limit), request)
            }
        };
        Ok(KeyRequest { quota, request })
    }

    /// Returns the next argument, which must be there.
    #[inline(always)]
    fn next(&mut self) -> Result<&'a [u8], Error> {
        let arg = self.call.arg(self.next).ok_or(Error::WrongArity)?;
        self.next += 1;
        Ok(arg)
    }

    fn is_at_end(&self) -> bool {
        self.next >= self.call.len()
    }

    #[inline(always)]
    fn units(&mut self, rule: &'static CStr) -> Result<Units, Error> {
        units(self.next()?).ok_or_else(|| Error::argument(rule))
    }

    #[inline(always)]
    fn window(&mut self) -> Result<Window, Error> {
        window(self.next()?).ok_or_else(|| Error::argument(WINDOW))
    }

    #[inline(always)]
    fn options(&mut self, own: Own, syntax: Syntax) -> Result<Options, Error> {
        if self.is_at_end() {
            return Ok(Options::default());
        }
        self.present_options(own, syntax)
    }

    fn present_options(&mut self, own: Own, syntax: Syntax) -> Result<Options, Error> {
        let mut options = Options::default();
        while let Some(word) = self.call.arg(self.next) {
            if syntax == Syntax::List && Algorithm::from_word(word).is_some() {
                break;
            }
            self.next += 1;
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            if is(b"COST") {
                self.option(&mut options.cost, &COST_OPTION, units)?;
            } else if is(b"BURST") && own == Own::Burst {
                self.option(&mut options.capacity, &BURST_OPTION, units)?;
            } else if is(b"RESOLUTION") && own == Own::Resolution {
                self.option(&mut options.resolution, &RESOLUTION_OPTION, window)?;
            } else if is(b"ANCHOR") && own == Own::Anchor {
                self.option(&mut options.anchor, &ANCHOR_OPTION, anchor)?;
            } else if is(b"PARTIAL") && syntax == Syntax::Take {
                options.set_mode(Mode::Partial, c"ERR PARTIAL may be given only once")?;
            } else if is(b"FORCE") && syntax == Syntax::Take {
                options.set_mode(Mode::Force, c"ERR FORCE may be given only once")?;
            } else {
                return Err(Error::argument(own.rule(syntax)));
            }
        }
        Ok(options)
    }

    fn option<T>(
        &mut self,
        value: &mut Option<T>,
        messages: &Messages,
        parse: fn(&[u8]) -> Option<T>,
    ) -> Result<(), Error> {
        if value.is_some() {
            return Err(Error::argument(messages.once));
        }
        if self.is_at_end() {
            return Err(Error::argument(messages.followed));
        }
        *value = Some(parse(self.next()?).ok_or(Error::argument(messages.rule))?);
        Ok(())
    }
}

/// The options of a call.
#[derive(Default)]
struct Options {
    capacity: Option<Units>,
    resolution: Option<Window>,
    anchor: Option<Anchor>,
    cost: Option<Units>,
    mode: Mode,
}

impl Options {
    fn request(&self) -> Request {
        Request { cost: self.cost.unwrap_or(Units::MIN), mode: self.mode }
    }

    fn set_mode(&mut self, mode: Mode, once: &'static CStr) -> Result<(), Error> {
        if self.mode == mode {
            return Err(Error::argument(once));
        }
        if self.mode != Mode::All {
            return Err(Error::argument(c"ERR PARTIAL must not be given with FORCE"));
        }
        self.mode = mode;
        Ok(())
    }
}

/// The messages about an option that has a value.
struct Messages {
    once: &'static CStr,
    followed: &'static CStr,
    rule: &'static CStr,
}

const COST_OPTION: Messages = Messages {
    once: c"ERR COST may be given only once",
    followed: c"ERR COST must be followed by a cost",
    rule: COST,
};
const BURST_OPTION: Messages = Messages {
    once: c"ERR BURST may be given only once",
    followed: c"ERR BURST must be followed by a capacity",
    rule: CAPACITY,
};
const RESOLUTION_OPTION: Messages = Messages {
    once: c"ERR RESOLUTION may be given only once",
    followed: c"ERR RESOLUTION must be followed by a number of seconds",
    rule: RESOLUTION,
};
const ANCHOR_OPTION: Messages = Messages {
    once: c"ERR ANCHOR may be given only once",
    followed: c"ERR ANCHOR must be followed by Unix seconds",
    rule: ANCHOR,
};
const COUNT_OPTION: Messages = Messages {
    once: c"ERR COUNT may be given only once",
    followed: c"ERR COUNT must be followed by a count",
    rule: COUNT,
};

/// Returns the error of a word that names no algorithm.
fn unknown_algorithm() -> Error {
    let words = Algorithm::ALL.map(Algorithm::word);
    let [others @ .., last] = &words;
    let rule = format!("ERR algorithm must be {} or {last}", others.join(", "));
    Error::Argument(CString::new(rule).map_or(Cow::Borrowed(c"ERR algorithm"), Cow::Owned))
}

/// Returns the error of a log that may have more entries than a setting allows.
#[cold]
fn limit_up_to(max: Units) -> Error {
    let rule =
        format!("ERR limit must be an integer between 1 and {} with this resolution", max.get());
    Error::Argument(CString::new(rule).map_or(Cow::Borrowed(LIMIT), Cow::Owned))
}

/// Reads a number of units, if it is within its bounds.
fn units(text: &[u8]) -> Option<Units> {
    Units::new(number::integer(text)?)
}

/// Reads a number of seconds, if it is within the bounds of a window.
#[inline(always)]
fn window(text: &[u8]) -> Option<Window> {
    number::millis(text).and_then(Window::from_millis)
}

/// Reads the anchor of windows, if it is within its bounds.
fn anchor(text: &[u8]) -> Option<Anchor> {
    Anchor::from_secs(number::integer(text)?)
}
