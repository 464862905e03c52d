//! The threads at both ends of a batch, which may wait for a disk or a pipe while calls go on: one reads lines, one
//! writes answers.

use super::input::{Calls, Item, Lines, Source, Stamp};
use super::journal::Entry;
use super::line::{Bad, Call, NO_MODEL};
use super::output::Output;
use super::past::Past;
use crate::rt;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Lines that are handed over together.
const TOGETHER: usize = 32;
/// Bytes of these.
const TOGETHER_BYTES: usize = 256 << 10;
/// Handfuls that are read ahead.
const AHEAD: usize = 4;

/// What comes of reading.
#[derive(Debug)]
pub enum Read {
    /// Some lines that are still to be done.
    Items(Vec<Item>),
    /// The end; how many lines there are.
    End(u64),
    /// There is no line at all.
    Empty(String),
    /// It cannot be gone on with, and why.
    Failed(String),
}

/// What a first look at a file tells.
#[derive(Debug, Default)]
pub struct Survey {
    /// Lines that are not blank.
    pub lines: u64,
    /// Whether any line can be sent, of a batch that was not begun yet.
    pub sendable: bool,
    /// Those that cannot be sent: how many, as far as was looked.
    pub bad: u64,
    /// Those of them that only lack a model.
    pub nameless: u64,
    /// The first of them.
    pub first_bad: Vec<(u64, Bad)>,
    /// Bytes of the lines that are still to be done.
    pub bytes: u64,
}

/// Lines that are told of one by one.
pub const BAD_SHOWN: usize = 20;

/// Looks a file over before the first call: how many lines there are, that those which are done are the same as then,
/// what is wrong with those in front of the first that can be sent, and with `strict` with any. `plan` knows whether a call
/// has anywhere to go.
///
/// # Errors
/// It cannot be read, is empty, or was changed since.
pub fn survey(
    source: &Source,
    past: &Past,
    (model, strict): (Option<&str>, bool),
    plan: impl Fn(&Call) -> Result<(), Bad>,
) -> Result<Survey, String> {
    let mut lines = Lines::new(source.open()?);
    let mut calls = Calls::new(model.map(str::to_owned));
    // Of one that was begun, some were sent.
    let mut survey = Survey { sendable: past.done() > 0, ..Survey::default() };
    while let Some(raw) = lines.line().map_err(|error| unread(source, lines.number(), &error))? {
        same(source, past, (raw.seq, raw.number, raw.mark))?;
        survey.lines += 1;
        if !past.has(raw.seq) {
            survey.bytes += raw.text.as_ref().map_or(0, |text| text.len() as u64);
        }
        if strict || !survey.sendable {
            let number = raw.number;
            match calls.read(raw).what.and_then(|call| plan(&call)) {
                Ok(()) => survey.sendable = true,
                Err(bad) => {
                    survey.bad += 1;
                    survey.nameless += u64::from(bad.code == NO_MODEL);
                    if survey.first_bad.len() < BAD_SHOWN {
                        survey.first_bad.push((number, bad));
                    }
                }
            }
        }
    }
    whole(source, past, survey.lines)?;
    Ok(survey)
}

pub(super) fn unread(source: &Source, number: u64, error: &std::io::Error) -> String {
    let after = if number == 0 { String::new() } else { format!(" after line {number}") };
    let mend = if source.is_gzip() {
        "; its name ends in .gz, so it is decompressed: give it whole, or without that name if it is no such file"
    } else {
        ""
    };
    format!("{}: cannot be read{after}: {error}{mend}", source.shown())
}

/// A line that is done must be the one that was done.
fn same(source: &Source, past: &Past, (seq, number, mark): (u64, u64, u32)) -> Result<(), String> {
    if past.mark(seq).is_none_or(|then| then == mark) {
        return Ok(());
    }
    Err(format!(
        "{}: line {number} is not what it was when it was done before. Give the file as it was to go on; give another -o, or \
         delete the output and its journal, to begin anew and pay again",
        source.shown()
    ))
}

fn whole(source: &Source, past: &Past, lines: u64) -> Result<(), String> {
    if lines == 0 && past.marks.is_empty() {
        return Err(empty(source));
    }
    if past.marks.len() as u64 > lines {
        return Err(format!(
            "{} has {lines} lines, and line {} was done before. Give the file as it was to go on; give another -o, or delete \
             the output and its journal, to begin anew and pay again",
            source.shown(),
            past.marks.len()
        ));
    }
    Ok(())
}

pub fn empty(source: &Source) -> String {
    format!("{} has no line; give one JSON object a line", source.shown())
}

