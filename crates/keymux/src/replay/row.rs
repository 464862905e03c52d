//! A request of the past, as far as it matters here. Small, since there may be millions; names are shared.

use keymux_store::Record;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// When it came, in milliseconds since 1970; of a batch, since its beginning.
    pub started_unix_ms: u64,
    /// Who asked, by id; empty where clients are not told apart.
    pub client: Arc<str>,
    /// The model, as the client wrote it.
    pub model: Arc<str>,
    /// The endpoint, such as `chat/completions`.
    pub endpoint: Arc<str>,
    /// Who served it last.
    pub provider: Arc<str>,
    /// The status that the client saw.
    pub status: u16,
    /// Answered whole and well.
    pub answered: bool,
    /// Attempts.
    pub attempts: u32,
    /// Microseconds in the waiting room.
    pub queue_us: u64,
    /// Microseconds from its arrival to its first output.
    pub first_output_us: Option<u64>,
    /// Microseconds in all; 0 where nobody measured.
    pub total_us: u64,
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Of these, read from a cache.
    pub cached_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Nano-dollars; `None` where nobody said.
    pub cost_nano_usd: Option<u64>,
    /// The cap on its output, where that is known.
    pub max_tokens: Option<u64>,
}

impl Row {
    /// Whether it would come again: what was wrong in itself, or not allowed, used no quota and says nothing of a fleet.
    pub fn comes(&self) -> bool {
        !matches!(self.status, 400..=407 | 409..=428 | 430..=498)
    }

    /// Refused for want of room.
    pub fn refused(&self) -> bool {
        self.status == 429
    }

    /// Its caller went away.
    pub fn left(&self) -> bool {
        self.status == 499
    }

    /// Nobody knows how large it was.
    pub fn sizeless(&self) -> bool {
        !self.answered && self.input_tokens == 0 && self.output_tokens == 0
    }
}

/// Names that were met, each once.
#[derive(Debug, Default)]
pub struct Names(HashSet<Arc<str>>);

impl Names {
    /// The name, as it is kept.
    pub fn of(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        self.0.insert(new.clone());
        new
    }

    /// A row of the ledger.
    pub fn row(&mut self, r: &Record) -> Row {
        Row {
            started_unix_ms: r.started_unix_ms,
            client: self.of(&r.client),
            model: self.of(&r.model),
            endpoint: self.of(&r.endpoint),
            provider: self.of(&r.provider),
            status: r.status,
            answered: (200..300).contains(&r.status) && r.outcome == "answered",
            attempts: r.attempts,
            queue_us: r.queue_ns / 1_000,
            first_output_us: r.first_output_ns.map(|ns| ns / 1_000),
            total_us: r.total_ns / 1_000,
            input_tokens: r.used.input_tokens,
            cached_tokens: r.used.cached_input_tokens,
            output_tokens: r.used.output_tokens,
            cost_nano_usd: r.used.cost_nano_usd,
            max_tokens: None,
        }
    }
}

/// Sizes of some rows: how many they are, their input and their output.
#[derive(Clone, Copy, Default)]
struct Sizes(u64, u64, u64);

/// A client and a model; `None` is any.
type Alike = (Option<Arc<str>>, Option<Arc<str>>);

/// Those whose sizes are alike, the most alike first: of one client and model, of one model, of all.
fn alike(row: &Row) -> [Alike; 3] {
    let (client, model) = (Some(row.client.clone()), Some(row.model.clone()));
    [(client, model.clone()), (None, model), (None, None)]
}

/// Gives rows whose size nobody knows (most of them were refused) the mean size of what the same client asked of the same
/// model, or else anybody of it, or else anybody of any; says how many there were.
pub fn guess_sizes(rows: &mut [Row]) -> u64 {
    let mut sizes = HashMap::<_, Sizes>::new();
    for row in rows.iter().filter(|r| r.comes() && !r.sizeless()) {
        for of in alike(row) {
            let sum = sizes.entry(of).or_default();
            // A ledger may hold whatever a provider said.
            *sum = Sizes(
                sum.0 + 1,
                sum.1.saturating_add(row.input_tokens),
                sum.2.saturating_add(row.output_tokens),
            );
        }
    }
    let mut guessed = 0;
    for row in rows.iter_mut().filter(|r| r.comes() && r.sizeless()) {
        if let Some(Sizes(n, input, output)) = alike(row).iter().find_map(|of| sizes.get(of)) {
            (row.input_tokens, row.output_tokens) = (input / n, output / n);
        }
        guessed += 1;
    }
    guessed
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The n-th row: answered, a second after the one before.
    pub(crate) fn row(n: u64) -> Row {
        let name = |name: &str| -> Arc<str> { name.into() };
        Row {
            started_unix_ms: 1_800_000_000_000 + n * 1_000,
            client: name("ck-1"),
            model: name("m"),
            endpoint: name("chat/completions"),
            provider: name("lab"),
            status: 200,
            answered: true,
            attempts: 1,
            queue_us: 0,
            first_output_us: Some(200_000),
            total_us: 1_200_000,
            input_tokens: 100,
            cached_tokens: 0,
            output_tokens: 101,
            cost_nano_usd: Some(1_000),
            max_tokens: None,
        }
    }

    #[test]
    fn what_was_wrong_or_not_allowed_does_not_come_again_and_what_was_refused_does() {
        let of = |status| Row { status, ..row(0) }.comes();
        assert!([200, 408, 429, 499, 500, 503].into_iter().all(of));
        assert!(![400, 401, 402, 403, 404, 413, 422].into_iter().any(of));
    }

    #[test]
    fn a_refused_request_has_the_size_of_its_like() {
        let refused = |client: &str, model: &str| Row {
            status: 429,
            answered: false,
            client: client.into(),
            model: model.into(),
            input_tokens: 0,
            output_tokens: 0,
            ..row(9)
        };
        let large = Row { client: "ck-2".into(), input_tokens: 300, ..row(1) };
        let mut rows = vec![row(0), large, refused("ck-2", "m"), refused("ck-3", "m"), refused("ck-3", "n")];
        assert_eq!(guess_sizes(&mut rows), 3);
        assert_eq!(rows.iter().map(|r| r.input_tokens).collect::<Vec<_>>(), [100, 300, 300, 200, 200]);
        let vast = Row { input_tokens: u64::MAX, output_tokens: u64::MAX, ..row(0) };
        let mut rows = vec![vast.clone(), vast, refused("ck-1", "m")];
        assert_eq!((guess_sizes(&mut rows), rows[2].input_tokens), (1, u64::MAX / 2), "no overflow");
        let mut none = vec![refused("ck-1", "m")];
        assert_eq!((guess_sizes(&mut none), none[0].input_tokens), (1, 0), "nobody knows");
    }
}
