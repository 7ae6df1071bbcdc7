//! Reading requests: from JSON, a query or a path to typed values, or to a list of all errors.

pub(crate) mod attribute_values;
pub mod field_error;
pub mod fields;
pub(crate) mod input;
pub(crate) mod json;
pub(crate) mod lease;
pub(crate) mod limits;
pub(crate) mod number;
pub(crate) mod policy;
pub(crate) mod quota;
pub(crate) mod quota_fields;
pub(crate) mod reservation;
pub(crate) mod value;
