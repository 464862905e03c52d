//! Open-loop load: requests are due at instants of their own, whether or not the ones before are answered, and
//! latency counts from the instant a request was due. A closed loop would slow down together with what it
//! measures and call that speed ("coordinated omission").

mod connection;
mod metronome;
mod run;
mod script;
mod streams;
mod summary;

use std::time::Duration;

pub use run::Answered;
pub use script::{Replies, Reply, Script, ScriptRequest, ScriptTarget};
pub use streams::{StreamLoad, StreamSummary};
pub use summary::{Latencies, Sample, Summary};

/// When requests are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// At equal distances.
    Steady,
    /// At random (exponential) distances with the same mean: what many independent callers look like.
    Random,
    /// So many at once, at the same mean rate.
    Burst {
        /// Requests in a burst.
        size: u32,
    },
}

/// One kind of request in the mix.
#[derive(Clone, Debug)]
pub struct Shot {
    /// How often it is chosen, relative to the others.
    pub weight: u32,
    /// Path after the target, such as `/chat/completions`.
    pub path: String,
    /// The body, JSON.
    pub body: String,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// The answer is a stream whose terminal event must be seen.
    pub stream: bool,
}

impl Shot {
    /// A chat completion.
    pub fn chat(model: &str, prompt: &str, max_tokens: u32, stream: bool) -> Self {
        let body = serde_json::json!({
            "model": model,
            "stream": stream,
            "max_tokens": max_tokens,
            "messages": [{ "role": "user", "content": prompt }],
        });
        Shot {
            weight: 1,
            path: "/chat/completions".to_owned(),
            body: body.to_string(),
            headers: Vec::new(),
            stream,
        }
    }

    /// The same with another weight.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The same with another header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A load: what, where, how much, for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// Base URL, `http` only, such as `http://127.0.0.1:4000/v1`.
    pub target: String,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<String>,
    /// Requests a second.
    pub rate: f64,
    /// When they are due.
    pub shape: Shape,
    /// For how long requests are due (their answers may take longer).
    pub duration: Duration,
    /// Not more than that many requests.
    pub count: Option<u64>,
    /// At most so many connections, each with one request at a time; a request that is due while all are busy
    /// waits for one, and its latency counts that.
    pub connections: usize,
    /// Give an answer up after that long.
    pub patience: Duration,
    /// What is asked.
    pub mix: Vec<Shot>,
    /// Seed of the choice among the mix and of random distances.
    pub seed: u64,
}

impl Default for Load {
    fn default() -> Self {
        Load {
            target: "http://127.0.0.1:4000/v1".to_owned(),
            token: None,
            rate: 10.0,
            shape: Shape::Steady,
            duration: Duration::from_secs(5),
            count: None,
            connections: 64,
            patience: Duration::from_mins(1),
            mix: vec![Shot::chat("default", "Say something.", 64, false)],
            seed: 1,
        }
    }
}
