//! The module's settings, as CONFIG shows them with the prefix `ratelimit.`.

use std::sync::atomic::{AtomicI64, Ordering};

use limiter::Units;
use redis_module::configuration::{ConfigurationFlags, register_i64_configuration};
use redis_module::{Context, RedisString, Status};

use crate::args;
use crate::server::api;

/// `ratelimit.sliding-window-max-limit`: the highest limit that RATELIMIT.SW accepts.
///
/// A log may hold as many entries as its limit has units, so this bounds what one caller can make
/// the server hold for one key: three to six bytes for each.
static SLIDING_WINDOW_MAX_LIMIT: AtomicI64 = AtomicI64::new(DEFAULT);

const NAME: &str = "sliding-window-max-limit";
const DEFAULT: i64 = 1_000_000;
const MIN: i64 = Units::MIN.get() as i64;
const MAX: i64 = Units::MAX.get() as i64;

/// The highest limit that RATELIMIT.SW accepts now.
pub(crate) fn sliding_window_max_limit() -> Units {
    let limit = SLIDING_WINDOW_MAX_LIMIT.load(Ordering::Relaxed);
    u64::try_from(limit).ok().and_then(Units::new).unwrap_or(Units::MAX)
}

/// Registers the settings with the server, which gives them the values of its configuration.
///
/// What the module's arguments say are the defaults, so that a value which CONFIG REWRITE has
/// written wins over them. Arguments that set nothing are refused: the server would start with
/// other settings than its operator believes.
pub(crate) fn register(ctx: &Context, arguments: &[RedisString]) -> Status {
    let mut default = DEFAULT;
    for argument in arguments.chunks(2) {
        let Some(value) = value_of(argument) else {
            ctx.log_warning(&format!(
                "module arguments must be {NAME} and an integer between {MIN} and {MAX}"
            ));
            return Status::Err;
        };
        default = i64::from(value.get());
    }
    register_i64_configuration(
        ctx,
        NAME,
        &SLIDING_WINDOW_MAX_LIMIT,
        default,
        MIN,
        MAX,
        ConfigurationFlags::DEFAULT,
        None,
    );
    api::load_configs(ctx)
}

/// The value in a name and its value.
fn value_of(argument: &[RedisString]) -> Option<Units> {
    match argument {
        [name, value] if name.as_slice() == NAME.as_bytes() => args::units(value.as_slice()),
        _ => None,
    }
}
