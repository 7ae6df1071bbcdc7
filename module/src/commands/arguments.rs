//! The arguments that commands share, as COMMAND DOCS lists them.

use limiter::Algorithm;

use crate::ffi::command_info::Argument;

pub(super) const KEY: Argument = Argument::key();
pub(super) const RESERVATION: Argument = Argument::named_key(c"reservation");
/// The keys of a command whose first key is a reservation.
pub(super) const KEYS_OF_RESERVATION: Argument = KEY.multiple().in_second_place();
pub(super) const LIMIT: Argument = Argument::integer(c"limit");
pub(super) const WINDOW: Argument = Argument::double(c"window");
pub(super) const BURST: Argument = Argument::integer(c"capacity").after(c"BURST").optional();
pub(super) const COST: Argument = Argument::integer(c"cost").after(c"COST").optional();
pub(super) const RESOLUTION: Argument =
    Argument::double(c"seconds").after(c"RESOLUTION").optional();
/// The rule for a call that asks for more units than are available.
pub(super) const MODE: Argument = Argument::one_of(c"mode", MODES).optional();
const MODES: &[Argument] =
    &[Argument::word(c"partial", c"PARTIAL"), Argument::word(c"force", c"FORCE")];

/// The window of a fixed window.
pub(super) const PERIOD: Argument = Argument::one_of(c"period", PERIODS);
const PERIODS: &[Argument] = &[
    Argument::block(c"length", LENGTH),
    Argument::word(c"day", c"DAY"),
    Argument::word(c"week", c"WEEK"),
    Argument::word(c"month", c"MONTH"),
    Argument::word(c"year", c"YEAR"),
    Argument::block(c"bounds", BOUNDS),
];
const LENGTH: &[Argument] = &[WINDOW, Argument::integer(c"anchor").after(c"ANCHOR").optional()];
const BOUNDS: &[Argument] =
    &[Argument::double(c"begin").after(c"FROM"), Argument::double(c"end").after(c"UNTIL")];

pub(super) const TTL: Argument = Argument::double(c"ttl");
pub(super) const HOLDER: Argument = Argument::string(c"holder");
pub(super) const FENCED: Argument = Argument::word(c"fenced", c"FENCED").optional();
pub(super) const COUNT: Argument = Argument::integer(c"count").after(c"COUNT").optional();

/// A lease, named by its holder and with FENCED by its fence.
pub(super) const NAMED_LEASE: Argument =
    Argument::block(c"lease", &[HOLDER, Argument::integer(c"fence").optional()]);

/// A limit that names its algorithm.
pub(super) const EITHER_LIMIT: Argument = Argument::one_of(c"algorithm", EITHER);

const EITHER: &[Argument] = &[
    limit_of(Algorithm::TokenBucket),
    limit_of(Algorithm::SlidingWindow),
    limit_of(Algorithm::FixedWindow),
];
const _: () = assert!(EITHER.len() == Algorithm::ALL.len(), "each algorithm has its arguments");

const fn limit_of(algorithm: Algorithm) -> Argument {
    match algorithm {
        Algorithm::TokenBucket => Argument::block(c"token-bucket", TOKEN_BUCKET),
        Algorithm::SlidingWindow => Argument::block(c"sliding-window", SLIDING_WINDOW),
        Algorithm::FixedWindow => Argument::block(c"fixed-window", FIXED_WINDOW),
    }
}

const TOKEN_BUCKET: &[Argument] = &[LIMIT.after(c"TB"), WINDOW, BURST, COST];
const SLIDING_WINDOW: &[Argument] = &[LIMIT.after(c"SW"), WINDOW, RESOLUTION, COST];
const FIXED_WINDOW: &[Argument] = &[LIMIT.after(c"FW"), PERIOD, COST];
