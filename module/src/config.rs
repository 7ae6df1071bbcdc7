//! The module's settings, as CONFIG shows them with the prefix `ratelimit.`.

use std::sync::atomic::{AtomicI64, Ordering};

use limiter::Units;
use redis_module::configuration::{
    ConfigurationContext, ConfigurationFlags, ConfigurationValue, register_i64_configuration,
};
use redis_module::{Context, RedisError, RedisString, Status};

use crate::args;
use crate::server::api;
use crate::top_keys;

/// The highest limit that RATELIMIT.SW accepts.
///
/// A log may hold as many entries as its limit has units, so this bounds what one caller can make
/// the server hold for one key: three to six bytes for each.
static SLIDING_WINDOW_MAX_LIMIT: Setting = Setting {
    name: "sliding-window-max-limit",
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
    name: "top-keys",
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

/// Registers the settings with the server, which gives them the values of its configuration.
///
/// What the module's arguments say are the defaults, so that a value which CONFIG REWRITE has
/// written wins over them. Arguments that set nothing are refused: the server would start with
/// other settings than its operator believes.
pub(crate) fn register(ctx: &Context, arguments: &[RedisString]) -> Status {
    let Some(defaults) = defaults(arguments) else {
        let settings = SETTINGS.map(Setting::range).join(", ");
        ctx.log_warning(&format!(
            "module arguments must be settings, at most once each and followed by an integer: \
             {settings}"
        ));
        return Status::Err;
    };
    for (setting, default) in SETTINGS.into_iter().zip(defaults) {
        register_i64_configuration(
            ctx,
            setting.name,
            setting,
            default,
            setting.min,
            setting.max,
            ConfigurationFlags::DEFAULT,
            None,
        );
    }
    api::load_configs(ctx)
}

/// The default of each setting, or `None` if the arguments are not names and their values.
fn defaults(arguments: &[RedisString]) -> Option<[i64; SETTINGS.len()]> {
    let mut given = SETTINGS.map(|_| None);
    for argument in arguments.chunks(2) {
        let [name, value] = argument else {
            return None;
        };
        let (setting, given) = SETTINGS
            .into_iter()
            .zip(&mut given)
            .find(|(setting, _)| setting.name.as_bytes() == name.as_slice())?;
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
    name: &'static str,
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
        format!("{} ({} to {})", self.name, self.min, self.max)
    }
}

/// The server has checked the bounds of what it sets.
impl ConfigurationValue<i64> for Setting {
    fn get(&self, _: &ConfigurationContext) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    fn set(&self, _: &ConfigurationContext, value: i64) -> Result<(), RedisError> {
        self.value.store(value, Ordering::Relaxed);
        (self.apply)(usize::try_from(value).unwrap_or(0));
        Ok(())
    }
}
