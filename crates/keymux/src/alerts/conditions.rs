//! What one webhook was told, and what is still to be told: each condition once while it lasts, again after a while, and
//! when it is over. What comes and goes is told as that, not each time. What cannot be delivered is not queued: the
//! message is made anew from what is so when it can be sent, so an hour's outage of the other side is one message.
//!
//! Pure: `now` is an argument, and nothing is sent from here.

use super::watch::{CHECKED, KINDS, There};
use crate::happening::{Effect, Happening, Kind, Level};
use keymux_config::{Gravity, Topic, Webhook};
use keymux_policy::Now;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Conditions that are remembered; what comes beyond is counted.
const CONDITIONS_MAX: usize = 1_000;
/// Things that only happened, and wait to be told.
const NOTES_MAX: usize = 100;
/// A condition that began so often within [`FLAPS_NS`] comes and goes.
const FLAPS: usize = 4;
const FLAPS_NS: u64 = 600_000_000_000;
/// Beginnings that are counted.
const BEGINS_MAX: usize = 1_000;
/// The same thing that only happened is not told twice within this time.
const NOTE_AGAIN_NS: u64 = 3_600_000_000_000;
/// Messages that may go out one after the other.
const BURST: f64 = 6.0;
/// After that, one in this time.
const PAUSE_NS: u64 = 30_000_000_000;
/// Pauses after failures, doubled from the first to the last.
const BACKOFF_NS: (u64, u64) = (2_000_000_000, 300_000_000_000);
const MS: u64 = 1_000_000;

/// What there is to say of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It began.
    Begins,
    /// It is still so.
    Reminds,
    /// It comes and goes.
    Flaps,
    /// It is over.
    Ends,
    /// It happened.
    Notes,
}

/// How something ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// It is well again.
    #[default]
    Well,
    /// Its key ended.
    KeyEnded,
    /// Whose trouble it was is no longer there, or is switched off.
    Gone,
    /// Nobody looks any more whether it is so.
    Unwatched,
}

/// One line of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) news: News,
    pub(super) topic: Topic,
    pub(super) gravity: Gravity,
    pub(super) subject: String,
    /// What was said when it began.
    pub(super) text: String,
    pub(super) since_unix_ms: u64,
    /// How long it has lasted, or lasted.
    pub(super) lasted_ns: u64,
    /// How often it began of late.
    pub(super) times: usize,
    /// How it ended.
    pub(super) end: End,
}

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) notices: Vec<Notice>,
    /// What there was no room to remember.
    pub(super) left_out: u64,
    /// How many of them only happened; they come last.
    pub(super) notes: usize,
}

#[derive(Clone, Debug)]
struct Condition {
    kind: Kind,
    gravity: Gravity,
    text: String,
    since: Now,
    over_ns: Option<u64>,
    /// How it was over.
    end: End,
    /// When it was last told that it is so.
    told_ns: Option<u64>,
    /// What is to be told, and when.
    say: Option<(News, u64)>,
    /// When it began of late.
    begins: VecDeque<u64>,
    flaps: bool,
}

/// What one webhook was told.
#[derive(Debug)]
pub(super) struct Conditions {
    known: BTreeMap<(Topic, String), Condition>,
    notes: VecDeque<(Notice, u64)>,
    noted: BTreeMap<(Topic, String), u64>,
    left_out: u64,
    /// Messages that may go out now, and since when that holds.
    burst: (f64, u64),
    failures: u32,
    not_before_ns: u64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            notes: VecDeque::new(),
            noted: BTreeMap::new(),
            left_out: 0,
            burst: (BURST, 0),
            failures: 0,
            not_before_ns: 0,
        }
    }
}

fn gravity(level: Level) -> Gravity {
    if level == Level::Bad { Gravity::Critical } else { Gravity::Warning }
}

impl Conditions {
    /// Something happened.
    pub(super) fn happens(&mut self, now: Now, happening: &Happening, hook: &Webhook) {
        let row = happening.kind.row();
        let gravity = gravity(row.level);
        let gather_ns = hook.gather_ms * MS;
        // A webhook that fails need not be told so by itself.
        let itself = |topic| topic == Topic::Webhook && happening.subject == *hook.name;
        match row.effect {
            Effect::Opens(topic) if hook.wants(topic, gravity) && !itself(topic) => {
                self.begin(now, topic, gravity, happening, gather_ns);
            }
            Effect::Closes(topic) => {
                let end = if happening.kind == Kind::KeyEnded { End::KeyEnded } else { End::Well };
                self.end(now, &(topic, happening.subject.clone()), end, gather_ns);
            }
            Effect::Notes(topic) if hook.wants(topic, gravity) => {
                self.note(now, topic, gravity, happening, gather_ns);
            }
            _ => {}
        }
    }

