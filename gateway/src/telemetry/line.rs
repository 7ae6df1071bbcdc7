//! How a line of the log is written.
//!
//! The texts are those of `tracing_subscriber`, with a [`Scope`] in place of spans. Its JSON takes
//! several times as long: it collects the fields in a map before it writes them.

use std::fmt::{self, Debug, Write};

use tracing::{
    Event, Subscriber,
    field::{self, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use super::scope::{Field, Scope};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object for each line.
    Json,
    /// For people.
    Text,
}

/// Writes an event as a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line(pub(super) LogFormat);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self.0 {
            LogFormat::Json => write_json(&mut line, event),
            LogFormat::Text => {
                write_text(&mut line, event)?;
                context.format_fields(line.by_ref(), event)?;
                line.write_char('\n')
            }
        }
    }
}

/// All but the fields of the event.
fn write_text(line: &mut Writer<'_>, event: &Event<'_>) -> fmt::Result {
    let metadata = event.metadata();
    SystemTime.format_time(line)?;
    write!(line, " {:>5} ", metadata.level().as_str())?;
    Scope::show_current(|scope| {
        write!(line, "{}{{", scope.name())?;
        for (index, (name, field)) in scope.fields().enumerate() {
            let space = if index == 0 { "" } else { " " };
            match field {
                Field::Text(text) => write!(line, "{space}{name}={text:?}")?,
                Field::Name(text) => write!(line, "{space}{name}={}", text.escape_debug())?,
            }
        }
        line.write_str("}: ")
    })?;
    write!(line, "{}: ", metadata.target())
}

fn write_json(line: &mut Writer<'_>, event: &Event<'_>) -> fmt::Result {
    let metadata = event.metadata();
    line.write_str("{\"timestamp\":\"")?;
    SystemTime.format_time(line)?;
    line.write_str("\",\"level\":\"")?;
    line.write_str(metadata.level().as_str())?;
    line.write_char('"')?;
    let mut fields = JsonFields { line, outcome: Ok(()) };
    event.record(&mut fields);
    fields.outcome?;
    line.write_str(",\"target\":")?;
    write_json_text(line, metadata.target())?;
    Scope::show_current(|scope| {
        line.write_str(",\"span\":{")?;
        for (name, field) in scope.fields() {
            write!(line, "\"{name}\":")?;
            match field {
                Field::Text(text) | Field::Name(text) => write_json_text(line, text)?,
            }
            line.write_char(',')?;
        }
        write!(line, "\"name\":\"{}\"}}", scope.name())
    })?;
    line.write_str("}\n")
}

fn write_json_text(line: &mut impl Write, text: &str) -> fmt::Result {
    line.write_char('"')?;
    JsonText(line).write_str(text)?;
    line.write_char('"')
}

/// Writes the fields of an event, each after a comma.
struct JsonFields<'l, W> {
    line: &'l mut W,
    outcome: fmt::Result,
}

impl<W: Write> JsonFields<'_, W> {
    fn field(&mut self, field: &field::Field, write: impl FnOnce(&mut W) -> fmt::Result) {
        let write_field = || {
            // Names are in the code. That of a keyword begins with `r#` there.
            let name = field.name();
            write!(self.line, ",\"{}\":", name.strip_prefix("r#").unwrap_or(name))?;
            write(self.line)
        };
        self.outcome = self.outcome.and_then(|()| write_field());
    }
}

impl<W: Write> Visit for JsonFields<'_, W> {
    fn record_debug(&mut self, field: &field::Field, value: &dyn Debug) {
        self.field(field, |line| {
            line.write_char('"')?;
            write!(JsonText(line), "{value:?}")?;
            line.write_char('"')
        });
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        self.field(field, |line| write_json_text(line, value));
    }

    fn record_bool(&mut self, field: &field::Field, value: bool) {
        self.field(field, |line| write!(line, "{value}"));
    }

    fn record_i64(&mut self, field: &field::Field, value: i64) {
        self.field(field, |line| write!(line, "{value}"));
    }

    fn record_u64(&mut self, field: &field::Field, value: u64) {
        self.field(field, |line| write!(line, "{value}"));
    }

    fn record_f64(&mut self, field: &field::Field, value: f64) {
        self.field(field, |line| match value.is_finite() {
            true => write!(line, "{value:?}"),
            // JSON has no infinity.
            false => line.write_str("null"),
        });
    }
}

