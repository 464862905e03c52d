//! What a client reads of its own limits on every answer, in OpenAI's words: `x-ratelimit-limit-requests` and so on. A
//! provider's own limits stay inside.

use super::{Client, Turnstile};
use crate::reply::Reply;
use keymux_policy::fleet::Dimension;

/// Adds them, for a client that has such limits.
pub fn add(turnstile: &Turnstile, client: &Client, reply: &mut Reply) {
    for standing in turnstile.standing(client.payers) {
        let names = match standing.dimension {
            Dimension::Requests => {
                ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]
            }
            Dimension::TotalTokens => {
                ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]
            }
            _ => continue,
        };
        reply.number(names[0], whole(standing.limit));
        reply.number(names[1], whole(standing.remaining));
        reply.field(names[2], duration(standing.reset_ns).as_bytes());
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what both can hold")]
fn whole(n: f64) -> u64 {
    n.clamp(0.0, 9e15) as u64
}

/// `0s`, `120ms`, `7.5s`, `2m3s`: as `OpenAI` writes them.
fn duration(ns: u64) -> String {
    let ms = ns.div_ceil(1_000_000);
    match ms {
        0 => "0s".to_owned(),
        1..=999 => format!("{ms}ms"),
        1_000..=59_999 => {
            let text = format!("{}.{:03}", ms / 1_000, ms % 1_000);
            format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => format!("{}m{}s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_clients_know_them() {
        let ms = 1_000_000;
        let told: Vec<String> =
            [0, 1, 120 * ms, 7_500 * ms, 60_000 * ms, 123_000 * ms].map(duration).to_vec();
        assert_eq!(told, ["0s", "1ms", "120ms", "7.5s", "1m0s", "2m3s"]);
    }
}
