//! The module's settings, as CONFIG shows them with the prefix `ratelimit.`.

use std::ffi::CStr;
use std::sync::atomic::{AtomicI64, Ordering};

use limiter::Units;
use redis_module::{Context, RedisString, Status};

use crate::args;
use crate::ffi::setting;
use crate::top_keys;

/// The highest limit that RATELIMIT.SW accepts.
///
/// A log may hold as many entries as its limit has units, so this bounds what one caller can make
/// the server hold for one key: three to six bytes for each.
static SLIDING_WINDOW_MAX_LIMIT: Setting = Setting {
    name: c"sliding-window-max-limit",
    default: 1_000_000,
    min: Units::MIN.get() as i64,
    max: Units::MAX.get() as i64,
    value: AtomicI64::new(0),
    apply: |_| (),
};

/// How many keys RATELIMIT.TOP knows; 0 turns it off.
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

/// The most keys that RATELIMIT.TOP can be set to know.
pub(crate) const MAX_TOP_KEYS: u32 = 10_000;

static SETTINGS: [&Setting; 2] = [&SLIDING_WINDOW_MAX_LIMIT, &TOP_KEYS];

/// The highest limit that RATELIMIT.SW accepts now.
pub(crate) fn sliding_window_max_limit() -> Units {
    let limit = SLIDING_WINDOW_MAX_LIMIT.value.load(Ordering::Relaxed);
    u64::try_from(limit).ok().and_then(Units::new).unwrap_or(Units::MAX)
}

/// The default of each setting.
pub(crate) type Defaults = [i64; SETTINGS.len()];

/// Returns the defaults that the module's arguments give, or `None` if they are refused, with the
/// reason in the log.
///
/// Arguments are defaults, so that a value which CONFIG REWRITE has written wins over them.
/// Arguments that set nothing are refused: the server would start with other settings than its
/// operator believes.
pub(crate) fn defaults(ctx: &Context, arguments: &[RedisString]) -> Option<Defaults> {
    let defaults = parse(arguments);
    if defaults.is_none() {
        let settings = SETTINGS.map(Setting::range).join(", ");
        ctx.log_warning(&format!(
            "module arguments must be settings, at most once each and followed by an integer: \
             {settings}"
        ));
    }
    defaults
}

/// Registers the settings with the server, which gives them the values of its configuration.
pub(crate) fn register(ctx: &Context, defaults: Defaults) -> Status {
    for (setting, default) in SETTINGS.into_iter().zip(defaults) {
        if setting::register(ctx, setting, default) == Status::Err {
            return Status::Err;
        }
    }
    setting::load(ctx)
}

/// The default of each setting, or `None` if the arguments are not names and their values.
fn parse(arguments: &[RedisString]) -> Option<Defaults> {
    let mut given = SETTINGS.map(|_| None);
    for argument in arguments.chunks(2) {
        let [name, value] = argument else {
            return None;
        };
        let (setting, given) = SETTINGS
            .into_iter()
            .zip(&mut given)
            .find(|(setting, _)| setting.name.to_bytes() == name.as_slice())?;
        if given.replace(setting.parse(value.as_slice())?).is_some() {
            return None;
        }
    }
    let mut defaults = SETTINGS.map(|setting| setting.default);
    for (default, given) in defaults.iter_mut().zip(given) {
        *default = given.unwrap_or(*default);
    }
    Some(defaults)
}

/// A setting: an integer between two bounds.
struct Setting {
    name: &'static CStr,
    default: i64,
    min: i64,
    max: i64,
    /// 0 until the server sets it, which it does unless it is to be 0.
    value: AtomicI64,
    /// What a new value makes necessary, given the value.
    apply: fn(usize),
}

impl Setting {
    fn parse(&self, text: &[u8]) -> Option<i64> {
        let value = i64::try_from(args::integer(text)?).ok()?;
        (self.min..=self.max).contains(&value).then_some(value)
    }

    fn range(&self) -> String {
        format!("{} ({} to {})", self.name.to_string_lossy(), self.min, self.max)
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
        self.value.store(value, Ordering::Relaxed);
        (self.apply)(usize::try_from(value).unwrap_or(0));
    }
}
