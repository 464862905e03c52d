//! Endpoints whose answers are not written token by token.

use crate::answer::Answer;
use crate::call::Call;
use crate::dialect::Dialect;
use crate::json::{base64, dollars, quote};
use crate::rng::mix;

/// Vectors derived from the seed, of unit length.
pub(crate) fn embeddings(call: &Call<'_>, dimensions: u32, answer: &Answer) -> String {
    let seed = answer.seed;
    let items: Vec<String> = (0..call.inputs.max(1))
        .map(|index| {
            let raw: Vec<f32> = (0..dimensions)
                .map(|d| {
                    let bits = mix(seed ^ mix(u64::from(index) << 32 | u64::from(d)));
                    f32::from(i16::from_le_bytes([bits.to_le_bytes()[0], bits.to_le_bytes()[1]]))
                })
                .collect();
            let norm = raw.iter().map(|x| x * x).sum::<f32>().sqrt().max(1.0);
            let vector: Vec<f32> = raw.iter().map(|x| x / norm).collect();
            let embedding = if call.base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                quote(&base64(&bytes))
            } else {
                let numbers: Vec<String> = vector.iter().map(|x| format!("{x:.7}")).collect();
                format!("[{}]", numbers.join(","))
            };
            format!(r#"{{"object":"embedding","index":{index},"embedding":{embedding}}}"#)
        })
        .collect();
    let tokens = call.input_tokens;
    let (id, cost) = match answer.dialect {
        Dialect::Openrouter => (
            format!(r#","id":{}"#, quote(&answer.id)),
            format!(r#","cost":{}"#, dollars(answer.cost_nano_usd)),
        ),
        _ => (String::new(), String::new()),
    };
    format!(
        r#"{{"object":"list","data":[{}],"model":{}{id},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}{cost}}}}}"#,
        items.join(","),
        quote(call.model)
    )
}

pub(crate) fn moderations(call: &Call<'_>, id: &str) -> String {
    let result = r#"{"flagged":false,"categories":{"hate":false,"violence":false,"sexual":false,"self-harm":false,"harassment":false},"category_scores":{"hate":0.0001,"violence":0.0002,"sexual":0.0001,"self-harm":0.0001,"harassment":0.0003}}"#;
    let results = vec![result; call.inputs.max(1) as usize].join(",");
    format!(r#"{{"id":{},"model":{},"results":[{results}]}}"#, quote(id), quote(call.model))
}

/// One transparent pixel for each picture asked for.
pub(crate) fn images(call: &Call<'_>, created_s: u64) -> String {
    const PIXEL: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
    let data = vec![format!(r#"{{"b64_json":"{PIXEL}"}}"#); call.n.max(1) as usize].join(",");
    let tokens = call.input_tokens;
    format!(
        r#"{{"created":{created_s},"data":[{data}],"usage":{{"total_tokens":{tokens},"input_tokens":{tokens},"output_tokens":0}}}}"#
    )
}

/// Bytes that are not text, so that a relay that decodes them is found out.
pub(crate) fn speech(seed: u64) -> Vec<u8> {
    let mut out = b"ID3\x04\x00\x00\x00\x00\x00\x00".to_vec();
    for i in 0..256 {
        out.extend_from_slice(&mix(seed ^ i).to_le_bytes());
    }
    out
}

pub(crate) fn transcription() -> String {
    r#"{"text":"The river carries light over stones.","usage":{"type":"duration","seconds":3}}"#.to_owned()
}

pub(crate) fn rerank(call: &Call<'_>, id: &str) -> String {
    let count = call.inputs.max(1);
    let results: Vec<String> = (0..count)
        .map(|index| format!(r#"{{"index":{index},"relevance_score":{:.4}}}"#, 1.0 / f64::from(index + 2)))
        .collect();
    format!(r#"{{"id":{},"model":{},"results":[{}]}}"#, quote(id), quote(call.model), results.join(","))
}

pub(crate) fn count_tokens(call: &Call<'_>) -> String {
    format!(r#"{{"input_tokens":{}}}"#, call.input_tokens)
}
