//! The arguments that commands share, as COMMAND DOCS lists them.

use limiter::Algorithm;

use crate::ffi::command_info::Argument;

pub(super) const KEY: Argument = Argument::key();
pub(super) const LIMIT: Argument = Argument::integer(c"limit");
pub(super) const WINDOW: Argument = Argument::double(c"window");
pub(super) const BURST: Argument = Argument::integer(c"capacity").after(c"BURST").optional();
pub(super) const COST: Argument = Argument::integer(c"cost").after(c"COST").optional();
pub(super) const PARTIAL: Argument = Argument::word(c"partial", c"PARTIAL").optional();

/// A limit that names its algorithm.
pub(super) const EITHER_LIMIT: Argument = Argument::one_of(c"algorithm", EITHER);

const EITHER: &[Argument] = &[limit_of(Algorithm::TokenBucket), limit_of(Algorithm::SlidingWindow)];
const _: () = assert!(EITHER.len() == Algorithm::ALL.len(), "each algorithm has its arguments");

const fn limit_of(algorithm: Algorithm) -> Argument {
    match algorithm {
        Algorithm::TokenBucket => Argument::block(c"token-bucket", TOKEN_BUCKET),
        Algorithm::SlidingWindow => Argument::block(c"sliding-window", SLIDING_WINDOW),
    }
}

const TOKEN_BUCKET: &[Argument] = &[LIMIT.after(c"TB"), WINDOW, BURST, COST];
const SLIDING_WINDOW: &[Argument] = &[LIMIT.after(c"SW"), WINDOW, COST];
