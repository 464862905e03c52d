//! The HTTP surface: which path is which endpoint. `/v1/…` and `/api/v1/…` are the same; everything that is not
//! listed is 404, a provider's management paths always.

use http::Method;
use keymux_config::endpoint_at;
use keymux_policy::fleet::Endpoint;
use keymux_wire::body::Envelope;
use keymux_wire::head::BodyKind;

/// What a request line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface<'a> {
    /// A call to a model.
    Call(Endpoint),
    /// The list of models.
    Models,
    /// One model.
    Model(&'a str),
    /// Client keys and what they have spent, as OpenRouter shows its own.
    Own(Own<'a>),
    /// Is the process alive?
    Healthz,
    /// May requests be sent here?
    Readyz,
}

/// What is asked about client keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own<'a> {
    /// All keys, or a new one.
    Keys,
    /// The key with this hash.
    Key(&'a str),
    /// The caller's own key.
    Caller,
    /// The caller's credits.
    Credits,
    /// One request of the caller's.
    Generation,
}

/// Why a request line leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// No such path.
    Path,
    /// The path takes this method.
    Method(&'static str),
}

/// Finds out what is asked for.
pub fn find<'a>(method: &Method, path: &'a str) -> Result<Surface<'a>, Lost> {
    let (surface, allow, fits) = match path {
        "/healthz" => (Surface::Healthz, "GET", is_get(method)),
        "/readyz" => (Surface::Readyz, "GET", is_get(method)),
        _ => {
            let below =
                path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/api/v1/")).ok_or(Lost::Path)?;
            if below == "models" {
                (Surface::Models, "GET", is_get(method))
            } else if let Some(id) = below.strip_prefix("models/").filter(|id| !id.is_empty()) {
                (Surface::Model(id), "GET", is_get(method))
            } else if let Some((own, allow, fits)) = own(method, below) {
                (Surface::Own(own), allow, fits)
            } else {
                let endpoint = endpoint_at(below).ok_or(Lost::Path)?;
                (Surface::Call(endpoint), "POST", method == Method::POST)
            }
        }
    };
    if fits { Ok(surface) } else { Err(Lost::Method(allow)) }
}

fn own<'a>(method: &Method, below: &'a str) -> Option<(Own<'a>, &'static str, bool)> {
    Some(match below {
        "keys" => (Own::Keys, "GET, POST", is_get(method) || method == Method::POST),
        "key" | "auth/key" => (Own::Caller, "GET", is_get(method)),
        "credits" => (Own::Credits, "GET", is_get(method)),
        "generation" => (Own::Generation, "GET", is_get(method)),
        _ => {
            let hash = below.strip_prefix("keys/").filter(|hash| !hash.is_empty() && !hash.contains('/'))?;
            let fits = is_get(method) || method == Method::PATCH || method == Method::DELETE;
            (Own::Key(hash), "GET, PATCH, DELETE", fits)
        }
    })
}

fn is_get(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// What kind of body the endpoint takes.
pub fn body_kind(endpoint: Endpoint) -> BodyKind {
    match endpoint {
        Endpoint::ChatCompletions => BodyKind::Chat,
        Endpoint::Completions => BodyKind::Completions,
        Endpoint::Embeddings => BodyKind::Embeddings,
        Endpoint::Responses => BodyKind::Responses,
        Endpoint::Messages => BodyKind::Messages,
        Endpoint::CountTokens => BodyKind::CountTokens,
        _ => BodyKind::Other,
    }
}

/// The envelope of errors, by path. Each vendor's SDK understands no other: Anthropic's calls `messages` under either
/// prefix, `OpenRouter`'s lives below `/api/v1`. Slashes too many change nothing, as in [`normal`].
pub fn envelope(path: &str) -> Envelope {
    envelope_of_normal(&normal(path))
}

/// The envelope of errors on a path that is as everybody means it.
pub fn envelope_of_normal(path: &str) -> Envelope {
    if path.ends_with("/messages") || path.ends_with("/messages/count_tokens") {
        Envelope::Anthropic
    } else if path.starts_with("/api/v1/") {
        Envelope::OpenRouter
    } else {
        Envelope::OpenAi
    }
}

/// Whether the endpoint can answer with a stream of events.
pub fn streams(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Responses | Endpoint::Messages
    )
}

