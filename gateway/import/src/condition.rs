//! Conditions and variables of limitador: expressions of CEL, of which the simple ones have an
//! equivalent.

use policies::attribute::AttributeName;

use crate::draft::{Condition, can_be_of_a_descriptor, glob};

/// Returns the clauses of a condition, or `None` where it has no equivalent.
pub(crate) fn clauses(expression: &str) -> Option<Vec<(AttributeName, Condition)>> {
    split(expression, "&&")?.into_iter().map(|part| clause(part.trim())).collect()
}

fn clause(text: &str) -> Option<(AttributeName, Condition)> {
    if let Some(inner) = text.strip_prefix("has(").and_then(|rest| rest.strip_suffix(')')) {
        return Some((attribute(inner)?, Condition::Exists(true)));
    }
    if let [left, right] = split(text, "==")?.as_slice() {
        let name = attribute(left)?;
        let value = glob(&name, &literal(right)?);
        return Some((name, Condition::Any(vec![value])));
    }
    if let [left, right] = split(text, "!=")?.as_slice() {
        let name = attribute(left)?;
        let value = glob(&name, &literal(right)?);
        return Some((name, Condition::Not(vec![value])));
    }
    if let [left, right] = split(text, " in ")?.as_slice() {
        let items = right.trim().strip_prefix('[')?.strip_suffix(']')?;
        let name = attribute(left)?;
        let values = split(items, ",")?.into_iter().map(|item| Some(glob(&name, &literal(item)?)));
        let values = values.collect::<Option<_>>()?;
        return Some((name, Condition::Any(values)));
    }
    FUNCTIONS.iter().find_map(|(function, [before, after])| {
        let (left, rest) = text.split_once(&format!(".{function}("))?;
        let (name, inner) = (attribute(left)?, literal(rest.strip_suffix(')')?)?);
        let stars = if name.separator().is_some() { "**" } else { "*" };
        let [before, after] = [before, after].map(|has_stars| if *has_stars { stars } else { "" });
        let glob = format!("{before}{}{after}", inner.replace('*', "\\*"));
        Some((name, Condition::Any(vec![glob])))
    })
}

/// Functions of texts, and whether any text may be before and after their argument.
const FUNCTIONS: [(&str, [bool; 2]); 3] =
    [("startsWith", [false, true]), ("endsWith", [true, false]), ("contains", [true, true])];

/// Returns the attribute that an expression reads: `descriptors[0].x`, `descriptors[0]['x']` or the
/// older form `x`.
pub(crate) fn attribute(expression: &str) -> Option<AttributeName> {
    let text = expression.trim();
    let name = match text.strip_prefix("descriptors[0]") {
        Some(rest) => match rest.strip_prefix('.') {
            Some(name) => name.to_owned(),
            None => literal(rest.strip_prefix('[')?.strip_suffix(']')?)?,
        },
        None => text.to_owned(),
    };
    let is_word = |letter: char| letter.is_alphanumeric() || "._-/".contains(letter);
    if name.is_empty() || !name.chars().all(is_word) || name.starts_with("descriptors") {
        return None;
    }
    AttributeName::parse(&name).ok().filter(can_be_of_a_descriptor)
}

/// Returns the text of a literal: a text in quotes without escapes, a number or a boolean.
fn literal(text: &str) -> Option<String> {
    let text = text.trim();
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote) {
            let inner = inner.strip_suffix(quote)?;
            return (!inner.contains([quote, '\\'])).then(|| inner.to_owned());
        }
    }
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number || matches!(text, "true" | "false")).then(|| text.to_owned())
}

/// Splits an expression at a word outside of quotes; `None` where a quote is open at the end.
fn split<'t>(text: &'t str, word: &str) -> Option<Vec<&'t str>> {
    let (mut parts, mut start, mut open) = (Vec::new(), 0, None);
    for (at, letter) in text.char_indices() {
        match open {
            Some(quote) if letter == quote => open = None,
            Some(_) => {}
            None if matches!(letter, '\'' | '"') => open = Some(letter),
            None if at >= start && text.get(at..).is_some_and(|rest| rest.starts_with(word)) => {
                parts.push(text.get(start..at)?);
                start = at + word.len();
            }
            None => {}
        }
    }
    parts.push(text.get(start..)?);
    open.is_none().then_some(parts)
}
