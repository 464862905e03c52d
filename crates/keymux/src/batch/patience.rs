//! Lines that fail for a reason of the moment: a provider that is down, a gateway that is being restarted, a timeout. They
//! are kept and sent again, later and later. A line ends with its error only if it goes on failing while others of its
//! model are answered, so that it must be the line. As long as lines fail and nothing at all is answered, the batch waits;
//! when that has lasted for too long it ends, with these lines undone.
//!
//! Knows no clock.

use super::engine::Job;
use super::tell::duration;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

const SECOND_NS: u64 = 1_000_000_000;
/// How long nothing may be answered where nothing else is said.
pub const MOST_NS: u64 = 3_600 * SECOND_NS;
/// The same as long as nothing was answered at all: then it may be a mistake in an address.
pub const FIRST_NS: u64 = 120 * SECOND_NS;
/// Before a line is sent for the second time; doubled each time.
const PAUSE_NS: u64 = SECOND_NS;
const PAUSE_NS_MAX: u64 = 60 * SECOND_NS;
/// So often a line may fail while others of its model are answered; each time it was tried at all keys.
const TRIES_MAX: u32 = 3;
/// So often one of the last lines may, beside which nobody is answered. With the pauses that takes a minute.
const LAST_TRIES_MAX: u32 = 6;
/// Where each takes long: so many attempts within at least so much time.
const LAST_ATTEMPTS_MAX: u32 = 8;
const LAST_NS: u64 = 60 * SECOND_NS;
/// The same for one that brings no answer in time, which takes long and may cost.
const HANGS_MAX: u32 = 2;
/// What was silent for longer begins again all at once.
const SILENT_NS: u64 = 5 * SECOND_NS;
/// Lines that are kept, at most, before no new one begins.
const KEPT_MAX: usize = 1_024;

/// What came of a line before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trials {
    /// How often it failed.
    pub tries: u32,
    /// How often of these after others of its model had been sent and answered since it had failed before.
    proven: u32,
    /// When it failed first, and when last.
    first_ns: u64,
    last_ns: u64,
    /// Attempts at providers, all told.
    pub attempts: u32,
    /// What these cost.
    pub cost_nano_usd: u64,
}

/// Nothing is answered.
#[derive(Debug)]
struct Quiet {
    since_ns: u64,
    /// From here it counts.
    counts_ns: u64,
}

/// Keeps the lines that are sent again, and knows how long nothing was answered.
#[derive(Debug)]
pub struct Patience {
    /// As it was asked for.
    most_ns: Option<u64>,
    /// A provider has answered in this run.
    heard: bool,
    quiet: Option<Quiet>,
    /// When the last line that was answered had been sent, by the hash of what it asked for.
    answered: HashMap<u64, u64>,
    kept: BTreeMap<(u64, u64), Job>,
    kept_bytes: usize,
    /// Lines that may be sent again at once: one more for each that was answered, one after a failure.
    at_once: usize,
}

/// What a line asks for, as far as others that ask for the same tell of it.
pub fn kind(endpoint: &str, model: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (endpoint, model).hash(&mut hasher);
    hasher.finish()
}

impl Patience {
    /// With so much of it; `None`: the usual.
    pub fn new(most_ns: Option<u64>) -> Self {
        Self {
            most_ns,
            heard: false,
            quiet: None,
            answered: HashMap::new(),
            kept: BTreeMap::new(),
            kept_bytes: 0,
            at_once: 1,
        }
    }

    /// A line was answered that had been sent at this time; an error that is the line's own shows as well that its
    /// provider lives, but not that the others would have been answered.
    pub fn heard(&mut self, now_ns: u64, kind: u64, sent_ns: u64, is_answer: bool) {
        self.heard = true;
        if is_answer {
            let last = self.answered.entry(kind).or_default();
            *last = (*last).max(sent_ns);
        }
        let silent = self.quiet.take().is_some_and(|quiet| now_ns >= quiet.since_ns + SILENT_NS);
        if silent && is_answer {
            for ((_, seq), job) in std::mem::take(&mut self.kept) {
                self.kept.insert((now_ns, seq), job);
            }
        }
    }

    /// A line failed. Whether it is kept, or has failed for the last time. `is_last`: most lines were answered and hardly
    /// one is left, so that nothing more can tell whether it is this line or the provider.
    pub fn keep(&mut self, now_ns: u64, mut job: Job, (kind, hung): (u64, bool), is_last: bool) -> bool {
        let trials = &mut job.trials;
        if trials.tries == 0 {
            trials.first_ns = now_ns;
        } else if self.answered.get(&kind).is_some_and(|sent_ns| *sent_ns > trials.last_ns) {
            trials.proven += 1;
        }
        self.at_once = if trials.tries > 0 { 1 } else { self.at_once };
        trials.tries += 1;
        trials.last_ns = now_ns;
        let (most, last) = if hung { (HANGS_MAX, HANGS_MAX) } else { (TRIES_MAX, LAST_TRIES_MAX) };
        let often = trials.attempts >= LAST_ATTEMPTS_MAX && now_ns - trials.first_ns >= LAST_NS;
        if trials.proven >= most || (is_last && (trials.tries > last || often)) {
            return false;
        }
        let pause_ns = (PAUSE_NS << (trials.tries - 1).min(6)).min(PAUSE_NS_MAX);
        self.kept_bytes += job.call.body.len();
        self.kept.insert((now_ns + pause_ns, job.seq), job);
        self.quiet.get_or_insert(Quiet { since_ns: now_ns, counts_ns: now_ns });
        true
    }

