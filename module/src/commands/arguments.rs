//! The arguments that commands share, as COMMAND DOCS tells them.

use crate::server::command_info::Argument;

pub(super) const KEY: Argument = Argument::key();
pub(super) const LIMIT: Argument = Argument::integer(c"limit");
pub(super) const WINDOW: Argument = Argument::double(c"window");
pub(super) const BURST: Argument = Argument::integer(c"capacity").after(c"BURST").optional();
pub(super) const COST: Argument = Argument::integer(c"cost").after(c"COST").optional();
pub(super) const PARTIAL: Argument = Argument::word(c"partial", c"PARTIAL").optional();

/// A limit that names its algorithm.
pub(super) const EITHER_LIMIT: Argument = Argument::one_of(c"algorithm", EITHER);

const EITHER: &[Argument] = &[
    Argument::block(c"token-bucket", TOKEN_BUCKET),
    Argument::block(c"sliding-window", SLIDING_WINDOW),
];
const TOKEN_BUCKET: &[Argument] = &[LIMIT.after(c"TB"), WINDOW, BURST, COST];
const SLIDING_WINDOW: &[Argument] = &[LIMIT.after(c"SW"), WINDOW, COST];
