//! Lines that are JSON objects: `time` and attributes, or the decisions of a gateway.
//!
//! The attributes are the members of the member `attributes`, or without it all other members with
//! text, a number or a boolean.

use jiff::Timestamp;
use limiter::Holder;
use policies::model::Entry;
use policies::record::RecordedValue;
use serde_json::{Map, Number, Value};

use crate::record::{LogTime, Malformed, NoRequest, Record};

/// Members that are no attributes.
const MEMBERS: [&str; 9] =
    ["time", "timestamp", "entry", "policy", "cost", "lease", "duration", "allowed", "attributes"];

/// Members that every other line of the log of a gateway has.
const EVENT_MEMBERS: [&str; 3] = ["timestamp", "level", "target"];

/// Reads a line.
pub(crate) fn read(line: &str) -> Result<Record, NoRequest> {
    let members: Map<String, Value> = serde_json::from_str(line).map_err(|_| Malformed)?;
    if EVENT_MEMBERS.iter().all(|name| members.get(*name).is_some_and(Value::is_string)) {
        return Err(NoRequest::OtherEvent);
    }
    let time = members.get("time").or_else(|| members.get("timestamp")).ok_or(Malformed)?;
    let mut record = Record::at(time_of(time)?, entry_of(&members)?);
    record.policy = members.get("policy").and_then(Value::as_str).map(str::to_owned);
    record.cost = members.get("cost").and_then(Value::as_u64);
    record.lease = members.get("lease").and_then(Value::as_str).and_then(Holder::new);
    record.duration = members.get("duration").and_then(Value::as_f64).map(micros_of_seconds);
    record.allowed = members.get("allowed").and_then(Value::as_bool);
    match members.get("attributes") {
        Some(Value::Object(attributes)) => {
            for (name, value) in attributes {
                record.add(name, value);
            }
        }
        Some(_) => return Err(NoRequest::Malformed),
        None => {
            for (name, value) in &members {
                if !MEMBERS.contains(&name.as_str()) {
                    record.add(name, value);
                }
            }
        }
    }
    Ok(record)
}

impl Record {
    fn add(&mut self, name: &str, value: &Value) {
        let value = match value {
            Value::Array(items) => {
                let items = items.iter().filter_map(text_of);
                Some(RecordedValue::List(items.collect()))
            }
            // Bytes that are no text.
            Value::Object(members) => {
                members.get("hex").and_then(Value::as_str).and_then(RecordedValue::from_hex)
            }
            scalar => text_of(scalar).map(RecordedValue::Text),
        };
        self.attributes.extend(value.map(|value| (name.to_owned(), value)));
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn entry_of(members: &Map<String, Value>) -> Result<Entry, Malformed> {
    match members.get("entry").map(Value::as_str) {
        None | Some(Some("check")) => Ok(Entry::Check),
        Some(Some("authz")) => Ok(Entry::Authz),
        Some(Some("rls")) => Ok(Entry::Rls),
        Some(_) => Err(Malformed),
    }
}

/// Returns the time of RFC 3339, or of a number of seconds, milliseconds or microseconds.
fn time_of(value: &Value) -> Result<LogTime, Malformed> {
    match value {
        Value::String(text) => {
            let time: Timestamp = text.parse().map_err(|_| Malformed)?;
            let micros = u64::try_from(time.as_microsecond()).map_err(|_| Malformed)?;
            Ok(LogTime { micros, unit: unit_of(text) })
        }
        Value::Number(number) => time_of_number(number).ok_or(Malformed),
        _ => Err(Malformed),
    }
}

/// Returns the unit of the last digit of a time of RFC 3339.
fn unit_of(text: &str) -> u64 {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count().min(6);
    10_u64.pow(6 - digits as u32)
}

fn time_of_number(number: &Number) -> Option<LogTime> {
    // Each of these is a time after 1973, and the next unit starts far after the year 5000.
    const MILLIS: u64 = 100_000_000_000;
    const MICROS: u64 = 100_000_000_000_000;
    Some(match number.as_u64() {
        Some(seconds) if seconds < MILLIS => {
            LogTime { micros: seconds.checked_mul(1_000_000)?, unit: 1_000_000 }
        }
        Some(millis) if millis < MICROS => {
            LogTime { micros: millis.checked_mul(1_000)?, unit: 1_000 }
        }
        Some(micros) => LogTime { micros, unit: 1 },
        // As $msec of nginx.
        None => LogTime { micros: micros_of_seconds(number.as_f64()?), unit: 1_000 },
    })
}

fn micros_of_seconds(seconds: f64) -> u64 {
    // Conversion saturates.
    (seconds * 1_000_000.0).round() as u64
}