    /// A line that was sent again was answered.
    pub fn went_well(&mut self) {
        self.at_once = self.at_once.saturating_add(1);
    }

    /// Whether one more may be sent again, beside so many that are, and `others`. Lines that crash whatever they meet would
    /// else be the only ones on the way, and shut their provider for all.
    pub fn may_send(&self, again: usize, others: usize) -> bool {
        again < self.at_once.max(others / 8)
    }

    /// A line whose time has come.
    pub fn due(&mut self, now_ns: u64) -> Option<Job> {
        let first = self.kept.first_entry().filter(|first| first.key().0 <= now_ns)?;
        let job = first.remove();
        self.kept_bytes -= job.call.body.len();
        Some(job)
    }

    /// Lines that are kept.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Whether new lines may begin beside those that are kept.
    pub fn has_room(&self) -> bool {
        self.kept.len() < KEPT_MAX
    }

    /// The first line that is kept, by its number.
    pub fn first(&self) -> Option<u64> {
        self.kept.values().map(|job| job.number).min()
    }

    /// What is kept is given up: nothing is sent any more.
    pub fn give_up(&mut self) {
        (self.kept, self.kept_bytes) = (BTreeMap::new(), 0);
    }

    /// How things are: `troubled`, lines wait for somebody who is out, or are being sent again; `limited`, some wait for a
    /// limit, which comes back however long that takes.
    pub fn look(&mut self, now_ns: u64, troubled: bool, limited: bool) {
        if self.kept.is_empty() && !troubled {
            self.quiet = None;
            return;
        }
        let quiet = self.quiet.get_or_insert(Quiet { since_ns: now_ns, counts_ns: now_ns });
        if limited {
            quiet.counts_ns = now_ns;
        }
    }

    fn most_ns(&self) -> u64 {
        self.most_ns.unwrap_or(if self.heard { MOST_NS } else { FIRST_NS })
    }

    /// For how long nothing was answered, once that has lasted for a moment. `trouble` is what was seen last.
    pub fn told(&self, now_ns: u64, trouble: &str) -> Option<String> {
        let since_ns = now_ns.saturating_sub(self.quiet.as_ref()?.since_ns);
        (since_ns >= SECOND_NS).then(|| {
            let (lasted, most) = (shown(since_ns), shown(self.most_ns()));
            format!("no answer for {lasted}{}; ends after {most} (--patience)", because(trouble))
        })
    }

    /// Whether it has lasted for too long, and what that was.
    pub fn is_over(&self, now_ns: u64, trouble: &str) -> Option<String> {
        let lasted_ns = now_ns.saturating_sub(self.quiet.as_ref()?.counts_ns);
        (lasted_ns >= self.most_ns())
            .then(|| format!("nothing was answered for {}{}", shown(lasted_ns), because(trouble)))
    }
}

fn because(trouble: &str) -> String {
    if trouble.is_empty() { String::new() } else { format!(" ({trouble})") }
}

