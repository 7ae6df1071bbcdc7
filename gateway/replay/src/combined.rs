//! The combined log format of web servers:
//! `203.0.113.7 - ann [15/Jan/2027:12:00:00 +0000] "GET /v1 HTTP/1.1" 200 5 "REFERER" "AGENT"`.

use jiff::Timestamp;
use policies::model::Entry;
use policies::record::RecordedValue;

use crate::record::{LogTime, Malformed, Record};

/// The format has seconds.
const UNIT: u64 = 1_000_000;

/// Reads a line. Unknown values, written `-`, are missing attributes.
pub(crate) fn read(line: &str) -> Result<Record, Malformed> {
    let (host, rest) = line.split_once(' ').ok_or(Malformed)?;
    let (_, rest) = rest.split_once(" [").ok_or(Malformed)?;
    let (time, rest) = rest.split_once("] ").ok_or(Malformed)?;
    let mut record = Record::at(LogTime { micros: micros_of(time)?, unit: UNIT }, Entry::Authz);
    let mut add = |name: &str, value: &str| {
        if value != "-" {
            record.attributes.push((name.to_owned(), RecordedValue::Text(value.to_owned())));
        }
    };
    // A server can write the name of a host.
    if host.parse::<std::net::IpAddr>().is_ok() {
        add("client.ip", host);
    }
    let (request, rest) = quoted(rest).ok_or(Malformed)?;
    let mut words = request.split(' ');
    let (method, target) = (words.next().ok_or(Malformed)?, words.next().ok_or(Malformed)?);
    add("method", method);
    add("path", target);
    // The common log format ends behind the status and the length.
    if let Some((_, rest)) = rest.split_once(" \"")
        && let Some((referer, rest)) = rest.split_once('"')
    {
        add("header.referer", referer);
        if let Some((agent, _)) = quoted(rest.trim_start()) {
            add("header.user-agent", agent);
        }
    }
    Ok(record)
}

/// Returns the text between the first two quotes, and the text behind. A server escapes a quote.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inner.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some((inner.get(..end)?, inner.get(end + 1..)?))
}

fn micros_of(time: &str) -> Result<u64, Malformed> {
    let time = Timestamp::strptime("%d/%b/%Y:%H:%M:%S %z", time).map_err(|_| Malformed)?;
    u64::try_from(time.as_microsecond()).map_err(|_| Malformed)
}
