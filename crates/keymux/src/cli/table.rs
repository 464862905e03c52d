//! Tables for people: columns as wide as they must be, numbers to the right. And the same rows as CSV.

use serde_json::Value;

/// Rows under a head.
pub(super) struct Table {
    head: Vec<&'static str>,
    /// Which columns are numbers.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Columns by their names; those that end in `>` are numbers.
    pub(super) fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.iter().map(|name| name.trim_end_matches('>')).collect(),
            right: head.iter().map(|name| name.ends_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As text, without a line break at its end.
    pub(super) fn text(&self) -> String {
        let chars = |text: &str| text.chars().count();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| chars(row.get(column).map_or("", String::as_str)));
            cells.chain([chars(self.head[column])]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: Vec<&str>| {
            let padded = cells.iter().zip(&widths).zip(&self.right).map(|((cell, width), right)| {
                if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let rows = self.rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
        [line(self.head.clone())].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
    }
}

/// A value as a cell: nothing for null, a list with commas.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // What somebody named must not move the terminal's cursor.
        Value::String(text) => text.chars().filter(|c| !c.is_control()).collect(),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// US dollars, to the digit that is worth reading.
pub(super) fn usd(value: &Value) -> String {
    match value.as_f64() {
        None => String::new(),
        Some(usd) if usd != 0.0 && usd.abs() < 0.01 => format!("{usd:.6}"),
        Some(usd) => format!("{usd:.2}"),
    }
}

/// A field of CSV, as RFC 4180 has it. A spreadsheet would run what begins like a formula, so that gets a quote.
pub(super) fn csv(text: &str) -> String {
    let text =
        if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(&["name", "spent>"]);
        table.row(vec!["späte".to_owned(), "1.00".to_owned()]);
        table.row(vec!["a".to_owned(), "10000.00".to_owned()]);
        assert_eq!(table.text(), "name      spent\nspäte      1.00\na      10000.00");
    }

    #[test]
    fn cells_are_safe_to_show() {
        assert_eq!(cell(&json!("a\u{1b}[2Jb\n")), "a[2Jb");
        assert_eq!(cell(&json!(["a", "b"])), "a,b");
        assert_eq!(
            (usd(&json!(0.0)), usd(&json!(0.000_012_3)), usd(&json!(12.345))),
            ("0.00".to_owned(), "0.000012".to_owned(), "12.35".to_owned())
        );
        assert_eq!(csv("=1+1"), "'=1+1");
        assert_eq!(csv("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