fn shown(ns: u64) -> String {
    match ns / SECOND_NS {
        s if s >= 3_600 && s.is_multiple_of(3_600) => format!("{} h", s / 3_600),
        s if s >= 60 && s.is_multiple_of(60) => format!("{} min", s / 60),
        _ => duration(ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::line;

    const S: u64 = SECOND_NS;

    fn job(seq: u64) -> Job {
        let call = line::read("{\"prompt\":\"a\"}", seq + 1, Some("m")).unwrap();
        Job { seq, number: seq + 1, mark: 1, call, trials: Trials::default() }
    }

    /// Sends and fails a line as often as it is let: how often that was, and how long it took.
    fn failing(
        patience: &mut Patience,
        hung: bool,
        is_last: bool,
        mut between: impl FnMut(&mut Patience, u64),
    ) -> (u32, u64) {
        let (mut now, mut next) = (0, Some(job(0)));
        for tries in 1..100 {
            let Some(job) = next.take() else { panic!("it is gone") };
            if !patience.keep(now, job, (7, hung), is_last) {
                return (tries, now / S);
            }
            assert!(patience.due(now + S - 1).is_none(), "at once");
            now += 60 * S;
            between(patience, now);
            next = patience.due(now);
        }
        (u32::MAX, now / S)
    }

    #[test]
    fn a_line_that_fails_while_others_are_answered_ends_and_one_that_fails_with_all_does_not() {
        let answered = |patience: &mut Patience, now: u64| patience.heard(now, 7, now - 1, true);
        let mut patience = Patience::new(None);
        assert_eq!(failing(&mut patience, false, false, answered).0, TRIES_MAX + 1);
        assert_eq!(failing(&mut patience, true, false, answered).0, HANGS_MAX + 1);
        let fresh = || Patience::new(None);
        assert_eq!(failing(&mut fresh(), false, false, |_, _| {}).0, u32::MAX);
        // Answers to another model, to lines that were sent before it failed, and errors say nothing of it.
        assert_eq!(failing(&mut fresh(), false, false, |p, now| p.heard(now, 8, now - 1, true)).0, u32::MAX);
        assert_eq!(failing(&mut fresh(), false, false, |p, now| p.heard(now, 7, 0, true)).0, u32::MAX);
        assert_eq!(failing(&mut fresh(), false, false, |p, now| p.heard(now, 7, now - 1, false)).0, u32::MAX);
        // Answers before it failed again say nothing of that: one outage after the other is nobody's fault.
        let mut once = Patience::new(None);
        assert_eq!(
            failing(&mut once, false, false, |p, now| if now == 60 * S {
                p.heard(now, 7, now - 1, true);
            })
            .0,
            u32::MAX
        );
        // The last lines have nobody beside them any more.
        assert_eq!(failing(&mut fresh(), false, true, |_, _| {}).0, LAST_TRIES_MAX + 1);
    }

    #[test]
    fn a_last_line_whose_tries_take_long_ends_after_a_minute() {
        let mut patience = Patience::new(None);
        let mut late = |attempts, now, is_last| {
            let mut job = job(0);
            job.trials = Trials { tries: 1, attempts, ..Trials::default() };
            patience.keep(now, job, (7, false), is_last)
        };
        assert!(late(LAST_ATTEMPTS_MAX, LAST_NS - 1, true) && late(LAST_ATTEMPTS_MAX - 1, LAST_NS, true));
        assert!(late(LAST_ATTEMPTS_MAX, LAST_NS, false), "others are left");
        assert!(!late(LAST_ATTEMPTS_MAX, LAST_NS, true));
    }

    #[test]
    fn pauses_grow_and_end_when_answers_come_again() {
        let mut patience = Patience::new(None);
        let mut now = 0;
        let mut next = job(0);
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(patience.keep(now, next, (7, false), false));
            assert!(patience.due(now + pause * S - 1).is_none());
            now += pause * S;
            next = patience.due(now).unwrap();
        }
        assert!(patience.keep(now, next, (7, false), false));
        assert_eq!((patience.kept(), patience.bytes() > 0), (1, true));
        patience.heard(now + S, 9, now, true);
        assert!(patience.due(now + S).is_some(), "all begin again");
        assert_eq!((patience.kept(), patience.bytes()), (0, 0));
        // After a moment of silence they keep their pauses.
        assert!(patience.keep(0, job(0), (7, false), false));
        patience.heard(S / 2, 9, 0, true);
        assert!(patience.due(S / 2).is_none());
    }

    #[test]
    fn lines_are_sent_again_one_by_one_until_they_are_answered() {
        let mut patience = Patience::new(None);
        assert!(patience.may_send(0, 7) && !patience.may_send(1, 7));
        assert!(patience.may_send(3, 32) && !patience.may_send(4, 32), "beside many others, some");
        (0..9).for_each(|_| patience.went_well());
        assert!(patience.may_send(9, 0) && !patience.may_send(10, 0));
        assert!(patience.keep(0, job(0), (7, false), false));
        assert!(
            patience.may_send(9, 0),
            "the first failure of a line says nothing of those that are sent again"
        );
        let again = patience.due(S).unwrap();
        assert!(patience.keep(S, again, (7, false), false));
        assert!(patience.may_send(0, 0) && !patience.may_send(1, 0));
    }

    #[test]
    fn it_ends_when_nothing_was_answered_for_too_long() {
        let over = |patience: &Patience, now: u64| patience.is_over(now, "lab/a: 500");
        let mut patience = Patience::new(None);
        assert_eq!(over(&patience, u64::MAX), None);
        assert!(patience.keep(0, job(0), (7, false), false));
        assert_eq!(over(&patience, FIRST_NS - 1), None);
        let told = "nothing was answered for 2 min (lab/a: 500)";
        assert_eq!(over(&patience, FIRST_NS).as_deref(), Some(told), "nobody ever answered");
        patience.heard(S, 7, 0, true);
        patience.look(2 * S, false, false);
        assert_eq!(over(&patience, MOST_NS + S), None, "it counts from the last answer");
        assert!(over(&patience, MOST_NS + 2 * S).is_some());
        assert_eq!(patience.told(2 * S, ""), None);
        assert_eq!(patience.told(14 * S, "").unwrap(), "no answer for 12 s; ends after 1 h (--patience)");
        let mut asked = Patience::new(Some(5 * S));
        asked.look(0, true, false);
        asked.look(4 * S, true, true);
        assert_eq!(over(&asked, 8 * S), None, "a limit comes back");
        assert!(over(&asked, 9 * S).is_some());
        asked.look(9 * S, false, false);
        assert_eq!(over(&asked, u64::MAX), None, "it is over");
    }
}
