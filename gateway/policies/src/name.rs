//! The names of policies, plans and limits.

/// The most bytes of a name.
const MAX_BYTES: usize = 63;

/// Returns whether a text can be the name of a policy, a plan or a limit.
pub(crate) fn is_name(text: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_other = |byte: u8| is_first(byte) || b"_.-".contains(&byte);
    let has_first = text.bytes().next().is_some_and(is_first);
    has_first && text.len() <= MAX_BYTES && text.bytes().all(is_other)
}