    /// Ends the conditions of [`KINDS`] that are not so any more, though nothing said so: a bench that ran out. `stand`
    /// are those that are.
    pub(super) fn only(&mut self, now: Now, stand: &BTreeSet<(Kind, String)>, hook: &Webhook) {
        let over = |(_, subject): &(Topic, String), condition: &Condition| {
            KINDS.contains(&condition.kind) && !stand.contains(&(condition.kind, subject.clone()))
        };
        self.end_all(now, over, End::Well, hook);
    }

    /// Ends the conditions of what is no longer there, whatever they were, and those that nobody would see end.
    pub(super) fn still_there(&mut self, now: Now, there: &There, hook: &Webhook) {
        self.end_all(now, |(topic, subject), _| !there.has(*topic, subject), End::Gone, hook);
        self.end_all(now, |_, one| !there.checks && CHECKED.contains(&one.kind), End::Unwatched, hook);
    }

    fn end_all(
        &mut self,
        now: Now,
        is_over: impl Fn(&(Topic, String), &Condition) -> bool,
        end: End,
        hook: &Webhook,
    ) {
        let over: Vec<_> =
            self.known.iter().filter(|(id, c)| is_over(id, c)).map(|(id, _)| id.clone()).collect();
        for id in over {
            self.end(now, &id, end, hook.gather_ms * MS);
        }
    }

    fn begin(&mut self, now: Now, topic: Topic, gravity: Gravity, what: &Happening, gather_ns: u64) {
        let id = (topic, what.subject.clone());
        if !self.known.contains_key(&id) && self.known.len() >= CONDITIONS_MAX {
            self.left_out += 1;
            return;
        }
        let condition = self.known.entry(id).or_insert_with(|| Condition {
            kind: what.kind,
            gravity,
            text: String::new(),
            since: now,
            over_ns: Some(now.mono_ns),
            end: End::Well,
            told_ns: None,
            say: None,
            begins: VecDeque::new(),
            flaps: false,
        });
        // What the state of keys tells the end of stays so, whoever else finds it out.
        if condition.over_ns.is_some() || !KINDS.contains(&condition.kind) {
            condition.kind = what.kind;
        }
        condition.gravity = gravity;
        condition.text.clone_from(&what.text);
        if condition.over_ns.take().is_none() {
            return;
        }
        condition.begins.push_back(now.mono_ns);
        condition.forget(now.mono_ns);
        let flaps = condition.begins.len() >= FLAPS;
        let due = now.mono_ns + gather_ns;
        condition.say = match (condition.told_ns, condition.say) {
            (_, Some((News::Flaps, due))) => Some((News::Flaps, due)),
            _ if flaps && !condition.flaps => Some((News::Flaps, due)),
            // It was told, and that it was over was not: nothing has changed.
            (Some(_), _) => None,
            (None, _) => Some((News::Begins, due)),
        };
        if condition.told_ns.is_none() {
            condition.since = now;
        }
        condition.flaps |= flaps;
    }

    fn end(&mut self, now: Now, id: &(Topic, String), end: End, gather_ns: u64) {
        let Some(condition) = self.known.get_mut(id) else { return };
        if condition.over_ns.is_some() {
            return;
        }
        (condition.over_ns, condition.end) = (Some(now.mono_ns), end);
        let calm_ns = if condition.flaps { FLAPS_NS } else { gather_ns };
        condition.say = match (condition.told_ns, condition.say) {
            (_, Some((News::Flaps, due))) => Some((News::Flaps, due)),
            (Some(_), _) => Some((News::Ends, now.mono_ns + calm_ns)),
            // It should have been told by now, and could not be.
            (None, Some((_, due))) if due <= now.mono_ns => Some((News::Ends, now.mono_ns)),
            (None, _) => None,
        };
    }

    fn note(&mut self, now: Now, topic: Topic, gravity: Gravity, what: &Happening, gather_ns: u64) {
        let id = (topic, format!("{} {}", what.kind.row().word, what.subject));
        self.noted.retain(|_, at| now.mono_ns < *at + NOTE_AGAIN_NS);
        if self.noted.contains_key(&id) {
            return;
        }
        if self.notes.len() >= NOTES_MAX || self.noted.len() >= CONDITIONS_MAX {
            self.left_out += 1;
            return;
        }
        self.noted.insert(id, now.mono_ns);
        let notice = Notice {
            news: News::Notes,
            topic,
            gravity,
            subject: what.subject.clone(),
            text: what.text.clone(),
            since_unix_ms: now.unix_ns / MS,
            lasted_ns: 0,
            times: 1,
            end: End::Well,
        };
        self.notes.push_back((notice, now.mono_ns + gather_ns));
    }

