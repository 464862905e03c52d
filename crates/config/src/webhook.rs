//! Whom to tell when something needs a person: chat rooms and programs that take messages by HTTP. Plain data; this
//! crate sends nothing.

use crate::secret::{Secret, SecretSource};
use crate::text::read::Words;
use crate::url::{BadUrl, BaseUrl, ProxyUrl};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What a person may want to be told of: a condition that begins and ends, or something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// A provider refuses a key.
    KeyOut,
    /// A model fails with a key, again and again.
    KeyDegraded,
    /// A key ends soon.
    KeyExpiring,
    /// An account has little credit left.
    CreditLow,
    /// An account has none.
    CreditOut,
    /// No key of a provider can be used.
    AllKeysOut,
    /// A provider fails with every key.
    ProviderDown,
    /// A budget is nearly or wholly spent, or was billed above its bound.
    Budget,
    /// Requests are refused because there is no room for them, here or at the providers.
    Refusing,
    /// What is spent cannot be written down as it should.
    Ledger,
    /// The configuration's file cannot be used; the old one stays in force.
    Reload,
    /// A webhook does not take its messages. The others are told.
    Webhook,
}

impl Topic {
    /// Its name in the configuration and in messages.
    pub fn word(self) -> &'static str {
        Words::word(self)
    }
}

/// What takes the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookKind {
    /// A program.
    #[default]
    Json,
    /// A channel of Slack, or of what understands the same.
    Slack,
    /// A group of Feishu or Lark.
    Feishu,
}

/// How grave something is that is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// Something is short, or will be.
    #[default]
    Warning,
    /// Something is out.
    Critical,
}

impl Gravity {
    /// Its name in the configuration and in messages.
    pub fn word(self) -> &'static str {
        Words::word(self)
    }
}

impl HookKind {
    /// Its name in the configuration.
    pub fn word(self) -> &'static str {
        Words::word(self)
    }
}

/// Where messages go.
#[derive(Clone, Debug)]
pub struct HookUrl {
    /// The server; its path is empty.
    pub server: BaseUrl,
    /// Path and query, which hold the token.
    pub target: Secret,
}

impl HookUrl {
    /// Reads `http[s]://host[:port]/path[?query]`.
    pub(crate) fn parse(text: &str) -> Result<Self, BadUrl> {
        let begin = text.find("://").map_or(0, |at| at + 3);
        let end = text[begin..].find(['/', '?', '#']).map_or(text.len(), |at| begin + at);
        let (server, target) = text.split_at(end);
        let server = BaseUrl::parse(server)?;
        if target.contains('#') {
            return Err(BadUrl::Fragment);
        }
        if target.bytes().any(|b| b"\"<>\\^`{|}".contains(&b)) {
            return Err(BadUrl::Characters);
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        let target = Secret::new(format!("{slash}{target}")).map_err(|_| BadUrl::Characters)?;
        Ok(Self { server, target })
    }
}

impl std::fmt::Display for HookUrl {
    /// Without what may be a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/…", self.server)
    }
}

/// Somebody to tell.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its name, unique.
    pub name: Arc<str>,
    /// What takes the messages.
    pub kind: HookKind,
    /// Where they go.
    pub url: HookUrl,
    /// Where the address stands.
    pub source: SecretSource,
    /// Signs them.
    pub secret: Option<Secret>,
    /// What it is told of. Never empty.
    pub topics: Vec<Topic>,
    /// The least grave that it is told of.
    pub severity: Gravity,
    /// How long to wait for more.
    pub gather_ms: u64,
    /// How often it is told again; `None`: never.
    pub remind_ms: Option<u64>,
    /// The proxy to use, with `server.proxy`, the environment and `no_proxy` taken into account.
    pub proxy: Option<ProxyUrl>,
}

/// What the secrets of Standard Webhooks begin with.
const WHSEC: &str = "whsec_";

impl Webhook {
    /// The bytes that sign: what follows `whsec_`, decoded, or the secret's own.
    pub fn signing_key(&self) -> Option<Zeroizing<Vec<u8>>> {
        let secret = self.secret.as_ref()?.expose();
        match secret.strip_prefix(WHSEC) {
            Some(encoded) if self.kind == HookKind::Json => decoded(encoded),
            _ => Some(Zeroizing::new(secret.as_bytes().to_vec())),
        }
    }

    /// Whether it is told of something like this.
    pub fn wants(&self, topic: Topic, gravity: Gravity) -> bool {
        gravity >= self.severity && self.topics.contains(&topic)
    }
}

fn decoded(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty()).map(Zeroizing::new)
}
