//! Who comes when, and with how much. One source for each kind of traffic, each with random numbers of its own, so that
//! a change of one does not change the others. Sources are asked for one arrival after the other: a million requests
//! are never in memory before they come.

use crate::rng::Rng;
use crate::spec::{Arrivals, Line, Stranger, Tokens, Traffic};
use crate::time::{ns_of, s_of};

/// One arrival.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrival {
    pub(crate) at_ns: u64,
    pub(crate) input: u64,
    pub(crate) output: u64,
    /// Among the clients of the source.
    pub(crate) client: u64,
    /// What a line of a replay says beyond that.
    pub(crate) route: Option<u32>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) tag: u32,
}

/// A source of requests.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    rng: Rng,
    arrivals: Arrivals,
    input: Tokens,
    output: Tokens,
    clients: u64,
    until_s: f64,
    at_s: f64,
    from_s: f64,
    /// Left of those that come all at once.
    herd: u64,
    lines: std::vec::IntoIter<Line>,
}

impl Source {
    pub(crate) fn of_traffic(traffic: &Traffic, seconds: f64, rng: Rng) -> Self {
        let until_s = traffic.to_s.unwrap_or(seconds).min(seconds);
        Self::new(
            &traffic.arrivals,
            (&traffic.input, &traffic.output),
            traffic.clients,
            (traffic.from_s, until_s),
            rng,
        )
        .with(traffic.lines.clone())
    }

    pub(crate) fn of_stranger(stranger: &Stranger, seconds: f64, rng: Rng) -> Self {
        let until_s = stranger.to_s.unwrap_or(seconds).min(seconds);
        Self::new(&stranger.arrivals, (&stranger.input, &stranger.output), 1, (stranger.from_s, until_s), rng)
    }

    fn new(
        arrivals: &Arrivals,
        (input, output): (&Tokens, &Tokens),
        clients: u64,
        (from_s, until_s): (f64, f64),
        rng: Rng,
    ) -> Self {
        let herd = match arrivals {
            Arrivals::Once => 1,
            Arrivals::Herd(n) => *n,
            Arrivals::Closed { callers, .. } => *callers,
            _ => 0,
        };
        Self {
            rng,
            arrivals: arrivals.clone(),
            input: input.clone(),
            output: output.clone(),
            clients: clients.max(1),
            until_s,
            at_s: from_s,
            from_s,
            herd,
            lines: Vec::new().into_iter(),
        }
    }

    fn with(mut self, lines: Vec<Line>) -> Self {
        self.lines = lines.into_iter();
        self
    }

    /// The next arrival; `None` when there is none any more.
    pub(crate) fn next(&mut self) -> Option<Arrival> {
        if let Arrivals::Replay(_) = self.arrivals {
            let line = self.lines.next().filter(|line| line.at_s <= self.until_s)?;
            let at_ns = ns_of(self.from_s + line.at_s);
            return Some(Arrival {
                at_ns,
                input: line.input,
                output: line.output,
                client: line.client % self.clients,
                route: line.route,
                max_tokens: line.max_tokens,
                deadline_ms: line.deadline_ms,
                tag: line.tag,
            });
        }
        if let Arrivals::Once | Arrivals::Herd(_) | Arrivals::Closed { .. } = self.arrivals {
            self.herd = self.herd.checked_sub(1)?;
            return Some(self.arrival());
        }
        self.at_s = self.step()?;
        (self.at_s <= self.until_s).then(|| self.arrival())
    }

    /// Where callers wait for their answers: when the next request of one comes whose answer ended now.
    pub(crate) fn after_answer(&mut self, now_ns: u64) -> Option<Arrival> {
        let Arrivals::Closed { think_ms, .. } = self.arrivals else { return None };
        self.at_s = s_of(now_ns) + self.rng.exponential(think_ms / 1e3);
        (self.at_s <= self.until_s).then(|| self.arrival())
    }

    fn arrival(&mut self) -> Arrival {
        Arrival {
            at_ns: ns_of(self.at_s),
            input: draw(&self.input, &mut self.rng),
            output: draw(&self.output, &mut self.rng),
            client: self.rng.below(self.clients),
            route: None,
            max_tokens: None,
            deadline_ms: None,
            tag: 0,
        }
    }

    fn step(&mut self) -> Option<f64> {
        let (most, steady) = match self.arrivals {
            Arrivals::Poisson(rate) => (rate, true),
            Arrivals::Uniform(rate) => return (rate > 0.0).then_some(self.at_s + 1.0 / rate),
            Arrivals::Burst { base, peak, .. } => (base.max(peak), false),
            Arrivals::Diurnal { low, high, .. } => (low.max(high), false),
            Arrivals::Closed { .. } | Arrivals::Once | Arrivals::Herd(_) | Arrivals::Replay(_) => {
                return None;
            }
        };
        if most <= 0.0 {
            return None;
        }
        // Thinning (Lewis and Shedler 1979): draw at the highest rate, keep in proportion.
        let mut at = self.at_s;
        loop {
            at += self.rng.exponential(1.0 / most);
            if at > self.until_s || steady || self.rng.unit() * most < self.rate(at) {
                return Some(at);
            }
        }
    }

