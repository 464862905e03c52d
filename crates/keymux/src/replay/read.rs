//! Rows from wherever they are: the ledger's database, an export of it as CSV or as JSON lines, or a batch file. A file is
//! told by what is in it, not by its name. Errors name the file and the line.

use super::row::{Names, Row};
use super::{ROWS_MAX, TOKENS_MAX};
use crate::batch::input::{Calls, Lines, Raw, Source};
use crate::batch::line::Call;
use crate::http1::Fields;
use crate::plan;
use keymux_store::{Fault, Span, Target, past};
use std::collections::HashMap;
use std::io::{BufRead, Read as _};
use std::path::Path;
use std::sync::Arc;

/// How the lines of a batch file are taken to come.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Lines a second; `None`: all at once.
    pub rate: Option<f64>,
    /// For lines that name no model.
    pub model: Option<String>,
    /// Tokens of an answer whose line names no smaller cap.
    pub output_tokens: u64,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Found {
    /// In order of time.
    pub rows: Vec<Row>,
    /// They are lines of a batch.
    pub batch: bool,
    /// Lines of a batch that could not be sent: how many, and the first with its number and what is wrong.
    pub bad: u64,
    /// The first of them.
    pub first_bad: Option<String>,
}

fn too_many() -> String {
    format!(
        "there are more than {ROWS_MAX} requests in this time; look at less of it with --since and --until"
    )
}

/// Rows of a ledger.
///
/// # Errors
/// It cannot be read, is none, is of another version, or has too many rows.
pub fn ledger(
    target: &Target,
    tls: Option<&Arc<rustls::ClientConfig>>,
    span: Span,
) -> Result<Found, LedgerError> {
    let (mut names, mut rows) = (Names::default(), Vec::new());
    past(target, tls, span, &mut |record| {
        rows.push(names.row(&record));
        rows.len() <= ROWS_MAX
    })
    .map_err(LedgerError::Fault)?;
    if rows.len() > ROWS_MAX {
        return Err(LedgerError::TooMany(too_many()));
    }
    rows.sort_by_key(|r| r.started_unix_ms);
    Ok(Found { rows, ..Found::default() })
}

/// Why a ledger gave no rows.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database.
    #[error(transparent)]
    Fault(Fault),
    /// There are too many.
    #[error("{0}")]
    TooMany(String),
}

/// Whether a file is a database of `SQLite`.
///
/// # Errors
/// It cannot be read.
pub fn is_sqlite(path: &Path) -> std::io::Result<bool> {
    let mut magic = Vec::new();
    std::fs::File::open(path)?.take(16).read_to_end(&mut magic)?;
    Ok(magic == b"SQLite format 3\0")
}

/// Rows of an export, or lines of a batch.
///
/// # Errors
/// What is wrong with it, with the file and the line.
pub fn file(path: &Path, span: Option<Span>, batch: &Batch) -> Result<Found, String> {
    let source = Source::of(path);
    let mut lines = Lines::new(source.open()?);
    let shown = source.shown();
    let Some(first) = next(&mut lines, &shown)? else {
        return Err(format!("{shown} is empty; give an export of the ledger, or a batch file"));
    };
    let text = first.text.as_ref().map_err(|bad| format!("{shown}:{}: {}", first.number, bad.message))?;
    let mut found = if text.starts_with('{') && !is_row(text) {
        return calls(first, &mut lines, &shown, batch);
    } else if text.starts_with('{') {
        rows_of_json(first, &mut lines, &shown)?
    } else {
        rows_of_csv(text, &mut lines, &shown)?
    };
    if let Some(span) = span {
        found.retain(|r| (span.since_unix_ms..span.until_unix_ms).contains(&r.started_unix_ms));
    }
    found.sort_by_key(|r| r.started_unix_ms);
    Ok(Found { rows: found, ..Found::default() })
}

fn next<R: BufRead>(lines: &mut Lines<R>, shown: &str) -> Result<Option<Raw>, String> {
    lines.line().map_err(|error| format!("{shown}: after line {}: {error}", lines.number()))
}

