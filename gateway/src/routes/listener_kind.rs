//! The kinds of listeners.

/// The kind of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenerKind {
    /// The only listener, for clients and operators.
    Shared,
    /// The listener for clients, beside one for operators.
    Clients,
    /// The listener for probes and operators.
    Admin,
}
