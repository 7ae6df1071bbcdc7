//! Text to validated limits, and every message to a client about its arguments.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

use limiter::{BucketLimit, Demand, Units, Window, WindowLimit};

use crate::config;
use crate::error::Error;
use crate::server::call::Call;

const LIMIT: &CStr = c"ERR limit must be an integer between 1 and 1000000000";
const WINDOW: &CStr = c"ERR window must be a number of seconds between 0.001 and 31622400 \
                        with at most three decimals";
const CAPACITY: &CStr = c"ERR capacity must be an integer between 1 and 1000000000";
const COST: &CStr = c"ERR cost must be an integer between 1 and 1000000000";
const AMOUNT: &CStr = c"ERR amount must be an integer between 1 and 1000000000";

/// The options of one command. COST is always among them.
pub(crate) struct Syntax {
    burst: bool,
    partial: bool,
    /// What a word that is none of them is answered.
    rule: &'static CStr,
}

impl Syntax {
    pub(crate) const TAKE_TOKEN_BUCKET: Self = Self {
        burst: true,
        partial: true,
        rule: c"ERR options must be BURST capacity, COST cost or PARTIAL",
    };
    pub(crate) const TAKE_SLIDING_WINDOW: Self =
        Self { burst: false, partial: true, rule: c"ERR options must be COST cost or PARTIAL" };
    pub(crate) const PEEK_TOKEN_BUCKET: Self = Self {
        burst: true,
        partial: false,
        rule: c"ERR options must be BURST capacity or COST cost",
    };
    pub(crate) const PEEK_SLIDING_WINDOW: Self =
        Self { burst: false, partial: false, rule: c"ERR options must be COST cost" };
}

/// The arguments of a call, read from left to right.
pub(crate) struct Args<'a> {
    call: &'a Call<'a>,
    next: usize,
}

impl<'a> Args<'a> {
    /// The arguments behind the command's name and its one key.
    pub(crate) fn after_key(call: &'a Call<'a>) -> Self {
        Self { call, next: 2 }
    }

    /// `limit window [options]` of a token bucket, up to the end.
    pub(crate) fn bucket_limit(mut self, syntax: &Syntax) -> Result<(BucketLimit, Demand), Error> {
        let limit = self.units(LIMIT)?;
        let window = self.window()?;
        let options = self.options(syntax)?;
        let capacity = options.capacity.unwrap_or(limit);
        Ok((BucketLimit { limit, window, capacity }, options.demand()))
    }

    /// `limit window [options]` of a sliding window log, up to the end.
    pub(crate) fn window_limit(mut self, syntax: &Syntax) -> Result<(WindowLimit, Demand), Error> {
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
    pub(crate) fn amount(mut self) -> Result<Units, Error> {
        self.units(AMOUNT)
    }

    /// The next argument, which must be there.
    pub(crate) fn next(&mut self) -> Result<&'a [u8], Error> {
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

    fn window(&mut self) -> Result<Window, Error> {
        window(self.next()?).ok_or(Error::argument(WINDOW))
    }

    fn options(&mut self, syntax: &Syntax) -> Result<Options, Error> {
        let mut options = Options::default();
        while !self.is_at_end() {
            let word = self.next()?;
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

/// The rule for a limit that is bounded by a setting.
fn limit_up_to(max: Units) -> Error {
    let rule = format!("ERR limit must be an integer between 1 and {}", max.get());
    Error::Argument(CString::new(rule).map_or(Cow::Borrowed(LIMIT), Cow::Owned))
}

/// A number of units, if it is within its bounds.
pub(crate) fn units(text: &[u8]) -> Option<Units> {
    Units::new(integer(text)?)
}

/// An integer as the server itself reads them: digits without sign, space or leading zeros.
fn integer(text: &[u8]) -> Option<u64> {
    if text.is_empty() || (text.len() > 1 && text.starts_with(b"0")) {
        return None;
    }
    digits(text)
}

/// A number of seconds with up to three decimals.
fn window(text: &[u8]) -> Option<Window> {
    let point = text.iter().position(|&byte| byte == b'.');
    let (seconds, decimals) = match point {
        Some(point) => (text.get(..point)?, text.get(point + 1..)?),
        None => (text, &b"0"[..]),
    };
    let scale = match decimals.len() {
        1 => 100,
        2 => 10,
        3 => 1,
        _ => return None,
    };
    let millis = integer(seconds)?.checked_mul(1_000)?;
    Window::from_millis(millis.checked_add(digits(decimals)? * scale)?)
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}