fn is_row(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value.get("started_unix_ms").is_some())
}

fn rows_of_json<R: BufRead>(first: Raw, lines: &mut Lines<R>, shown: &str) -> Result<Vec<Row>, String> {
    let (mut names, mut rows) = (Names::default(), Vec::new());
    let mut raw = Some(first);
    while let Some(Raw { number, text, .. }) = raw {
        let at = |what: String| format!("{shown}:{number}: {what}");
        let text = text.map_err(|bad| at(bad.message))?;
        let value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text)
            .map_err(|error| at(format!("it is no JSON object: {}", column(&error))))?;
        let field = |name: &str| match value.get(name)? {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        rows.push(row(field, &mut names).map_err(at)?);
        if rows.len() > ROWS_MAX {
            return Err(too_many());
        }
        raw = next(lines, shown)?;
    }
    Ok(rows)
}

fn column(error: &serde_json::Error) -> String {
    error.to_string().replace("line 1 column", "column")
}

fn rows_of_csv<R: BufRead>(head: &str, lines: &mut Lines<R>, shown: &str) -> Result<Vec<Row>, String> {
    let head = fields(head).unwrap_or_default();
    let columns: HashMap<&str, usize> = head.iter().enumerate().map(|(n, name)| (name.as_str(), n)).collect();
    for needed in ["started_unix_ms", "model", "input_tokens", "output_tokens"] {
        if !columns.contains_key(needed) {
            return Err(format!(
                "{shown}:1: there is no column `{needed}`; the first line names the columns, as the ledger's table \
                 `requests` does. A batch file has a JSON object on each line"
            ));
        }
    }
    let (mut names, mut rows) = (Names::default(), Vec::new());
    while let Some(Raw { number, text, .. }) = next(lines, shown)? {
        let at = |what: String| format!("{shown}:{number}: {what}");
        let text = text.map_err(|bad| at(bad.message))?;
        let cells = fields(&text).ok_or_else(|| at("a quote is not closed".to_owned()))?;
        if cells.len() != head.len() {
            return Err(at(format!("there are {} fields, and {} columns", cells.len(), head.len())));
        }
        let field = |name: &str| columns.get(name).map(|n| cells[*n].clone()).filter(|cell| !cell.is_empty());
        rows.push(row(field, &mut names).map_err(at)?);
        if rows.len() > ROWS_MAX {
            return Err(too_many());
        }
    }
    Ok(rows)
}

/// Fields of a line of CSV (RFC 4180, without line breaks inside of fields); `None`: a quote is not closed.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut out = vec![String::new()];
    let (mut chars, mut quoted) = (line.chars().peekable(), false);
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                out.last_mut()?.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            c => out.last_mut()?.push(c),
        }
    }
    (!quoted).then_some(out)
}

/// A row from fields by the ledger's names. Only four must be there.
fn row(field: impl Fn(&str) -> Option<String>, names: &mut Names) -> Result<Row, String> {
    let number = |name: &str| match field(name) {
        None => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(format!("`{name}` is no whole number: \"{}\"", clipped(&text))),
        },
    };
    let needed = |name: &str| number(name)?.ok_or_else(|| format!("`{name}` is missing"));
    let tokens = |name: &str, n: u64| match n {
        0..=TOKENS_MAX => Ok(n),
        _ => Err(format!(
            "`{name}` is {n}, and no request has more than {TOKENS_MAX} tokens; mend this row, or take it out"
        )),
    };
    let or = |name: &str, other: u64| number(name).map(|n| n.unwrap_or(other));
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let status = u16::try_from(or("status", 200)?).map_err(|_| "`status` is no status of HTTP".to_owned())?;
    let model = field("model").ok_or("`model` is missing")?;
    let outcome = field("outcome").unwrap_or_else(|| "answered".to_owned());
    let mut name = |field: Option<String>, other: &str| names.of(field.as_deref().unwrap_or(other));
    Ok(Row {
        started_unix_ms: needed("started_unix_ms")?,
        client: name(field("client"), ""),
        model: name(Some(model), ""),
        endpoint: name(field("endpoint"), "chat/completions"),
        provider: name(field("provider"), "-"),
        status,
        answered: (200..300).contains(&status) && outcome == "answered",
        attempts: small(or("attempts", 1)?),
        queue_us: or("queue_us", 0)?,
        first_output_us: number("first_output_us")?,
        total_us: or("total_us", 0)?,
        input_tokens: tokens("input_tokens", needed("input_tokens")?)?,
        cached_tokens: tokens("cached_input_tokens", or("cached_input_tokens", 0)?)?,
        output_tokens: tokens("output_tokens", needed("output_tokens")?)?,
        cost_nano_usd: number("cost_nano_usd")?,
        max_tokens: None,
    })
}

