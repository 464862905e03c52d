//! Whether a limit that answers tell of is the one that refuses. What is announced as 300 a minute may be enforced as
//! five a second, and then its headers, read as those of a limit of 300, promise what nobody gives: each refusal sets the
//! mirror right, and it is wrong again at once. A refusal that a mirror should have foreseen happens (somebody else uses
//! the account, answers overtake each other); one after the other, with few answers between them, they say that another
//! limit is at work, which only its refusals tell of.

/// So many volleys of refusals, with no calm between them, are too many.
const TOO_MANY: u32 = 4;
/// So many answers without a refusal among them are a calm.
const CALM: u32 = 16;

/// How little a limit explains.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Doubt {
    /// Since the last calm.
    volleys: u32,
    answers: u32,
    heard_ns: u64,
}

impl Doubt {
    /// A request that was sent then was refused. However many were on their way together, they are one volley. Tells
    /// whether there were too many.
    pub(crate) fn refused(&mut self, now_ns: u64, sent_ns: u64) -> bool {
        if sent_ns >= self.heard_ns {
            self.volleys += 1;
            self.heard_ns = now_ns;
        }
        self.answers = 0;
        self.volleys >= TOO_MANY
    }

    /// A request was not refused.
    pub(crate) fn answered(&mut self) {
        self.answers += 1;
        if self.answers >= CALM {
            (self.volleys, self.answers) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volleys_one_after_the_other_are_too_many_and_one_is_not_however_large() {
        let mut doubt = Doubt::default();
        for n in 0..4 {
            for more in 0..100 {
                assert_eq!(doubt.refused(1_000 * n + 500 + more, 1_000 * n), n == 3);
            }
            for _ in 0..CALM - 1 {
                doubt.answered();
            }
        }
        doubt.answered();
        assert!(!doubt.refused(9_000, 8_500), "a calm speaks for it");
    }

    #[test]
    fn now_and_then_one_among_answers_is_none_too_many() {
        let mut doubt = Doubt::default();
        for n in 0..1_000_u64 {
            assert!(!doubt.refused(10 * n + 5, 10 * n));
            for _ in 0..CALM {
                doubt.answered();
            }
        }
    }
}
