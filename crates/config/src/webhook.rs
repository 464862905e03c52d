//! Whom to tell when something needs a person: chat rooms and programs that take messages by HTTP. Plain data; this
//! crate sends nothing.

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
        crate::text::read::Words::word(self)
    }
}
