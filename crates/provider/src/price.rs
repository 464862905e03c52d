//! Which of those behind an aggregator serves a model, by what it takes.

use crate::call::Call;
use crate::spec::ModelSpec;

/// The prices of whoever serves the call, in percent of the model's own: the dearest that it lets. None: nobody is so
/// cheap.
pub(crate) fn percent(model: &ModelSpec, call: &Call<'_>) -> Option<u64> {
    // Nano-dollars a token, in percent, against dollars for a million.
    let within = |nano_usd: u64, percent: u64, most: Option<f64>| {
        most.is_none_or(|most| (nano_usd * percent) as f64 / 100_000.0 <= most)
    };
    [model.dearest_percent, 100].into_iter().find(|percent| {
        within(model.input_nano_usd, *percent, call.max_price[0])
            && within(model.output_nano_usd, *percent, call.max_price[1])
    })
}

/// What the call is billed for input, cached input and output, in nano-dollars a token.
pub(crate) fn rates(model: Option<&ModelSpec>, call: &Call<'_>) -> [u64; 3] {
    let Some(model) = model else { return [0; 3] };
    let percent = percent(model, call).unwrap_or(100);
    [model.input_nano_usd, model.cached_nano_usd, model.output_nano_usd]
        .map(|nano_usd| nano_usd * percent / 100)
}
