//! The form of log lines.
//!
//! The texts are those of `tracing_subscriber`, with a [`LogContext`] in place of spans. The JSON of
//! that crate takes several times as long: it collects the fields in a map before it writes them.

use std::{
    fmt::{self, Debug},
    iter,
};

use serde::Serialize;
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

use super::log_context::{self, LogContext};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object for each line.
    Json,
    /// Text for people.
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
            LogFormat::Json => {
                let json = json(event)?;
                line.write_str(str::from_utf8(&json).map_err(|_| fmt::Error)?)
            }
            LogFormat::Text => {
                write_text(&mut line, event)?;
                context.format_fields(line.by_ref(), event)?;
                line.write_char('\n')
            }
        }
    }
}

/// Writes the line up to the fields of the event.
fn write_text(line: &mut Writer<'_>, event: &Event<'_>) -> fmt::Result {
    let metadata = event.metadata();
    SystemTime.format_time(line)?;
    write!(line, " {:>5} ", metadata.level().as_str())?;
    LogContext::with_current(|context| {
        write!(line, "{}{{", log_context::NAME)?;
        for (index, (name, text)) in context.fields().enumerate() {
            let space = if index == 0 { "" } else { " " };
            match name {
                log_context::UNQUOTED => write!(line, "{space}{name}={}", text.escape_debug())?,
                _ => write!(line, "{space}{name}={text:?}")?,
            }
        }
        line.write_str("}: ")
    })
    .unwrap_or(Ok(()))?;
    write!(line, "{}: ", metadata.target())
}

/// Returns the line as a JSON object.
fn json(event: &Event<'_>) -> Result<Vec<u8>, fmt::Error> {
    let metadata = event.metadata();
    let mut time = String::with_capacity(TIME_BYTES);
    SystemTime.format_time(&mut Writer::new(&mut time))?;
    let mut object = Object::new();
    object.add_text("timestamp", &time);
    object.add_text("level", metadata.level().as_str());
    event.record(&mut object);
    object.add_text("target", metadata.target());
    LogContext::with_current(|context| object.add_context(context));
    object.outcome.map_err(|_| fmt::Error)?;
    object.text.extend_from_slice(b"}\n");
    Ok(object.text)
}

/// The size of most lines.
const LINE_BYTES: usize = 512;

/// The size of a time with microseconds.
const TIME_BYTES: usize = 32;

/// The text of a JSON object without its end, and the first error.
struct Object {
    text: Vec<u8>,
    outcome: serde_json::Result<()>,
}

impl Object {
    fn new() -> Self {
        let mut text = Vec::with_capacity(LINE_BYTES);
        text.push(b'{');
        Self { text, outcome: Ok(()) }
    }

    fn add(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.begin(name);
        self.write(value);
    }

    fn add_text(&mut self, name: &str, value: &str) {
        self.begin(name);
        self.quote(value);
    }

    /// Adds the fields of the context, then its name.
    fn add_context(&mut self, context: &LogContext) {
        self.begin("span");
        self.text.push(b'{');
        for (name, value) in context.fields().chain(iter::once(("name", log_context::NAME))) {
            self.add_text(name, value);
        }
        self.text.push(b'}');
    }

    /// Begins a member.
    fn begin(&mut self, name: &str) {
        if self.text.last() != Some(&b'{') {
            self.text.push(b',');
        }
        self.quote(name);
        self.text.push(b':');
    }

    /// Writes a text. Nearly all texts have no byte to escape, and are copied whole.
    fn quote(&mut self, text: &str) {
        // Without branches, so that several bytes are compared at once.
        let is_plain = text
            .bytes()
            .fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\'));
        if is_plain {
            self.text.push(b'"');
            self.text.extend_from_slice(text.as_bytes());
            self.text.push(b'"');
        } else {
            self.write(text);
        }
    }

    fn write(&mut self, value: &(impl Serialize + ?Sized)) {
        let written = serde_json::to_writer(&mut self.text, value);
        if self.outcome.is_ok() {
            self.outcome = written;
        }
    }
}

/// Returns the name of a field. In the code, a name that is a keyword begins with `r#`.
fn name_of(field: &field::Field) -> &'static str {
    let name = field.name();
    name.strip_prefix("r#").unwrap_or(name)
}

impl Visit for Object {
    fn record_debug(&mut self, field: &field::Field, value: &dyn Debug) {
        self.add_text(name_of(field), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        self.add_text(name_of(field), value);
    }

    fn record_bool(&mut self, field: &field::Field, value: bool) {
        self.add(name_of(field), &value);
    }

    fn record_i64(&mut self, field: &field::Field, value: i64) {
        self.add(name_of(field), &value);
    }

    fn record_u64(&mut self, field: &field::Field, value: u64) {
        self.add(name_of(field), &value);
    }

    fn record_f64(&mut self, field: &field::Field, value: f64) {
        self.add(name_of(field), &value);
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
    use crate::telemetry::{
        RequestId,
        log_context::{LogContext, log_caller, log_refusal},
    };

    /// A log in memory.
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

    /// Returns the lines that `work` logs.
    fn logged(format: LogFormat, work: impl FnOnce()) -> String {
        let page = Page::default();
        let log = tracing_subscriber::fmt().with_writer(page.clone()).with_ansi(false);
        with_default(log.event_format(Line(format)).finish(), work);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    fn run_in(context: LogContext, work: impl FnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(context.attach(async { work() }));
    }

    fn request() -> LogContext {
        let id = RequestId::Given(HeaderValue::from_static("id-7"));
        LogContext::new(id, Some("4bf9".to_owned()), None)
    }

    #[test]
    fn json_has_every_value_unchanged() {
        let texts =
            ["", "plain", "a \"quoted\" \\ one", "line\nbreak\ttab\u{1}\u{7f}", "é\u{1f980}"];
        for text in texts {
            let line = logged(LogFormat::Json, || {
                tracing::warn!(text, display = %text, debug = ?text, "reads: {text}");
            });
            assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&line["text"], &line["display"]), (&json!(text), &json!(text)));
            assert_eq!(line["debug"], json!(format!("{text:?}")));
            assert_eq!(line["message"], json!(format!("reads: {text}")));
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
    fn json_has_the_context() {
        let line = logged(LogFormat::Json, || {
            run_in(request(), || {
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
    fn text_has_the_context() {
        let line = logged(LogFormat::Text, || {
            run_in(request(), || {
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
