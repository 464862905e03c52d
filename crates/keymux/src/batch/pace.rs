//! How many lines begin in a second, where that is bounded. Knows no clock.

/// Lets lines begin in even steps.
#[derive(Debug)]
pub struct Pace {
    step_ns: u64,
    next_ns: u64,
}

impl Pace {
    /// At most so many a second.
    pub fn new(rate_max: Option<f64>) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let step_ns = rate_max.map_or(0, |rate| (1e9 / rate).clamp(0.0, 1e18) as u64);
        Self { step_ns, next_ns: 0 }
    }

    /// Whether it bounds anything.
    pub fn is_set(&self) -> bool {
        self.step_ns > 0
    }

    /// When the next line may begin.
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Whether a line may begin.
    pub fn is_open(&self, now_ns: u64) -> bool {
        self.step_ns == 0 || now_ns >= self.next_ns
    }

    /// A line begins. What was missed is not made up for beyond a tenth of a second.
    pub fn take(&mut self, now_ns: u64) {
        if self.step_ns > 0 {
            self.next_ns = self.next_ns.max(now_ns.saturating_sub(100_000_000)) + self.step_ns;
        }
    }
}