fn clipped(text: &str) -> String {
    text.chars().take(40).filter(|c| !c.is_control()).collect()
}

/// Lines of a batch: those that `keymux batch` would send.
fn calls<R: BufRead>(first: Raw, lines: &mut Lines<R>, shown: &str, batch: &Batch) -> Result<Found, String> {
    let mut names = Names::default();
    let mut calls = Calls::new(batch.model.clone());
    let mut found = Found { batch: true, ..Found::default() };
    let mut raw = Some(first);
    while let Some(line) = raw {
        let item = calls.read(line);
        let came = found.rows.len();
        match item.what.map_err(|bad| bad.message).and_then(|call| call_row(&call, &mut names, batch)) {
            Ok(row) => found.rows.push(Row { started_unix_ms: due_ms(came, batch.rate), ..row }),
            Err(wrong) => {
                found.bad += 1;
                found.first_bad.get_or_insert_with(|| format!("{shown}:{}: {wrong}", item.number));
            }
        }
        if found.rows.len() > ROWS_MAX {
            return Err(format!("{shown} has more than {ROWS_MAX} lines, which is the most"));
        }
        raw = next(lines, shown)?;
    }
    match found.first_bad {
        Some(bad) if found.rows.is_empty() => Err(format!("{bad}\nNo line of {shown} can be sent.")),
        _ => Ok(found),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds, never negative")]
fn due_ms(line: usize, rate: Option<f64>) -> u64 {
    rate.map_or(0, |rate| (line as f64 / rate * 1e3) as u64)
}

fn call_row(call: &Call, names: &mut Names, batch: &Batch) -> Result<Row, String> {
    let read =
        plan::read(call.endpoint, &Fields::default(), &call.body).map_err(|problem| problem.message)?;
    let size = plan::size(&read, &call.body);
    // More than anybody answers is as good as no cap, and must not overflow what is added to it.
    let cap = size.output_tokens_max.map(|cap| cap.min(TOKENS_MAX));
    Ok(Row {
        started_unix_ms: 0,
        client: names.of("batch"),
        model: names.of(read.model()),
        endpoint: names.of(keymux_config::endpoint_path(call.endpoint)),
        provider: names.of("-"),
        status: 200,
        answered: false,
        attempts: 0,
        queue_us: 0,
        first_output_us: None,
        total_us: 0,
        input_tokens: size.input_tokens,
        cached_tokens: 0,
        output_tokens: cap.map_or(batch.output_tokens, |cap| cap.min(batch.output_tokens)),
        cost_nano_usd: None,
        max_tokens: cap,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Found, String> {
        let folder = tempfile();
        let path = folder.join("rows");
        std::fs::write(&path, text).unwrap();
        let batch = Batch { output_tokens: 50, ..Batch::default() };
        let found = file(&path, None, &batch);
        std::fs::remove_dir_all(&folder).unwrap();
        found.map_err(|told| told.replace(&path.display().to_string(), "rows"))
    }

    fn tempfile() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("replay-{}", crate::random::hex::<16>()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    const HEAD: &str = "started_unix_ms,model,input_tokens,output_tokens,client,status,total_us,ignored\n";

    #[test]
    fn an_export_is_read_in_order_of_time_whatever_its_form() {
        let csv = format!("\u{feff}{HEAD}2000,\"a,\"\"b\"\"\",10,5,ck-1,200,7,x\r\n\r\n1000,m,1,0,,429,,\n");
        let rows = read(&csv).unwrap().rows;
        let json = "{\"started_unix_ms\":2000,\"model\":\"a,\\\"b\\\"\",\"input_tokens\":10,\"output_tokens\":5,\
                    \"client\":\"ck-1\",\"total_us\":\"7\"}\n{\"started_unix_ms\":1000,\"model\":\"m\",\"input_tokens\":1,\
                    \"output_tokens\":0,\"status\":429,\"client\":null}\n";
        assert_eq!(rows, read(json).unwrap().rows);
        assert_eq!((&*rows[1].model, rows[1].total_us, rows[1].answered), ("a,\"b\"", 7, true));
        assert!(rows[0].refused() && !rows[0].answered);
    }

    #[test]
    fn what_is_broken_is_told_with_its_line() {
        for (text, told) in [
            ("", "rows is empty"),
            ("seconds,tokens\n1,2\n", "rows:1: there is no column `started_unix_ms`"),
            (
                &format!("{HEAD}1,m,2,3,,,,\n1,m,x,3,,,,\n"),
                "rows:3: `input_tokens` is no whole number: \"x\"",
            ),
            (
                &format!("{HEAD}1,m,2,3,,,,\n1,m,18446744073709551615,3,,,,\n"),
                "rows:3: `input_tokens` is 18446744073709551615, and no request has more than 1000000000 tokens; mend",
            ),
            (&format!("{HEAD}1,m,2,1000000001,,,,\n"), "rows:2: `output_tokens` is 1000000001"),
            (
                "{\"started_unix_ms\":1,\"model\":\"m\",\"input_tokens\":1,\"output_tokens\":1,\
                 \"cached_input_tokens\":1000000001}\n",
                "rows:1: `cached_input_tokens` is 1000000001",
            ),
            (&format!("{HEAD}1,m,2,3\n"), "rows:2: there are 4 fields, and 8 columns"),
            (&format!("{HEAD}1,\"m,2,3,,,,\n"), "rows:2: a quote is not closed"),
            (&format!("{HEAD}1,,2,3,,,,\n"), "rows:2: `model` is missing"),
            (&format!("{HEAD}1,m,2,3,,99999,,\n"), "rows:2: `status` is no status"),
            (
                "{\"started_unix_ms\":1,\"model\":\"m\",\"input_tokens\":1,\"output_tokens\":1}\n{\"sta",
                "rows:2: it is no JSON object",
            ),
            (
                "{\"started_unix_ms\":1,\"model\":\"m\",\"input_tokens\":1}\n",
                "rows:1: `output_tokens` is missing",
            ),
            ("{\"neither\":1}\n", "rows:1: "),
        ] {
            let said = read(text).map(|f| f.rows.len()).unwrap_err();
            assert!(said.contains(told), "{text:?}: {said}");
        }
    }

    #[test]
    fn lines_of_a_batch_that_could_not_be_sent_are_told_and_the_rest_comes() {
        let text = "{\"prompt\":\"Hi\",\"model\":\"m\"}\nnot JSON\n\
                    {\"prompt\":\"Hello there, how are you?\",\"model\":\"n\",\"max_tokens\":7}\n";
        let found = read(text).unwrap();
        assert!(found.batch && found.rows.len() == 2 && found.bad == 1);
        assert!(found.first_bad.unwrap().contains("rows:2: "));
        assert_eq!((found.rows[0].output_tokens, found.rows[0].max_tokens), (50, None));
        assert_eq!((&*found.rows[1].model, found.rows[1].output_tokens), ("n", 7));
        assert!(found.rows[1].input_tokens > found.rows[0].input_tokens);
    }

    #[test]
    fn lines_come_at_their_rate() {
        assert_eq!([0, 1, 10].map(|n| due_ms(n, Some(4.0))), [0, 250, 2_500]);
        assert_eq!(due_ms(10, None), 0);
    }
}
