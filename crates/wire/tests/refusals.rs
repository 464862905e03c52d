//! Every file of `corpus/refusals`: a refusal in the words of a provider, written by us after its documents, and all
//! that must be read from it. A line that is not understood, a fact that is not expected and a file of another kind
//! all fail.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use keymux_wire::error::{Dialect, ErrorFacts, Profile, Sign, read, read_in_ok};

/// 2026-11-23T10:00:00Z.
const NOW: u64 = 1_795_428_000_000_000_000;

#[derive(Default)]
struct Case {
    dialect: Option<Dialect>,
    profile: Option<Profile>,
    status: u16,
    headers: Vec<(String, String)>,
    in_ok: bool,
    hidden: Vec<String>,
    /// What is expected, one fact a line, as [`told`] writes it.
    facts: BTreeSet<String>,
    body: Vec<u8>,
}

fn case(text: &[u8]) -> Case {
    let split = memchr::memmem::find(text, b"\n---\n").expect("a line of three dashes");
    let mut case = Case { body: text[split + 5..].to_vec(), ..Case::default() };
    for line in std::str::from_utf8(&text[..split]).unwrap().lines() {
        let (name, value) = line.split_once(": ").expect(line);
        match name {
            "dialect" => {
                let all = [Dialect::OpenAi, Dialect::OpenRouter, Dialect::Anthropic];
                case.dialect = all.into_iter().find(|dialect| format!("{dialect:?}") == value);
            }
            "profile" => {
                use Profile::{Anthropic, Azure, Cerebras, Generic, Groq, Mistral, OpenAi, OpenRouter};
                let all = [OpenAi, Azure, Anthropic, Groq, Mistral, Cerebras, OpenRouter, Generic];
                case.profile = all.into_iter().find(|profile| format!("{profile:?}") == value);
            }
            "status" => {
                case.status = value.parse().unwrap();
            }
            "header" => {
                let (name, value) = value.split_once(": ").expect(line);
                case.headers.push((name.to_owned(), value.to_owned()));
            }
            "in-ok" => case.in_ok = value == "yes",
            "hidden" => case.hidden.push(value.to_owned()),
            "expect" | "effective" | "wait-ms" | "ready" | "relayed" | "limit" | "requested" | "upstream" => {
                case.facts.insert(line.to_owned());
            }
            _ => panic!("unknown line: {line}"),
        }
    }
    case
}

/// The facts that were read, in the corpus's own words.
fn told(facts: &ErrorFacts, case: &Case) -> BTreeSet<String> {
    let mut lines = BTreeSet::from([format!("expect: {:?}", facts.sign)]);
    let mut say =
        |name: &str, value: Option<String>| lines.extend(value.map(|value| format!("{name}: {value}")));
    say("effective", (facts.status != case.status).then(|| facts.status.to_string()));
    say("wait-ms", facts.retry_after_ns.map(|ns| (ns / 1_000_000).to_string()));
    say("ready", facts.ready_at_unix_ns.map(|ns| (ns / 1_000_000_000).to_string()));
    say("relayed", facts.relayed.then(|| "yes".to_owned()));
    say("limit", facts.limit.map(|limit| limit.to_string()));
    say("requested", facts.requested.map(|requested| requested.to_string()));
    say("upstream", facts.upstream.as_deref().map(str::to_owned));
    lines
}

#[test]
fn every_refusal_of_the_corpus_is_read_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/refusals");
    let mut signs = BTreeSet::new();
    let mut wrong = String::new();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(path.extension().and_then(|e| e.to_str()), Some("txt"), "{name} is not of this corpus");
        let case = case(&fs::read(&path).unwrap());
        let (dialect, profile) = (case.dialect.expect(&name), case.profile.expect(&name));
        let facts = if case.in_ok {
            read_in_ok(dialect, &case.body).expect(&name)
        } else {
            let headers = case.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            read(dialect, profile, case.status, headers, &case.body, NOW)
        };
        let got = told(&facts, &case);
        if got != case.facts {
            writeln!(wrong, "{name}\n  got  {got:?}\n  want {:?}", case.facts).unwrap();
        }
        for text in [&facts.message, &facts.code, &facts.error_type].into_iter().flatten() {
            assert!(text.chars().count() <= 300 && !text.chars().any(char::is_control), "{name}: {text:?}");
            assert!(!case.hidden.iter().any(|hidden| text.contains(hidden.as_str())), "{name}: {text}");
        }
        signs.insert(format!("{:?}", facts.sign).split(' ').next().unwrap().to_owned());
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count >= 130, "the corpus has shrunk to {count}");
    for sign in [
        Sign::BadRequest,
        Sign::ModelUnknown,
        Sign::TooDear,
        Sign::ContentRefused,
        Sign::ContextTooLong,
        Sign::TooLargeForLimit,
        Sign::KeyRefused,
        Sign::KeyForbidden,
        Sign::KeyCap,
        Sign::NoMoney,
        Sign::InFlightMoney,
        Sign::SharedCapacity,
        Sign::UpstreamCapacity,
        Sign::Overloaded,
        Sign::RegionRefused,
        Sign::ServerError,
        Sign::TimedOut,
        Sign::ClientClosed,
        Sign::NotSupported,
        Sign::Unrecognised,
    ] {
        assert!(signs.contains(&format!("{sign:?}")), "no file for {sign:?}");
    }
    assert!(signs.contains("RateLimited"));
}
