//! The report of a replay: a table, JSON or a page of HTML.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use crate::counts::{LimitReport, Outcomes, SideReport};

/// The result of a replay.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The lines that are not empty.
    pub lines: u64,
    /// The requests that were decided.
    pub judged: u64,
    /// The time of the first request.
    pub from: Option<String>,
    /// The time of the last request.
    pub until: Option<String>,
    /// The lines that were not decided.
    pub skipped: Skipped,
    /// Attributes that the policies read and that no line has.
    pub absent: Vec<String>,
    /// Of a log with decisions: the number of equal ones, and of different ones.
    pub agreement: Option<[u64; 2]>,
    /// The requests whose decision differs between the files.
    pub changes: Option<Changes>,
    /// The decisions of the file.
    pub new: SideReport,
    /// The decisions of the file to compare with.
    pub old: Option<SideReport>,
}

/// The lines that were not decided, by reason.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Skipped {
    /// Lines of another form.
    pub malformed: u64,
    /// Lines that came more than a minute late.
    pub late: u64,
    /// Requests that hold a lease for an unknown time.
    pub leases: u64,
    /// Requests that the gateway answers with an error.
    pub refused: u64,
    /// Lines of the log of a gateway that are no decisions.
    pub events: u64,
    /// Requests that no file can judge without a secret value of which the log has the digest, by
    /// the attribute.
    pub secrets: BTreeMap<String, u64>,
    /// Requests whose identity is not in the log, by the attribute that is missing.
    pub identities: BTreeMap<String, u64>,
}

/// The requests whose decision differs between two files.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Changes {
    /// Requests that only the new file denies.
    pub newly_denied: u64,
    /// Requests that only the new file allows.
    pub newly_allowed: u64,
}

/// Returns a time as text.
pub(crate) fn time(micros: u64) -> String {
    let time =
        i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    time.map_or_else(|| "after the year 9999".to_owned(), |time| time.to_string())
}

impl Report {
    /// Returns the sentences before the tables.
    fn notes(&self) -> Vec<String> {
        let Skipped { malformed, late, leases, refused, events, secrets, identities } =
            &self.skipped;
        let mut notes = vec![format!("{} of {} lines were decided.", self.judged, self.lines)];
        if let (Some(from), Some(until)) = (&self.from, &self.until) {
            notes.push(format!("The requests are from {from} to {until}."));
        }
        for (count, reason) in [
            (malformed, "have another form than a log"),
            (late, "came more than 60 seconds late"),
            (leases, "hold a lease, and have no `duration`"),
            (refused, "are answered with an error"),
            (events, "are of the log of a gateway, and no decisions"),
        ] {
            if *count > 0 {
                notes.push(format!("Skipped: {count} lines {reason}."));
            }
        }
        for (attribute, count) in secrets {
            notes.push(format!(
                "Skipped: {count} lines need the value of `{attribute}`, of which the log has the \
                 digest: a glob without a star can be compared, with IDENTITY_HASH_KEY."
            ));
        }
        for (attribute, count) in identities {
            notes.push(format!(
                "Skipped: {count} lines lack `{attribute}`, which is their identity."
            ));
        }
        if !self.absent.is_empty() {
            let names: Vec<_> = self.absent.iter().map(|name| format!("`{name}`")).collect();
            notes.push(format!(
                "No line has {}: clauses on them did not hold, and plans and costs are the default.",
                names.join(", ")
            ));
        }
        match self.agreement {
            Some([agreeing, differing]) => notes.push(format!(
                "{agreeing} decisions are those of the log, and {differing} are not."
            )),
            None => notes.push(
                "Assumed: each line is the time of a check; requests of one time are spread evenly \
                 over the unit of the log."
                    .to_owned(),
            ),
        }
        if let Some(Changes { newly_denied, newly_allowed }) = self.changes {
            notes.push(format!(
                "{newly_denied} requests are newly denied, and {newly_allowed} newly allowed."
            ));
        }
        notes
    }

