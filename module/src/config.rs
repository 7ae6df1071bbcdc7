//! The module's settings, which CONFIG lists with the prefix `ratelimit.`.

use std::borrow::Cow;
use std::ffi::CStr;
use std::sync::atomic::{AtomicI64, Ordering};

use limiter::Units;

use crate::ffi::load::{LoadRefused, Loading};
use crate::ffi::setting;
use crate::number;
use crate::top_keys;

/// The most entries of a log.
///
/// A log may hold as many entries as its limit has units or its window has ticks, with five to eight
/// bytes each. So this setting bounds the memory that a caller can make the server use for one key.
static SLIDING_WINDOW_MAX_LIMIT: Setting = Setting {
    name: c"sliding-window-max-limit",
    default: 1_000_000,
    min: Units::MIN.get() as i64,
    max: Units::MAX.get() as i64,
    value: AtomicI64::new(0),
    apply: |_| (),
};

/// The most leases that a key holds at the same time.
///
/// A lease takes some 80 bytes and its holder. The highest value keeps the leases of a key, which
/// the append-only file has as one argument after a rewrite, within the server's 512 MB for an
/// argument.
static LEASES_MAX: Setting = Setting {
    name: c"leases-max",
    default: 100_000,
    min: 1,
    max: 1_000_000,
    value: AtomicI64::new(0),
    apply: |_| (),
};

/// The number of keys that RATELIMIT.TOP can list; 0 turns it off.
///
/// A key takes some 100 bytes and its own length, up to 512 bytes.
static TOP_KEYS: Setting = Setting {
    name: c"top-keys",
    default: 128,
    min: 0,
    max: MAX_TOP_KEYS as i64,
    value: AtomicI64::new(0),
    apply: top_keys::resize,
};

/// The highest number of keys that RATELIMIT.TOP can list.
pub(crate) const MAX_TOP_KEYS: u32 = 10_000;

static SETTINGS: [&Setting; 3] = [&SLIDING_WINDOW_MAX_LIMIT, &LEASES_MAX, &TOP_KEYS];

/// Returns the most entries of a log, or `None` before the server has set it.
#[inline(always)]
pub(crate) fn sliding_window_max_limit() -> Option<Units> {
    let limit = SLIDING_WINDOW_MAX_LIMIT.value.load(Ordering::Relaxed);
    u64::try_from(limit).ok().and_then(Units::new)
}

/// Returns the most leases that a key holds now, or `None` before the server has set it.
pub(crate) fn leases_max() -> Option<u32> {
    let most = LEASES_MAX.value.load(Ordering::Relaxed);
    u32::try_from(most).ok().filter(|&most| most > 0)
}

/// The default of each setting.
type Defaults = [i64; SETTINGS.len()];

/// The values that the module's arguments set.
pub(crate) struct Arguments {
    defaults: Defaults,
    /// True if the module adds the command CL.THROTTLE. This is fixed at load, since a server
    /// accepts no command later.
    pub(crate) has_cl_throttle: bool,
}

/// The name of the argument that adds the command CL.THROTTLE.
const CL_THROTTLE: &str = "cl-throttle";

/// Returns the values that the module's arguments set.
///
/// Those of settings are defaults, so that a value which CONFIG REWRITE has written overrides them.
/// Arguments that set nothing are refused: the server would start with other settings than its
/// operator believes.
pub(crate) fn arguments(load: &Loading) -> Result<Arguments, LoadRefused> {
    parse(&load.arguments()).map_err(|problem| load.refuse(&problem))
}

/// Registers the settings with the server, which sets them from its configuration.
pub(crate) fn register(load: &Loading, arguments: &Arguments) -> Result<(), LoadRefused> {
    for (setting, default) in SETTINGS.into_iter().zip(arguments.defaults) {
        setting::register(load, setting, default)?;
    }
    setting::load(load)
}