/// The path as everybody means it: a doubled or trailing slash (`base_url` with one too many) changes nothing.
pub fn normal(path: &str) -> std::borrow::Cow<'_, str> {
    let doubled = path.contains("//");
    let trailing = path.len() > 1 && path.ends_with('/');
    if !doubled && !trailing {
        return path.into();
    }
    let mut normal = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        normal.push('/');
        normal.push_str(part);
    }
    normal.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_prefixes_lead_to_the_same() {
        for (path, endpoint) in [
            ("chat/completions", Endpoint::ChatCompletions),
            ("messages/count_tokens", Endpoint::CountTokens),
            ("images", Endpoint::Images),
            ("images/edits", Endpoint::ImagesEdits),
        ] {
            for prefix in ["/v1/", "/api/v1/"] {
                assert_eq!(find(&Method::POST, &format!("{prefix}{path}")), Ok(Surface::Call(endpoint)));
            }
        }
        assert_eq!(find(&Method::GET, "/v1/models/a/b:c"), Ok(Surface::Model("a/b:c")));
    }

    #[test]
    fn nothing_else_leads_anywhere() {
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v1/keys/a/b",
            "/api/v1/credits/x",
            "/v2/chat/completions",
            "/v1/chat",
            "/v1/../v1/models",
        ] {
            assert_eq!(find(&Method::POST, path), Err(Lost::Path), "{path}");
        }
    }

    #[test]
    fn a_wrong_method_names_the_right_one() {
        assert_eq!(find(&Method::GET, "/v1/messages"), Err(Lost::Method("POST")));
        assert_eq!(find(&Method::POST, "/v1/models"), Err(Lost::Method("GET")));
        assert_eq!(find(&Method::DELETE, "/healthz"), Err(Lost::Method("GET")));
    }

    #[test]
    fn openrouters_surface_for_keys_is_our_own() {
        let at = |method: &Method, path| find(method, path).unwrap();
        assert_eq!(at(&Method::POST, "/api/v1/keys"), Surface::Own(Own::Keys));
        assert_eq!(at(&Method::PATCH, "/v1/keys/ab12"), Surface::Own(Own::Key("ab12")));
        assert_eq!(at(&Method::GET, "/v1/key"), Surface::Own(Own::Caller));
        assert_eq!(at(&Method::GET, "/api/v1/auth/key"), Surface::Own(Own::Caller));
        assert_eq!(find(&Method::PUT, "/v1/keys/ab"), Err(Lost::Method("GET, PATCH, DELETE")));
        assert_eq!(find(&Method::POST, "/v1/credits"), Err(Lost::Method("GET")));
    }

    #[test]
    fn a_slash_too_many_changes_nothing() {
        assert_eq!(normal("/v1//chat/completions/"), "/v1/chat/completions");
        assert_eq!(normal("//v1/models"), "/v1/models");
        assert!(matches!(normal("/v1/models"), std::borrow::Cow::Borrowed(_)));
    }

    #[test]
    fn errors_have_the_envelope_of_their_path() {
        assert_eq!(envelope("/v1/messages"), Envelope::Anthropic);
        assert_eq!(envelope("/api/v1/messages/count_tokens"), Envelope::Anthropic);
        assert_eq!(envelope("/v1/chat/completions"), Envelope::OpenAi);
        assert_eq!(envelope("/v1/api/v1/models"), Envelope::OpenAi);
        assert_eq!(envelope("/api/v1/chat/completions"), Envelope::OpenRouter);
        assert_eq!(envelope("/api/v1/models/a/b"), Envelope::OpenRouter);
        assert_eq!(envelope("//api/v1//responses/"), Envelope::OpenRouter);
        assert_eq!(envelope("/v1//messages/"), Envelope::Anthropic);
        assert_eq!(envelope("/"), Envelope::OpenAi);
    }
}
