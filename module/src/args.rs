//! Text to validated limits and requests, and every message to a client about its arguments.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::ops::Range;

use limiter::{Algorithm, Limit, Mode, Request, Units, Window};

use crate::config;
use crate::error::Error;
use crate::ffi::call::Call;

const LIMIT: &CStr = c"ERR limit must be an integer between 1 and 1000000000";
const WINDOW: &CStr = c"ERR window must be a number of seconds between 0.001 and 31622400 \
                        with at most three decimals";
const CAPACITY: &CStr = c"ERR capacity must be an integer between 1 and 1000000000";
const COST: &CStr = c"ERR cost must be an integer between 1 and 1000000000";
const NUMKEYS: &CStr =
    c"ERR numkeys must be an integer of at least 1 and followed by that many keys";
const LIMITS: &CStr = c"ERR limits must be as many as keys";
const AMOUNT: &CStr = c"ERR amount must be an integer between 1 and 1000000000";
const COUNT: &CStr = c"ERR count must be an integer between 1 and 10000";

/// How many keys are listed unless a call says it.
const DEFAULT_COUNT: u32 = 10;

/// The place of a limit in a command, which decides the options that may follow it. COST always may;
/// BURST may if the algorithm takes a capacity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// At the end of a call that takes units, where PARTIAL may follow.
    Take,
    /// At the end of a call that takes nothing.
    Peek,
    /// In a list, where another limit may follow.
    List,
}

impl Syntax {
    /// Returns the message about a word that is none of the options.
    const fn rule(self, algorithm: Algorithm) -> &'static CStr {
        match (algorithm.facts().takes_capacity, self) {
            (true, Self::Take) => c"ERR options must be BURST capacity, COST cost or PARTIAL",
            (false, Self::Take) => c"ERR options must be COST cost or PARTIAL",
            (true, _) => c"ERR options must be BURST capacity or COST cost",
            (false, _) => c"ERR options must be COST cost",
        }
    }
}

/// The algorithm and the limit of one key, and the request to it.
pub(crate) struct KeyRequest {
    pub(crate) algorithm: Algorithm,
    pub(crate) limit: Limit,
    pub(crate) request: Request,
}

/// The arguments of a call, read from left to right.
pub(crate) struct Args<'a> {
    call: &'a Call<'a>,
    next: usize,
}

impl<'a> Args<'a> {
    /// The arguments behind the command's name.
    pub(crate) fn after_name(call: &'a Call<'a>) -> Self {
        Self { call, next: 1 }
    }

    /// The arguments behind the command's name and its one key.
    pub(crate) fn after_key(call: &'a Call<'a>) -> Self {
        Self { call, next: 2 }
    }

    /// Reads `algorithm limit window [options]`, up to the end.
    pub(crate) fn request(&mut self) -> Result<KeyRequest, Error> {
        self.request_with(Syntax::Peek)
    }

    /// Reads as many requests as there are keys, up to the end.
    pub(crate) fn requests(&mut self, keys: usize) -> Result<Vec<KeyRequest>, Error> {
        let requests = (0..keys).map(|_| {
            if self.is_at_end() {
                return Err(Error::argument(LIMITS));
            }
            self.request_with(Syntax::List)
        });
        let requests = requests.collect::<Result<_, _>>()?;
        if self.is_at_end() { Ok(requests) } else { Err(Error::argument(LIMITS)) }
    }

