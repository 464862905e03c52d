//! The `model` field of a multipart form (transcriptions, image edits), found without copying the form.
//!
//! RFC 7578 on RFC 2046, read strictly: lines end in CR LF, a delimiter stands at the start of a line. A form that two
//! readers could take differently (the field twice, an extended or file-like `model` part) is refused.

use std::ops::Range;

use memchr::memmem::Finder;

use super::HeadError;

/// More parts than any form of these endpoints has.
const PARTS_MAX: usize = 1024;

/// The value of the form field `model` and its span in the body. `Ok(None)` if the content type is no multipart form,
/// or the form has no such field.
///
/// # Errors
/// The form has no boundary, is cut short, or says `model` twice or in a way that readers take differently.
pub fn multipart_model(content_type: &str, body: &[u8]) -> Result<Option<(String, Range<usize>)>, HeadError> {
    let Some(boundary) = boundary(content_type)? else {
        return Ok(None);
    };
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    let finder = Finder::new(&delimiter);
    let mut at = if body.starts_with(&delimiter[2..]) {
        delimiter.len() - 2
    } else {
        finder.find(body).ok_or_else(|| refuse("the boundary of its content type does not occur in it"))?
            + delimiter.len()
    };
    let mut model: Option<(String, Range<usize>)> = None;
    for _ in 0..PARTS_MAX {
        let rest = body.get(at..).unwrap_or_default();
        if rest.starts_with(b"--") {
            return Ok(model);
        }
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if !rest[padding..].starts_with(b"\r\n") {
            return Err(refuse("a boundary is not followed by the end of its line"));
        }
        // The CR LF stays in front: a part without headers begins with a second one.
        let part_at = at + padding;
        let end = part_at
            + finder.find(&body[part_at..]).ok_or_else(|| refuse("it ends before its closing boundary"))?;
        if let Some(value) = model_part(body, part_at, end)? {
            if model.is_some() {
                return Err(HeadError::Duplicate { key: "model".into() });
            }
            let name = std::str::from_utf8(&body[value.clone()])
                .map_err(|e| HeadError::InvalidUtf8 { offset: value.start + e.valid_up_to() })?;
            if name.trim().is_empty() {
                return Err(HeadError::EmptyModel);
            }
            model = Some((name.to_owned(), value));
        }
        at = end + delimiter.len();
    }
    Err(refuse("it has more than 1024 parts"))
}

fn refuse(reason: &'static str) -> HeadError {
    HeadError::Multipart { reason }
}

/// The boundary of a multipart form's content type; `None` for any other content type.
fn boundary(content_type: &str) -> Result<Option<String>, HeadError> {
    let mut pieces = content_type.splitn(2, ';');
    let media = pieces.next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    let found = parameter(pieces.next().unwrap_or_default(), "boundary")?;
    match found {
        Some(boundary) if !boundary.is_empty() && boundary.len() <= 70 => Ok(Some(boundary)),
        _ => Err(refuse("its content type names no boundary of 1 to 70 characters")),
    }
}

/// The span of the value if the part from `start` (at the CR LF after its delimiter) to `end` is the field `model`.
fn model_part(body: &[u8], start: usize, end: usize) -> Result<Option<Range<usize>>, HeadError> {
    let part = &body[start..end];
    let blank = memchr::memmem::find(part, b"\r\n\r\n")
        .ok_or_else(|| refuse("a part has no blank line after its headers"))?;
    let headers = String::from_utf8_lossy(&part[..blank]);
    let mut name = None;
    let mut odd = false;
    for line in headers.split("\r\n") {
        let Some((header, value)) = line.split_once(':') else { continue };
        if header.trim().eq_ignore_ascii_case("content-disposition") {
            let parameters = value.split_once(';').map_or("", |(_, parameters)| parameters);
            if name.is_some() {
                return Err(refuse("a part has two content dispositions"));
            }
            name = parameter(parameters, "name")?;
            let extended = parameter(parameters, "name*")?;
            odd |= parameter(parameters, "filename")?.is_some() || extended.is_some();
            if extended.is_some() && name.is_none() {
                name = extended
                    .filter(|value| value.to_ascii_lowercase().ends_with("''model"))
                    .map(|_| "model".to_owned());
            }
        } else if header.trim().eq_ignore_ascii_case("content-transfer-encoding") {
            odd |= !matches!(value.trim().to_ascii_lowercase().as_str(), "7bit" | "8bit" | "binary");
        }
    }
    match name.as_deref() {
        Some("model") if odd => {
            Err(HeadError::InvalidType { key: "model".into(), expected: "a plain form field" })
        }
        Some("model") => Ok(Some(start + blank + 4..end)),
        _ => Ok(None),
    }
}

/// One parameter of a header value (`name="a\"b"; filename=x`), matched without regard to case, quotes undone. Given
/// twice, readers would differ, so it is refused.
fn parameter(text: &str, wanted: &str) -> Result<Option<String>, HeadError> {
    let mut found = None;
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return Ok(found);
        }
        let name_end = rest.find(['=', ';']).unwrap_or(rest.len());
        let name = rest[..name_end].trim();
        rest = &rest[name_end..];
        let Some(after) = rest.strip_prefix('=') else { continue };
        let after = after.trim_start_matches([' ', '\t']);
        let (value, left) = if let Some(quoted) = after.strip_prefix('"') {
            quoted_value(quoted)
        } else {
            let end = after.find(';').unwrap_or(after.len());
            (after[..end].trim().to_owned(), &after[end..])
        };
        rest = left;
        if name.eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
            return Err(refuse("a header gives the same parameter twice"));
        }
    }
}

/// A quoted value up to its closing quote, and what follows.
fn quoted_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => value.push(c),
        }
    }
    (value, "")
}