    /// What is to be said now, if anything is.
    pub(super) fn message(&mut self, now: Now, hook: &Webhook) -> Option<Message> {
        let now_ns = now.mono_ns;
        self.known.retain(|_, condition| !condition.is_forgotten(now_ns));
        let (left, since) = self.burst;
        let left = (left + now_ns.saturating_sub(since) as f64 / PAUSE_NS as f64).min(BURST);
        self.burst = (left, now_ns);
        if now_ns < self.not_before_ns || left < 1.0 {
            return None;
        }
        let due = self.known.iter().filter_map(|((topic, subject), condition)| {
            let news = condition.due(now_ns, hook.remind_ms.map(|ms| ms * MS))?;
            Some(condition.notice(news, *topic, subject, now_ns))
        });
        let mut notices: Vec<Notice> = due.collect();
        // The gravest first, and what is over last.
        notices.sort_by_key(|notice| (notice.news == News::Ends, std::cmp::Reverse(notice.gravity)));
        let notes = self.notes.iter().take_while(|(_, due)| *due <= now_ns).map(|(notice, _)| notice.clone());
        let before = notices.len();
        notices.extend(notes);
        let notes = notices.len() - before;
        (!notices.is_empty()).then_some(Message { notices, left_out: self.left_out, notes })
    }

    /// A message was delivered.
    pub(super) fn delivered(&mut self, now: Now, message: &Message, hook: &Webhook) {
        (self.failures, self.not_before_ns) = (0, 0);
        self.burst.0 -= 1.0;
        self.left_out -= message.left_out.min(self.left_out);
        self.notes.drain(..message.notes.min(self.notes.len()));
        for notice in message.notices.iter().filter(|notice| notice.news != News::Notes) {
            let id = (notice.topic, notice.subject.clone());
            let Some(condition) = self.known.get_mut(&id) else { continue };
            let said = condition.say.is_some_and(|(news, _)| news == notice.news);
            if said {
                condition.say = None;
            }
            match (notice.news, condition.over_ns) {
                // When it began is kept for a while: it may come and go.
                (News::Ends, Some(_)) => {
                    condition.told_ns = None;
                    if std::mem::take(&mut condition.flaps) {
                        condition.begins.clear();
                    }
                }
                // It began again while that it was over was on its way.
                (News::Ends, None) => {
                    (condition.told_ns, condition.since) = (None, now);
                    condition.say.get_or_insert((News::Begins, now.mono_ns + hook.gather_ms * MS));
                }
                (News::Flaps, Some(over_ns)) => {
                    condition.told_ns = Some(now.mono_ns);
                    condition.say = Some((News::Ends, over_ns + FLAPS_NS));
                }
                _ => condition.told_ns = Some(now.mono_ns),
            }
        }
    }

    /// A message could not be delivered; `wait_ns` if the other side said when to come back. Returns how often in a row
    /// that was.
    pub(super) fn failed(&mut self, now: Now, wait_ns: Option<u64>) -> u32 {
        let (first, last) = BACKOFF_NS;
        let pause = first.saturating_mul(1 << self.failures.min(16)).min(last);
        self.failures = self.failures.saturating_add(1);
        self.not_before_ns = now.mono_ns + wait_ns.unwrap_or(0).min(NOTE_AGAIN_NS).max(pause);
        self.failures
    }

    /// How many conditions there are now.
    pub(super) fn open(&self) -> usize {
        self.known.values().filter(|condition| condition.over_ns.is_none()).count()
    }
}

impl Condition {
    /// Forgets when it began long ago.
    fn forget(&mut self, now_ns: u64) {
        while self.begins.front().is_some_and(|at| at + FLAPS_NS <= now_ns) || self.begins.len() > BEGINS_MAX
        {
            self.begins.pop_front();
        }
    }

    /// Over, with nothing to say, and too long ago to count.
    fn is_forgotten(&self, now_ns: u64) -> bool {
        let over = self.over_ns.is_some_and(|over| now_ns >= over + FLAPS_NS);
        over && self.say.is_none() && self.told_ns.is_none()
    }

    fn due(&self, now_ns: u64, remind_ns: Option<u64>) -> Option<News> {
        match (self.say, self.told_ns, remind_ns) {
            (Some((news, due)), _, _) => (due <= now_ns).then_some(news),
            (None, Some(told), Some(remind)) if self.over_ns.is_none() => {
                (now_ns >= told + remind).then_some(News::Reminds)
            }
            _ => None,
        }
    }

    fn notice(&self, news: News, topic: Topic, subject: &str, now_ns: u64) -> Notice {
        Notice {
            news,
            topic,
            gravity: self.gravity,
            subject: subject.to_owned(),
            text: self.text.clone(),
            since_unix_ms: self.since.unix_ns / MS,
            lasted_ns: self.over_ns.unwrap_or(now_ns).saturating_sub(self.since.mono_ns),
            times: self.begins.len(),
            end: self.end,
        }
    }
}

#[cfg(test)]
pub(super) use tests::hook;

#[cfg(test)]
mod tests;