/// Nothing that was read of a file after it was changed is sent.
fn still(source: &Source, seen: Option<Stamp>, number: u64) -> Result<(), String> {
    if source.stamp() == seen {
        return Ok(());
    }
    let shown = source.shown();
    let what = if source.stamp().is_none() { "is gone" } else { "was changed" };
    Err(format!(
        "{shown} {what} while it was read, by line {number}: nothing more of it was sent. Put it back as it was, with more \
         lines at its end if you like"
    ))
}

/// Starts reading what is still to be done.
///
/// # Errors
/// It cannot be opened.
pub fn read(
    source: Source,
    past: Arc<Past>,
    model: Option<String>,
    seen: Option<Stamp>,
) -> Result<mpsc::Receiver<Read>, String> {
    let (to, from) = mpsc::channel(AHEAD);
    let input = source.open()?;
    let work = move || {
        let last = match items((&source, seen), &past, (Lines::new(input), Calls::new(model)), &to) {
            Ok(0) => Read::Empty(empty(&source)),
            Ok(lines) => Read::End(lines),
            Err(told) => Read::Failed(told),
        };
        // Nobody waits for it any more if the batch was stopped.
        let _ = to.blocking_send(last);
    };
    rt::aside("keymux-batch-in".to_owned(), work).map_err(|error| error.to_string())?;
    Ok(from)
}

type Input = (Lines<Box<dyn std::io::BufRead + Send>>, Calls);

fn items(
    (source, seen): (&Source, Option<Stamp>),
    past: &Past,
    (mut lines, mut calls): Input,
    to: &mpsc::Sender<Read>,
) -> Result<u64, String> {
    // What writes into a pipe may wait for the answer before it writes on.
    let together_max = if *source == Source::Stdin { 1 } else { TOGETHER };
    let (mut together, mut bytes, mut count) = (Vec::new(), 0, 0);
    while let Some(raw) = lines.line().map_err(|error| unread(source, lines.number(), &error))? {
        same(source, past, (raw.seq, raw.number, raw.mark))?;
        count += 1;
        bytes += raw.text.as_ref().map_or(0, String::len);
        let done = past.has(raw.seq);
        // Read whether or not it is done: its name is taken.
        let item = calls.read(raw);
        if !done {
            together.push(item);
        }
        if (together.len() >= together_max || bytes >= TOGETHER_BYTES) && !together.is_empty() {
            bytes = 0;
            still(source, seen, lines.number())?;
            if to.blocking_send(Read::Items(std::mem::take(&mut together))).is_err() {
                return Ok(count);
            }
        }
    }
    still(source, seen, lines.number())?;
    if count > 0 || !past.marks.is_empty() {
        whole(source, past, count)?;
    }
    if !together.is_empty() {
        let _ = to.blocking_send(Read::Items(together));
    }
    Ok(count)
}

/// What the writer is told.
#[derive(Debug)]
pub enum Write {
    /// A line is done.
    Entry(Entry),
    /// Time to make durable what was written.
    Sync,
    /// The end: whether the batch is whole and every line has its answer.
    Close(bool),
}

/// What the writer says.
#[derive(Debug)]
pub enum Written {
    /// So many more lines are safe.
    Lines(usize),
    /// All is closed.
    Closed,
    /// It cannot write, and why.
    Failed(String),
}

/// Starts writing. `lines_max` are under way at most.
///
/// # Errors
/// No thread.
pub fn write(
    output: Output,
    lines_max: usize,
) -> Result<(mpsc::Sender<Write>, mpsc::Receiver<Written>), String> {
    let (to, mut from) = mpsc::channel(lines_max + 8);
    let (say, said) = mpsc::channel(lines_max + 8);
    let work = move || {
        if let Err(told) = written(output, &mut from, &say) {
            let _ = say.blocking_send(Written::Failed(told));
        }
    };
    rt::aside("keymux-batch-out".to_owned(), work).map_err(|error| error.to_string())?;
    Ok((to, said))
}

fn written(
    mut output: Output,
    from: &mut mpsc::Receiver<Write>,
    say: &mpsc::Sender<Written>,
) -> Result<(), String> {
    let mut entries = Vec::new();
    while let Some(first) = from.blocking_recv() {
        let (mut sync, mut close) = (false, None);
        let mut next = Some(first);
        // Whatever has come meanwhile is written in one piece.
        while let Some(what) = next {
            match what {
                Write::Entry(entry) => entries.push(entry),
                Write::Sync => sync = true,
                Write::Close(all_answered) => close = Some(all_answered),
            }
            next = if entries.len() < TOGETHER * 8 && close.is_none() { from.try_recv().ok() } else { None };
        }
        if !entries.is_empty() {
            output.take(&entries)?;
            let _ = say.blocking_send(Written::Lines(entries.len()));
            entries.clear();
        }
        if let Some(all_answered) = close {
            output.close(all_answered)?;
            let _ = say.blocking_send(Written::Closed);
            return Ok(());
        }
        if sync {
            output.sync()?;
        }
    }
    Ok(())
}
