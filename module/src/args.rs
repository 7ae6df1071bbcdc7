//! Text to validated limits and requests, and every message to a client about its arguments.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

use limiter::{Algorithm, Limit, Mode, Request, Units, Window};

use crate::config;
use crate::ffi::call::Call;
use crate::ffi::error::Error;
use crate::ffi::key::KeyNames;
use crate::number;

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

/// The number of keys that are listed without the option COUNT.
const DEFAULT_COUNT: u32 = 10;

/// The place of a limit in a command, which decides the options that may follow it. COST always
/// may; BURST may if the algorithm takes a capacity.
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
pub(crate) struct Args<'c, 'a> {
    call: &'c Call<'a>,
    next: usize,
}

impl<'c, 'a> Args<'c, 'a> {
    /// Returns the arguments after the command's name.
    pub(crate) fn after_name(call: &'c Call<'a>) -> Self {
        Self { call, next: 1 }
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
        let requests = (0..keys).map(|_| {
            if self.is_at_end() {
                return Err(Error::argument(LIMITS));
            }
            self.request_with(Syntax::List)
        });
        let requests = requests.collect::<Result<_, _>>()?;
        if self.is_at_end() { Ok(requests) } else { Err(Error::argument(LIMITS)) }
    }

    /// Reads `numkeys key [key ...]`. Each key may be given once.
    pub(crate) fn keys(&mut self) -> Result<KeyNames<'a>, Error> {
        let count = number::integer(self.next()?).and_then(|count| usize::try_from(count).ok());
        let first = self.next;
        let end = count.filter(|&count| count > 0).and_then(|count| first.checked_add(count));
        let end = end.filter(|&end| end <= self.call.len()).ok_or(Error::argument(NUMKEYS))?;
        let names = self.call.key_names(first..end);
        self.next = end;
        names.ok_or(Error::argument(c"ERR key may be given only once"))
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

    /// Reads an amount of units to give back.
    pub(crate) fn amount(&mut self) -> Result<Units, Error> {
        self.units(AMOUNT)
    }

    /// Reads `[COUNT count]`, up to the end: the number of keys to list.
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

    /// Returns the next argument, which must be there.
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
        let max = config::sliding_window_max_limit()
            .ok_or(Error::Internal(c"ERR internal error: a setting has no value"))?;
        let limit = units(self.next()?).filter(|&limit| limit <= max);
        limit.ok_or_else(|| limit_up_to(max))
    }

    fn units(&mut self, rule: &'static CStr) -> Result<Units, Error> {
        units(self.next()?).ok_or(Error::argument(rule))
    }

    #[inline(always)]
    fn window(&mut self) -> Result<Window, Error> {
        let millis = number::millis(self.next()?);
        millis.and_then(Window::from_millis).ok_or(Error::argument(WINDOW))
    }

    #[inline(always)]
    fn options(&mut self, algorithm: Algorithm, syntax: Syntax) -> Result<Options, Error> {
        if self.is_at_end() {
            return Ok(Options::default());
        }
        self.present_options(algorithm, syntax)
    }

    fn present_options(&mut self, algorithm: Algorithm, syntax: Syntax) -> Result<Options, Error> {
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

/// The options of a call.
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
const COUNT_OPTION: Messages = Messages {
    once: c"ERR COUNT may be given only once",
    followed: c"ERR COUNT must be followed by a count",
    rule: COUNT,
};

/// Returns the error of a word that names no algorithm.
fn unknown_algorithm() -> Error {
    let words = Algorithm::ALL.map(Algorithm::word).join(" or ");
    let rule = format!("ERR algorithm must be {words}");
    Error::Argument(CString::new(rule).map_or(Cow::Borrowed(c"ERR algorithm"), Cow::Owned))
}

/// Returns the error of a limit that is bounded by a setting.
fn limit_up_to(max: Units) -> Error {
    let rule = format!("ERR limit must be an integer between 1 and {}", max.get());
    Error::Argument(CString::new(rule).map_or(Cow::Borrowed(LIMIT), Cow::Owned))
}

/// Reads a number of units, if it is within its bounds.
fn units(text: &[u8]) -> Option<Units> {
    Units::new(number::integer(text)?)
}