/// The inside of a JSON string, to which any text can be written.
struct JsonText<'l, W>(&'l mut W);

impl<W: Write> Write for JsonText<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Whatever is escaped is ASCII, so that the text can be cut there.
        let is_escaped = |byte: u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        let mut rest = text;
        while let Some(index) = rest.bytes().position(is_escaped) {
            let (plain, from) = rest.split_at(index);
            let (escaped, after) = from.split_at(1);
            self.0.write_str(plain)?;
            match escaped {
                "\"" | "\\" => write!(self.0, "\\{escaped}")?,
                "\n" => self.0.write_str("\\n")?,
                _ => write!(self.0, "\\u{:04x}", escaped.as_bytes()[0])?,
            }
            rest = after;
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use axum::http::HeaderValue;
    use serde_json::{Value, json};
    use tracing::subscriber::with_default;
    use tracing_subscriber::fmt::MakeWriter;

    use super::{Line, LogFormat};
    use crate::telemetry::scope::{Scope, log_caller, log_refusal};

    /// A log that can be read.
    #[derive(Debug, Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Page {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// What is logged, without the timestamp.
    fn logged(format: LogFormat, work: impl FnOnce()) -> String {
        let page = Page::default();
        let log = tracing_subscriber::fmt().with_writer(page.clone()).with_ansi(false);
        with_default(log.event_format(Line(format)).finish(), work);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    fn scoped(scope: Scope, work: impl FnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(scope.around(async { work() }));
    }

    fn request() -> Scope {
        Scope::request(HeaderValue::from_static("id-7"), Some("4bf9".to_owned()), None)
    }

    #[test]
    fn json_holds_every_value_as_it_is() {
        let texts =
            ["", "plain", "a \"quoted\" \\ one", "line\nbreak\ttab\u{1}\u{7f}", "é\u{1f980}"];
        for text in texts {
            let line = logged(LogFormat::Json, || {
                tracing::warn!(text, shown = %text, debug = ?text, "told: {text}");
            });
            assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&line["text"], &line["shown"]), (&json!(text), &json!(text)));
            assert_eq!(line["debug"], json!(format!("{text:?}")));
            assert_eq!(line["message"], json!(format!("told: {text}")));
            assert_eq!((&line["level"], line.get("span")), (&json!("WARN"), None));
        }
        let line = logged(LogFormat::Json, || {
            tracing::info!(
                time_ms = 0.25,
                whole = 2.0,
                none = f64::NAN,
                yes = true,
                low = -1,
                r#type = 7u64
            );
        });
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["time_ms"], &line["whole"]), (&json!(0.25), &json!(2.0)));
        assert_eq!((&line["none"], &line["yes"]), (&Value::Null, &json!(true)));
        assert_eq!((&line["low"], &line["type"]), (&json!(-1), &json!(7)));
    }

    #[test]
    fn json_says_what_a_line_is_about() {
        let line = logged(LogFormat::Json, || {
            scoped(request(), || {
                log_caller("key:shop".to_owned());
                tracing::info!("here");
            });
        });
        let line: Value = serde_json::from_str(&line).unwrap();
        let span = json!({
            "request_id": "id-7", "trace_id": "4bf9", "caller": "key:shop", "name": "request",
        });
        assert_eq!(line["span"], span);
    }

    #[test]
    fn text_says_the_same() {
        let line = logged(LogFormat::Text, || {
            scoped(request(), || {
                log_caller("key:shop".to_owned());
                log_refusal("missing");
                tracing::info!(target: "there", status = 401, "answered");
            });
        });
        let expected = "Z  INFO request{request_id=\"id-7\" trace_id=\"4bf9\" \
                        caller=key:shop refusal=\"missing\"}: there: answered status=401\n";
        assert!(line.ends_with(expected), "{line}");
        let line = logged(LogFormat::Text, || tracing::error!(target: "there", "alone"));
        assert!(line.ends_with("Z ERROR there: alone\n"), "{line}");
    }
}