    /// `numkeys key [key ...]`: where the keys stand. Each may be given once.
    pub(crate) fn keys(&mut self) -> Result<Range<usize>, Error> {
        let count = integer(self.next()?).and_then(|count| usize::try_from(count).ok());
        let first = self.next;
        let end = count.filter(|&count| count > 0).and_then(|count| first.checked_add(count));
        let end = end.filter(|&end| end <= self.call.len()).ok_or(Error::argument(NUMKEYS))?;
        let mut keys: Vec<_> = (first..end).map(|index| self.call.arg(index)).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| matches!(pair, [key, next] if key == next)) {
            return Err(Error::argument(c"ERR key may be given only once"));
        }
        self.next = end;
        Ok(first..end)
    }

    /// Reads `limit window [options]` of an algorithm.
    #[inline(always)]
    pub(crate) fn limit(
        &mut self,
        algorithm: Algorithm,
        syntax: Syntax,
    ) -> Result<(Limit, Request), Error> {
        let limit = if algorithm.facts().has_bounded_limit {
            self.bounded_limit()?
        } else {
            self.units(LIMIT)?
        };
        let window = self.window()?;
        let options = self.options(algorithm, syntax)?;
        let capacity = options.capacity.unwrap_or(limit);
        Ok((Limit { limit, window, capacity }, options.request()))
    }

    /// An amount to give back.
    pub(crate) fn amount(&mut self) -> Result<Units, Error> {
        self.units(AMOUNT)
    }

    /// `[COUNT count]`, up to the end: how many keys to list.
    pub(crate) fn count(&mut self) -> Result<usize, Error> {
        let mut count = None;
        while !self.is_at_end() {
            if !self.next()?.eq_ignore_ascii_case(b"COUNT") {
                return Err(Error::argument(c"ERR options must be COUNT count"));
            }
            self.option(&mut count, &COUNT_OPTION)?;
        }
        match count.map_or(DEFAULT_COUNT, Units::get) {
            count if count <= config::MAX_TOP_KEYS => Ok(count as usize),
            _ => Err(Error::argument(COUNT)),
        }
    }

    fn request_with(&mut self, syntax: Syntax) -> Result<KeyRequest, Error> {
        let algorithm = Algorithm::from_word(self.next()?).ok_or_else(unknown_algorithm)?;
        let (limit, request) = self.limit(algorithm, syntax)?;
        Ok(KeyRequest { algorithm, limit, request })
    }

    /// The next argument, which must be there.
    fn next(&mut self) -> Result<&'a [u8], Error> {
        let arg = self.call.arg(self.next).ok_or(Error::WrongArity)?;
        self.next += 1;
        Ok(arg)
    }

    fn is_at_end(&self) -> bool {
        self.next >= self.call.len()
    }

    /// Reads a limit that is bounded by a setting.
    #[inline(always)]
    fn bounded_limit(&mut self) -> Result<Units, Error> {
        let max = config::sliding_window_max_limit();
        let limit = units(self.next()?).filter(|&limit| limit <= max);
        limit.ok_or_else(|| limit_up_to(max))
    }

    fn units(&mut self, rule: &'static CStr) -> Result<Units, Error> {
        units(self.next()?).ok_or(Error::argument(rule))
    }

    #[inline(always)]
    fn window(&mut self) -> Result<Window, Error> {
        window(self.next()?).ok_or(Error::argument(WINDOW))
    }

    #[inline(always)]
    fn options(&mut self, algorithm: Algorithm, syntax: Syntax) -> Result<Options, Error> {
        if self.is_at_end() {
            return Ok(Options::default());
        }
        self.given_options(algorithm, syntax)
    }

    fn given_options(&mut self, algorithm: Algorithm, syntax: Syntax) -> Result<Options, Error> {
        let takes_capacity = algorithm.facts().takes_capacity;
        let mut options = Options::default();
        while let Some(word) = self.call.arg(self.next) {
            if syntax == Syntax::List && Algorithm::from_word(word).is_some() {
                break;
            }
            self.next += 1;
            if word.eq_ignore_ascii_case(b"COST") {
                self.option(&mut options.cost, &COST_OPTION)?;
            } else if word.eq_ignore_ascii_case(b"BURST") && takes_capacity {
                self.option(&mut options.capacity, &BURST_OPTION)?;
            } else if word.eq_ignore_ascii_case(b"PARTIAL") && syntax == Syntax::Take {
                if options.mode == Mode::Partial {
                    return Err(Error::argument(c"ERR PARTIAL may be given only once"));
                }
                options.mode = Mode::Partial;
            } else {
                return Err(Error::argument(syntax.rule(algorithm)));
            }
        }
        Ok(options)
    }

    fn option(&mut self, value: &mut Option<Units>, messages: &Messages) -> Result<(), Error> {
        if value.is_some() {
            return Err(Error::argument(messages.once));
        }
        if self.is_at_end() {
            return Err(Error::argument(messages.followed));
        }
        *value = Some(self.units(messages.rule)?);
        Ok(())
    }
}

/// The options that a call gave.
#[derive(Default)]
struct Options {
    capacity: Option<Units>,
    cost: Option<Units>,
    mode: Mode,
}

impl Options {
    fn request(&self) -> Request {
        Request { cost: self.cost.unwrap_or(Units::MIN), mode: self.mode }
    }
}

/// What can be wrong with an option that has a value.
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
const COUNT_OPTION: Messages = Messages {
    once: c"ERR COUNT may be given only once",
    followed: c"ERR COUNT must be followed by a count",
    rule: COUNT,
};

/// The error of a word that names no algorithm.
fn unknown_algorithm() -> Error {
    let words = Algorithm::ALL.map(Algorithm::word).join(" or ");
    let rule = format!("ERR algorithm must be {words}");
    Error::Argument(CString::new(rule).map_or(Cow::Borrowed(c"ERR algorithm"), Cow::Owned))
}

/// The error of a limit that is bounded by a setting.
fn limit_up_to(max: Units) -> Error {
    let rule = format!("ERR limit must be an integer between 1 and {}", max.get());
    Error::Argument(CString::new(rule).map_or(Cow::Borrowed(LIMIT), Cow::Owned))
}

/// A number of units, if it is within its bounds.
fn units(text: &[u8]) -> Option<Units> {
    Units::new(integer(text)?)
}

/// An integer as the server itself reads them: digits without sign, space or leading zeros.
pub(crate) fn integer(text: &[u8]) -> Option<u64> {
    match *text {
        [] | [b'0', _, ..] => None,
        _ => digits(text),
    }
}

/// A number of seconds with up to three decimals.
#[inline(always)]
fn window(text: &[u8]) -> Option<Window> {
    let millis = match integer(text) {
        Some(seconds) => seconds.checked_mul(1_000)?,
        None => decimal_millis(text)?,
    };
    Window::from_millis(millis)
}

/// The milliseconds of a number of seconds with one to three decimals.
fn decimal_millis(text: &[u8]) -> Option<u64> {
    let point = text.iter().position(|&byte| byte == b'.')?;
    let decimals = text.get(point + 1..)?;
    let scale = match decimals.len() {
        1 => 100,
        2 => 10,
        3 => 1,
        _ => return None,
    };
    let millis = integer(text.get(..point)?)?.checked_mul(1_000)?;
    millis.checked_add(digits(decimals)? * scale)
}

/// The value of digits alone, as many as surely fit.
fn digits(text: &[u8]) -> Option<u64> {
    /// 10^19 - 1 is the highest number of all nines below 2^64.
    const MAX_DIGITS: usize = 19;
    if text.len() > MAX_DIGITS {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = u64::from(*byte).wrapping_sub(u64::from(b'0'));
        (digit <= 9).then(|| value.wrapping_mul(10).wrapping_add(digit))
    })
}