    /// Returns the rows of the table: names, and the counts of both files.
    fn rows(&self) -> Vec<([String; 3], Outcomes, Outcomes)> {
        type Row = (Outcomes, Outcomes);
        let mut rows: BTreeMap<[String; 3], Row> = BTreeMap::new();
        let name =
            |limit: &LimitReport| [limit.policy.clone(), limit.plan.clone(), limit.limit.clone()];
        for limit in &self.new.limits {
            rows.entry(name(limit)).or_default().0 = limit.outcomes;
        }
        for limit in self.old.iter().flat_map(|old| &old.limits) {
            rows.entry(name(limit)).or_default().1 = limit.outcomes;
        }
        rows.into_iter().map(|(name, (new, old))| (name, new, old)).collect()
    }

    /// Returns the cells of the table, the first row with the titles.
    fn cells(&self) -> Vec<Vec<String>> {
        let counts = ["allowed", "denied", "shadow denied"];
        let mut titles: Vec<_> = ["policy", "plan", "limit"].map(str::to_owned).into();
        titles.extend(counts.map(str::to_owned));
        if self.old.is_some() {
            titles.extend(counts.map(|title| format!("old {title}")));
        }
        let mut cells = vec![titles];
        for (names, new, old) in self.rows() {
            let mut row: Vec<_> = names.map(or_dash).into();
            let columns = |outcomes: Outcomes| {
                [outcomes.allowed, outcomes.denied, outcomes.shadow_denied].map(|n| n.to_string())
            };
            row.extend(columns(new));
            if self.old.is_some() {
                row.extend(columns(old));
            }
            cells.push(row);
        }
        let mut total = vec!["all requests".to_owned(), String::new(), String::new()];
        for side in [Some(&self.new), self.old.as_ref()].into_iter().flatten() {
            total.extend([side.allowed.to_string(), side.denied.to_string(), String::new()]);
        }
        cells.push(total);
        cells
    }

    /// Returns the report as JSON.
    ///
    /// # Errors
    ///
    /// None in practice: the report has no value without a form in JSON.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// Returns the report as one page of HTML without scripts.
    #[must_use]
    pub fn to_html(&self) -> String {
        let mut page = String::from(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Replay</title>\n\
             <style>body{font:16px sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:right}\
             td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}\
             tr:nth-child(even){background:#eee}</style>\n<h1>Replay</h1>\n<ul>\n",
        );
        for note in self.notes() {
            push(&mut page, format_args!("<li>{}</li>\n", Escaped(&note)));
        }
        page.push_str("</ul>\n");
        push_table(&mut page, &self.cells());
        if !self.new.keys.is_empty() {
            page.push_str("<h2>Keys with the most denials</h2>\n");
            let mut cells = vec![vec!["key".to_owned(), String::new(), "denied".to_owned()]];
            let rows = self.new.keys.iter();
            cells.extend(
                rows.map(|row| vec![row.key.clone(), String::new(), row.denied.to_string()]),
            );
            push_table(&mut page, &cells);
        }
        page.push_str("</html>\n");
        page
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in self.notes() {
            writeln!(f, "{note}")?;
        }
        writeln!(f)?;
        let cells = self.cells();
        let columns = cells.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let texts = cells.iter().filter_map(|row| row.get(column));
            texts.map(|text| text.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &cells {
            let mut line = String::new();
            for (column, (text, width)) in row.iter().zip(&widths).enumerate() {
                if column < 3 {
                    write!(line, "{text:<width$}  ")?;
                } else {
                    write!(line, "{text:>width$}  ")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        if !self.new.keys.is_empty() {
            writeln!(f, "\nKeys with the most denials:")?;
            for row in &self.new.keys {
                writeln!(f, "{:>10}  {}", row.denied, row.key)?;
            }
        }
        Ok(())
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn push(page: &mut String, text: fmt::Arguments<'_>) {
    // Writing to text cannot fail.
    let _ = page.write_fmt(text);
}

fn push_table(page: &mut String, cells: &[Vec<String>]) {
    page.push_str("<table>\n");
    for (number, row) in cells.iter().enumerate() {
        page.push_str("<tr>");
        let cell = if number == 0 { "th" } else { "td" };
        for text in row {
            push(page, format_args!("<{cell}>{}</{cell}>", Escaped(text)));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
}

/// A text as HTML.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            letter => f.write_char(letter),
        })
    }
}