/// Returns the values that the arguments set: names, in capitals or not, each with its value.
fn parse(arguments: &[&[u8]]) -> Result<Arguments, String> {
    let (mut given, mut cl_throttle) = (SETTINGS.map(|_| None), None);
    for argument in arguments.chunks(2) {
        let (&name, value) = match argument {
            [name, value] => (name, Some(*value)),
            [name] => (name, None),
            _ => continue,
        };
        let is_repeated = if name.eq_ignore_ascii_case(CL_THROTTLE.as_bytes()) {
            let value =
                value.and_then(yes_or_no).ok_or_else(|| wrong(CL_THROTTLE, YES_OR_NO, value))?;
            cl_throttle.replace(value).is_some()
        } else {
            let mut settings = SETTINGS.into_iter().zip(&mut given);
            let (setting, given) = settings
                .find(|(setting, _)| name.eq_ignore_ascii_case(setting.name.to_bytes()))
                .ok_or_else(|| unknown(name))?;
            let parsed = value.and_then(|value| setting.parse(value));
            let parsed = parsed.ok_or_else(|| wrong(&setting.label(), &setting.rule(), value))?;
            given.replace(parsed).is_some()
        };
        if is_repeated {
            return Err(format!("module argument {} may be given only once", printable(name)));
        }
    }
    let mut defaults = SETTINGS.map(|setting| setting.default);
    for (default, given) in defaults.iter_mut().zip(given) {
        *default = given.unwrap_or(*default);
    }
    Ok(Arguments { defaults, has_cl_throttle: cl_throttle.unwrap_or(false) })
}

fn yes_or_no(text: &[u8]) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case(b"yes") => Some(true),
        _ if text.eq_ignore_ascii_case(b"no") => Some(false),
        _ => None,
    }
}

const YES_OR_NO: &str = "yes or no";

/// Returns the error of an argument without a value, or with one that breaks its rule.
fn wrong(name: &str, rule: &str, value: Option<&[u8]>) -> String {
    match value {
        Some(value) => format!("module argument {name} must be {rule}, not {}", printable(value)),
        None => format!("module argument {name} must be followed by a value: {rule}"),
    }
}

/// Returns the error of a name that no argument has.
fn unknown(name: &[u8]) -> String {
    let known = SETTINGS.map(Setting::label);
    let known: Vec<_> = known.iter().map(|name| &**name).chain([CL_THROTTLE]).collect();
    let text = String::from_utf8_lossy(name).to_lowercase();
    let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(&text, known));
    let nearest = nearest.copied().unwrap_or_default();
    format!(
        "module argument {} is unknown: the nearest name is {nearest}, and the names are {}",
        printable(name),
        known.join(", ")
    )
}

/// Returns a part of the configuration for one line of the log.
fn printable(text: &[u8]) -> String {
    const MAX_BYTES: usize = 64;
    let (text, rest) = text.split_at_checked(MAX_BYTES).unwrap_or((text, &[]));
    format!("{}{}", text.escape_ascii(), if rest.is_empty() { "" } else { "..." })
}

/// A setting: an integer between two bounds.
struct Setting {
    name: &'static CStr,
    default: i64,
    min: i64,
    max: i64,
    /// Initially 0. The server calls `set` at load, unless the configured value equals `get`.
    value: AtomicI64,
    /// Makes a new value effective.
    apply: fn(usize),
}

impl Setting {
    fn parse(&self, text: &[u8]) -> Option<i64> {
        let value = i64::try_from(number::integer(text)?).ok()?;
        (self.min..=self.max).contains(&value).then_some(value)
    }

    fn label(&self) -> Cow<'static, str> {
        self.name.to_string_lossy()
    }

    fn rule(&self) -> String {
        format!("an integer between {} and {}", self.min, self.max)
    }
}

impl setting::Setting for Setting {
    fn name(&self) -> &CStr {
        self.name
    }

    fn bounds(&self) -> (i64, i64) {
        (self.min, self.max)
    }

    fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    fn set(&self, value: i64) {
        debug_assert!((self.min..=self.max).contains(&value), "the server checks the bounds");
        self.value.store(value, Ordering::Relaxed);
        (self.apply)(usize::try_from(value).unwrap_or(0));
    }
}