    fn rate(&self, at_s: f64) -> f64 {
        match self.arrivals {
            Arrivals::Burst { base, peak, at_s: first, for_s, every_s } => {
                let since = at_s - first;
                let phase = if every_s > 0.0 { since.rem_euclid(every_s) } else { since };
                if since >= 0.0 && phase < for_s { peak } else { base }
            }
            Arrivals::Diurnal { low, high, period_s } => {
                let swing = (at_s / period_s * std::f64::consts::TAU).sin();
                low + (high - low) * (1.0 + swing) / 2.0
            }
            _ => 0.0,
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range first")]
fn draw(tokens: &Tokens, rng: &mut Rng) -> u64 {
    match *tokens {
        Tokens::Fixed(n) => n,
        Tokens::Between(low, high) => low + rng.below(high.saturating_sub(low) + 1),
        Tokens::LogNormal { median, sigma, min, max } => {
            rng.log_normal(median, sigma).clamp(min as f64, max as f64).round() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(arrivals: Arrivals, seconds: f64) -> Vec<f64> {
        let traffic = Traffic { arrivals, ..Traffic::default() };
        let mut source = Source::of_traffic(&traffic, seconds, Rng::new(5));
        std::iter::from_fn(|| source.next()).map(|a| s_of(a.at_ns)).collect()
    }

    #[test]
    fn each_model_brings_as_many_as_it_says_and_bursts_come_when_they_should() {
        let close = |n: usize, want: f64| assert!((n as f64 - want).abs() < 4.0 * want.sqrt(), "{n} {want}");
        close(times(Arrivals::Poisson(20.0), 500.0).len(), 10_000.0);
        assert_eq!(times(Arrivals::Uniform(10.0), 100.0).len(), 1_000);
        close(times(Arrivals::Diurnal { low: 0.0, high: 20.0, period_s: 100.0 }, 500.0).len(), 5_000.0);
        let burst = Arrivals::Burst { base: 5.0, peak: 50.0, at_s: 10.0, for_s: 2.0, every_s: 60.0 };
        let burst = times(burst, 100.0);
        let inside = burst.iter().filter(|t| (10.0..12.0).contains(*t) || (70.0..72.0).contains(*t)).count();
        close(inside, 200.0);
        close(burst.len() - inside, 96.0 * 5.0);
        assert_eq!(times(Arrivals::Herd(7), 10.0), [0.0; 7]);
    }

    #[test]
    fn a_recorded_file_is_replayed_line_by_line_and_a_broken_one_is_told_with_its_line() {
        let read = |lines: &str| {
            let text = "seconds = 30\n[[provider]]\nname = \"p\"\naccount = [{ key = [{}] }]\n[[traffic]]\nclients = 2\n\
                        from_s = 1.0\narrivals = { replay = \"past.csv\" }\n";
            let mut scenario = crate::Scenario::read(text).expect("a scenario");
            let asked =
                |file: &str| if file == "past.csv" { Ok(lines.to_owned()) } else { Err(file.to_owned()) };
            scenario.attach(asked).map(|()| scenario).map_err(|e| e.to_string())
        };
        let scenario =
            read("# seconds,input,output,client\n5.5, 300, 30, 1\n\n0.25,200,20\n99,1,1\n").expect("lines");
        let mut source = Source::of_traffic(&scenario.traffic[0], scenario.seconds, Rng::new(5));
        let all: Vec<_> = std::iter::from_fn(|| source.next()).collect();
        let told = |a: &Arrival| (s_of(a.at_ns), a.input, a.output, a.client);
        // In order of time, from the source's begin on, and none after the end.
        assert_eq!(all.iter().map(told).collect::<Vec<_>>(), [(1.25, 200, 20, 0), (6.5, 300, 30, 1)]);
        let run = crate::simulate(&scenario, 1).expect("a run");
        assert_eq!(run.clients.iter().map(|c| c.answered).collect::<Vec<_>>(), [1, 1]);
        for broken in ["1,2", "1,2,x", "-1,2,3", "1,2,3,x"] {
            assert!(read(&format!("0,1,1\n{broken}\n")).expect_err(broken).starts_with("past.csv:2: wanted"));
        }
    }

    #[test]
    fn callers_that_wait_for_their_answers_are_never_more_than_there_are() {
        let traffic =
            Traffic { arrivals: Arrivals::Closed { callers: 3, think_ms: 100.0 }, ..Traffic::default() };
        let mut source = Source::of_traffic(&traffic, 10.0, Rng::new(5));
        assert_eq!(std::iter::from_fn(|| source.next()).count(), 3, "the rest come after answers");
        let next = source.after_answer(ns_of(2.0)).expect("one more");
        assert!(s_of(next.at_ns) > 2.0 && s_of(next.at_ns) < 4.0);
        assert_eq!(source.after_answer(ns_of(11.0)), None, "it is over");
        assert_eq!(Source::of_traffic(&Traffic::default(), 1.0, Rng::new(1)).after_answer(5), None);
    }

    #[test]
    fn mixed_sizes_keep_to_their_ends_and_their_middle() {
        let mut rng = Rng::new(1);
        let tokens = Tokens::LogNormal { median: 1_000.0, sigma: 1.5, min: 100, max: 100_000 };
        let mut drawn: Vec<u64> = (0..10_001).map(|_| draw(&tokens, &mut rng)).collect();
        drawn.sort_unstable();
        assert!(drawn[0] == 100 && drawn[10_000] > 50_000 && drawn[10_000] <= 100_000);
        assert!((900..1_100).contains(&drawn[5_000]), "{}", drawn[5_000]);
    }
}
