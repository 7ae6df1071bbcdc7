//! Errors of fields, in the form of pydantic.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// One error of a request.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FieldError {
    /// The kind of the error, for programs.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The location: `body`, `query` or `path`, then fields and positions down to the value.
    pub loc: Vec<Place>,
    /// The broken rule, for people.
    pub msg: Cow<'static, str>,
    /// The value.
    pub input: Value,
    /// The bounds in `msg`, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Value>,
}

/// A step of a location.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Place {
    /// A part of the request, or a field in it.
    Name(&'static str),
    /// A position, counted from 0: in a list, or in the bytes of a body.
    Position(usize),
}

/// The rule that a value breaks: an error without its location.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BrokenRule {
    pub(crate) kind: &'static str,
    pub(crate) msg: Cow<'static, str>,
    pub(crate) ctx: Option<Value>,
}

impl BrokenRule {
    /// Returns a rule without bounds.
    pub(crate) fn new(kind: &'static str, msg: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, msg: msg.into(), ctx: None }
    }

    /// Returns a rule with the bounds in its message.
    pub(crate) fn with_ctx(kind: &'static str, msg: String, ctx: Value) -> Self {
        Self { kind, msg: msg.into(), ctx: Some(ctx) }
    }

    /// Returns the error of an `input` at `loc`.
    pub(crate) fn at(self, loc: Vec<Place>, input: Value) -> FieldError {
        FieldError { kind: self.kind, loc, msg: self.msg, input, ctx: self.ctx }
    }
}
