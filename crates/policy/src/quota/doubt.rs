//! Whether a limit that answers tell of is the one that refuses. What is announced as 300 a minute may be enforced as
//! five a second, and then its headers, read as those of a limit of 300, promise what nobody gives: each refusal sets the
//! mirror right, and it is wrong again at once. A refusal that a mirror should have foreseen happens (somebody else uses
//! the account, answers overtake each other); one after the other, with few answers between them, they say that another
//! limit is at work, which only its refusals tell of.

/// So many refusals that are not made up for are too many.
const TOO_MANY: f32 = 4.0;
/// What an answer makes up for; and what each counts that was refused together with another.
const ANSWER: f32 = 0.25;
/// The most that those count which were refused together.
const TOGETHER: f32 = 2.0;

/// How little a limit explains.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Doubt {
    refusals: f32,
    /// Of that, what was refused together with the last.
    together: f32,
    heard_ns: u64,
}

impl Doubt {
    /// A request that was sent then was refused. However many were on their way together, it takes more than them.
    /// Tells whether there were too many.
    pub(crate) fn refused(&mut self, now_ns: u64, sent_ns: u64) -> bool {
        let counts = if sent_ns >= self.heard_ns {
            (self.heard_ns, self.together) = (now_ns, 0.0);
            1.0
        } else {
            ANSWER.min(TOGETHER - self.together)
        };
        self.together += counts;
        self.refusals += counts;
        self.refusals >= TOO_MANY
    }

    /// A request was not refused.
    pub(crate) fn answered(&mut self) {
        self.refusals = (self.refusals - ANSWER).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_one_after_the_other_are_too_many_and_one_volley_is_not() {
        let mut doubt = Doubt::default();
        for n in 0..3 {
            assert!(!doubt.refused(100 * n + 90, 100 * n));
        }
        assert!(doubt.refused(390, 300));
        doubt.answered();
        doubt.answered();
        assert!(!doubt.refused(395, 305), "answers speak for it");
        let mut doubt = Doubt::default();
        for n in 0..100 {
            assert!(!doubt.refused(100 + n, 0), "all sent before the first was heard of");
        }
        assert!(!doubt.refused(300, 250));
        assert!((0..4).any(|n| doubt.refused(301 + n, 260)), "and then another volley");
    }

    #[test]
    fn now_and_then_one_among_answers_is_none_too_many() {
        let mut doubt = Doubt::default();
        for n in 0..1_000_u64 {
            assert!(!doubt.refused(10 * n + 5, 10 * n));
            for _ in 0..4 {
                doubt.answered();
            }
        }
    }
}
