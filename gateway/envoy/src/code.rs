//! The codes with which calls end.

/// The code with which a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u8);

/// The names of the codes, in the order of their numbers.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    UNKNOWN,
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of the code of an unknown fault, which stands for numbers without a name.
const UNKNOWN: &str = "UNKNOWN";

impl Code {
    /// No fault.
    pub const OK: Self = Self(0);
    /// The client has gone, or the time of the call is over.
    pub const CANCELLED: Self = Self(1);

    /// Returns the code with a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Returns the name, such as `OK`.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or(UNKNOWN)
    }

    /// Returns whether the code blames the server, by the rule of OpenTelemetry for spans of servers.
    #[must_use]
    pub fn is_server_fault(self) -> bool {
        [UNKNOWN, "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]
            .contains(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn denials_and_clients_that_have_gone_are_no_fault_of_the_server() {
        for (number, name, is_server_fault) in [
            (0, "OK", false),
            (1, "CANCELLED", false),
            (3, "INVALID_ARGUMENT", false),
            (8, "RESOURCE_EXHAUSTED", false),
            (13, "INTERNAL", true),
            (14, "UNAVAILABLE", true),
            (16, "UNAUTHENTICATED", false),
            (17, "UNKNOWN", true),
        ] {
            let code = Code::from_number(number);
            assert_eq!((code.name(), code.is_server_fault()), (name, is_server_fault));
        }
        assert_eq!((Code::OK.name(), Code::CANCELLED.name()), ("OK", "CANCELLED"));
    }
}
