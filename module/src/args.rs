//! Text to validated limits, and every message to a client about its arguments.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::ops::Range;

use limiter::{BucketLimit, Demand, Units, Window, WindowLimit};

use crate::config;
use crate::error::Error;
use crate::server::call::Call;

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

/// The options of one command. COST is always among them.
pub(crate) struct Syntax {
    burst: bool,
    partial: bool,
    /// Whether another limit may follow.
    repeated: bool,
    /// What a word that is none of them is answered.
    rule: &'static CStr,
}

impl Syntax {
    pub(crate) const TAKE_TOKEN_BUCKET: Self = Self {
        burst: true,
        partial: true,
        repeated: false,
        rule: c"ERR options must be BURST capacity, COST cost or PARTIAL",
    };
    pub(crate) const TAKE_SLIDING_WINDOW: Self = Self {
        burst: false,
        partial: true,
        repeated: false,
        rule: c"ERR options must be COST cost or PARTIAL",
    };
    const PEEK_TOKEN_BUCKET: Self = Self {
        burst: true,
        partial: false,
        repeated: false,
        rule: c"ERR options must be BURST capacity or COST cost",
    };
    const PEEK_SLIDING_WINDOW: Self = Self {
        burst: false,
        partial: false,
        repeated: false,
        rule: c"ERR options must be COST cost",
    };
    const MULTI_TOKEN_BUCKET: Self = Self { repeated: true, ..Self::PEEK_TOKEN_BUCKET };
    const MULTI_SLIDING_WINDOW: Self = Self { repeated: true, ..Self::PEEK_SLIDING_WINDOW };
}

/// The limit of one key and what is asked of it, where a call names the algorithm.
pub(crate) enum Limit {
    TokenBucket(BucketLimit, Demand),
    SlidingWindow(WindowLimit, Demand),
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

    /// `TB limit window [options]` or `SW limit window [options]`, up to the end.
    pub(crate) fn limit(&mut self) -> Result<Limit, Error> {
        self.limit_of_either(&Syntax::PEEK_TOKEN_BUCKET, &Syntax::PEEK_SLIDING_WINDOW)
    }

    /// As many limits as there are keys, up to the end.
    pub(crate) fn limits(&mut self, keys: usize) -> Result<Vec<Limit>, Error> {
        let limits = (0..keys).map(|_| {
            if self.is_at_end() {
                return Err(Error::argument(LIMITS));
            }
            self.limit_of_either(&Syntax::MULTI_TOKEN_BUCKET, &Syntax::MULTI_SLIDING_WINDOW)
        });
        let limits = limits.collect::<Result<_, _>>()?;
        if self.is_at_end() { Ok(limits) } else { Err(Error::argument(LIMITS)) }
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

    /// `limit window [options]` of a token bucket.
    #[inline(always)]
    pub(crate) fn bucket_limit(&mut self, syntax: &Syntax) -> Result<(BucketLimit, Demand), Error> {
        let limit = self.units(LIMIT)?;
        let window = self.window()?;
        let options = self.options(syntax)?;
        let capacity = options.capacity.unwrap_or(limit);
        Ok((BucketLimit { limit, window, capacity }, options.demand()))
    }

    /// `limit window [options]` of a sliding window log.
    #[inline(always)]
    pub(crate) fn window_limit(&mut self, syntax: &Syntax) -> Result<(WindowLimit, Demand), Error> {
        let limit = self.next()?;
        let max = config::sliding_window_max_limit();
        let limit = match units(limit) {
            Some(limit) if limit <= max => limit,
            _ => return Err(limit_up_to(max)),
        };
        let window = self.window()?;
        let options = self.options(syntax)?;
        Ok((WindowLimit { limit, window }, options.demand()))
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

    fn limit_of_either(&mut self, bucket: &Syntax, window: &Syntax) -> Result<Limit, Error> {
        match Algorithm::named(self.next()?) {
            Some(Algorithm::TokenBucket) => {
                let (limit, demand) = self.bucket_limit(bucket)?;
                Ok(Limit::TokenBucket(limit, demand))
            }
            Some(Algorithm::SlidingWindow) => {
                let (limit, demand) = self.window_limit(window)?;
                Ok(Limit::SlidingWindow(limit, demand))
            }
            None => Err(Error::argument(c"ERR algorithm must be TB or SW")),
        }
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

    fn units(&mut self, rule: &'static CStr) -> Result<Units, Error> {
        units(self.next()?).ok_or(Error::argument(rule))
    }

    #[inline(always)]
    fn window(&mut self) -> Result<Window, Error> {
        window(self.next()?).ok_or(Error::argument(WINDOW))
    }

    #[inline(always)]
    fn options(&mut self, syntax: &Syntax) -> Result<Options, Error> {
        if self.is_at_end() {
            return Ok(Options::default());
        }
        self.given_options(syntax)
    }

    fn given_options(&mut self, syntax: &Syntax) -> Result<Options, Error> {
        let mut options = Options::default();
        while let Some(word) = self.call.arg(self.next) {
            if syntax.repeated && Algorithm::named(word).is_some() {
                break;
            }
            self.next += 1;
            if word.eq_ignore_ascii_case(b"COST") {
                self.option(&mut options.cost, &COST_OPTION)?;
            } else if word.eq_ignore_ascii_case(b"BURST") && syntax.burst {
                self.option(&mut options.capacity, &BURST_OPTION)?;
            } else if word.eq_ignore_ascii_case(b"PARTIAL") && syntax.partial {
                if options.partial {
                    return Err(Error::argument(c"ERR PARTIAL may be given only once"));
                }
                options.partial = true;
            } else {
                return Err(Error::argument(syntax.rule));
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

/// An algorithm as calls name it.
enum Algorithm {
    TokenBucket,
    SlidingWindow,
}

impl Algorithm {
    fn named(word: &[u8]) -> Option<Self> {
        if word.eq_ignore_ascii_case(b"TB") {
            Some(Self::TokenBucket)
        } else if word.eq_ignore_ascii_case(b"SW") {
            Some(Self::SlidingWindow)
        } else {
            None
        }
    }
}

/// The options that a call gave.
#[derive(Default)]
struct Options {
    capacity: Option<Units>,
    cost: Option<Units>,
    partial: bool,
}

impl Options {
    fn demand(&self) -> Demand {
        Demand { cost: self.cost.unwrap_or(Units::MIN), partial: self.partial }
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

/// The rule for a limit that is bounded by a setting.
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
