//! What is wrong with a request, in the words that clients of pydantic know.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FieldError {
    /// What kind of fault it is, for programs.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where it is: `body`, `query` or `path`, then fields and positions on the way to it.
    pub loc: Vec<Place>,
    /// The rule that was broken, for people.
    pub msg: Cow<'static, str>,
    /// What was given instead.
    pub input: Value,
    /// The bounds in `msg`, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Value>,
}

/// A step on the way to a fault.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Place {
    /// A part of the request, or a field in it.
    Name(&'static str),
    /// A position, counted from 0: in a list, or in the bytes of a body.
    Position(usize),
}

/// The rule that a value broke: a fault that does not know yet where it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BrokenRule {
    pub(crate) kind: &'static str,
    pub(crate) msg: Cow<'static, str>,
    pub(crate) ctx: Option<Value>,
}

impl BrokenRule {
    /// A rule without bounds.
    pub(crate) fn new(kind: &'static str, msg: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, msg: msg.into(), ctx: None }
    }

    /// A rule with the bounds that its message names.
    pub(crate) fn with_ctx(kind: &'static str, msg: String, ctx: Value) -> Self {
        Self { kind, msg: msg.into(), ctx: Some(ctx) }
    }

    /// The fault of an `input` found at `loc`.
    pub(crate) fn at(self, loc: Vec<Place>, input: Value) -> FieldError {
        FieldError { kind: self.kind, loc, msg: self.msg, input, ctx: self.ctx }
    }
}
