//! What happened, as a value: its kind, whom or what it is about, and a sentence. One table says of each kind how grave
//! it is and which condition begins or ends with it; the log, the timeline, the page and the webhooks go by it. It
//! knows names and words, and tells nobody itself.

use crate::live::Snapshot;
use crate::observe::class_label;
use keymux_config::Topic;
use keymux_policy::event::What;
use keymux_policy::fleet::{AccountId, Dimension, KeyId, OutputCharge, ProviderId};
use serde::Serialize;

/// How grave something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something is out.
    Bad,
    /// Something is short for a while.
    Warn,
    /// Something is back.
    Good,
    /// Something is different.
    Info,
}

/// What it means for those who are told when something needs a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A condition of its subject begins.
    Opens(Topic),
    /// It ends.
    Closes(Topic),
    /// Worth telling, and over when it is told.
    Notes(Topic),
    /// Nothing.
    Nothing,
}

macro_rules! kinds {
    ($($kind:ident,)*) => {
        /// What kind of thing happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the table below says it")]
        pub enum Kind { $($kind),* }

        impl Kind {
            /// All of them, in their order.
            pub const ALL: [Self; [$(Self::$kind),*].len()] = [$(Self::$kind),*];
        }
    };
}

kinds! {
    BreakerOpened,
    BreakerHalfOpen,
    BreakerClosed,
    ProviderOpened,
    ProviderClosed,
    KeyBenched,
    KeyRestored,
    AccountBenched,
    AccountRestored,
    AllKeysOut,
    SomeKeyBack,
    CapacityShut,
    CapacityRestored,
    LimitLearned,
    ChargingLearned,
    AccountJoined,
    KeyUnusable,
    KeyUsable,
    KeyExpires,
    KeyProlonged,
    KeyEnded,
    CreditLow,
    CreditRaised,
    QuotaShut,
    RetryBudgetSpent,
    Reconfigured,
    Refusing,
    RefusingNoMore,
    BudgetLow,
    BudgetSpent,
    BilledAbove,
    PriceTooLow,
    LedgerAway,
    LedgerBack,
    LedgerLogFails,
    LedgerLogWrites,
    LedgerLogFills,
    LedgerLogEmpties,
    LedgerLost,
    LedgerDamaged,
    Reloaded,
    ReloadRefused,
    ByOperator,
    WebhookFails,
    WebhookWorks,
    TracesAway,
    TracesBack,
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.row().word)
    }
}

/// The table's row of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, for machines.
    pub word: &'static str,
    /// How grave it is.
    pub level: Level,
    /// What begins or ends with it.
    pub effect: Effect,
}

impl Kind {
    /// The table.
    pub fn row(self) -> Row {
        use Effect::{Closes, Notes, Nothing, Opens};
        use Level::{Bad, Good, Info, Warn};
        use Topic::{AllKeysOut, Budget, CreditOut, KeyDegraded, KeyExpiring, KeyOut, Ledger, ProviderDown};
        let (word, level, effect) = match self {
            Self::BreakerOpened => ("breaker_opened", Warn, Opens(KeyDegraded)),
            Self::BreakerHalfOpen => ("breaker_half_open", Info, Nothing),
            Self::BreakerClosed => ("breaker_closed", Good, Closes(KeyDegraded)),
            Self::ProviderOpened => ("provider_out", Bad, Opens(ProviderDown)),
            Self::ProviderClosed => ("provider_back", Good, Closes(ProviderDown)),
            Self::KeyBenched => ("key_benched", Bad, Opens(KeyOut)),
            Self::KeyRestored => ("key_restored", Good, Closes(KeyOut)),
            // Only want of credit benches an account.
            Self::AccountBenched => ("account_benched", Bad, Opens(CreditOut)),
            Self::AccountRestored => ("account_restored", Good, Closes(CreditOut)),
            Self::AllKeysOut => ("all_keys_out", Bad, Opens(AllKeysOut)),
            Self::SomeKeyBack => ("some_key_back", Good, Closes(AllKeysOut)),
            Self::CapacityShut => ("capacity_shut", Warn, Nothing),
            Self::CapacityRestored => ("capacity_restored", Good, Nothing),
            Self::LimitLearned => ("limit_learned", Info, Nothing),
            Self::ChargingLearned => ("charging_learned", Info, Nothing),
            Self::AccountJoined => ("account_joined", Warn, Nothing),
            // Of checks. One may find what traffic has found already, and the other way round: it is one condition.
            Self::KeyUnusable => ("key_unusable", Bad, Opens(KeyOut)),
            Self::KeyUsable => ("key_usable", Good, Closes(KeyOut)),
            Self::KeyExpires => ("key_expires", Warn, Opens(KeyExpiring)),
            Self::KeyProlonged => ("key_prolonged", Good, Closes(KeyExpiring)),
            // That it cannot be used is told as that.
            Self::KeyEnded => ("key_ended", Warn, Closes(KeyExpiring)),
            Self::CreditLow => ("credit_low", Warn, Opens(Topic::CreditLow)),
            Self::CreditRaised => ("credit_raised", Good, Closes(Topic::CreditLow)),
            Self::QuotaShut => ("quota_used_up", Warn, Nothing),
            Self::RetryBudgetSpent => ("retry_budget_spent", Warn, Nothing),
            Self::Reconfigured => ("reconfigured", Info, Nothing),
            Self::Refusing => ("refusing", Bad, Opens(Topic::Refusing)),
            Self::RefusingNoMore => ("refusing_no_more", Good, Closes(Topic::Refusing)),
            Self::BudgetLow => ("budget_low", Warn, Notes(Budget)),
            Self::BudgetSpent => ("budget_spent", Bad, Notes(Budget)),
            Self::BilledAbove => ("billed_above", Warn, Notes(Budget)),
            Self::PriceTooLow => ("price_too_low", Warn, Notes(Budget)),
            Self::LedgerAway => ("ledger_away", Bad, Opens(Ledger)),
            Self::LedgerBack => ("ledger_back", Good, Closes(Ledger)),
            Self::LedgerLogFails => ("ledger_log_fails", Bad, Opens(Ledger)),
            Self::LedgerLogWrites => ("ledger_log_writes", Good, Closes(Ledger)),
            Self::LedgerLogFills => ("ledger_log_fills", Bad, Opens(Ledger)),
            Self::LedgerLogEmpties => ("ledger_log_empties", Good, Closes(Ledger)),
            Self::LedgerLost => ("ledger_lost", Bad, Notes(Ledger)),
            Self::LedgerDamaged => ("ledger_damaged", Bad, Notes(Ledger)),
            Self::Reloaded => ("reloaded", Info, Closes(Topic::Reload)),
            Self::ReloadRefused => ("reload_refused", Bad, Opens(Topic::Reload)),
            Self::ByOperator => ("by_operator", Info, Nothing),
            Self::WebhookFails => ("webhook_fails", Warn, Opens(Topic::Webhook)),
            Self::WebhookWorks => ("webhook_works", Good, Closes(Topic::Webhook)),
            Self::TracesAway => ("traces_away", Warn, Nothing),
            Self::TracesBack => ("traces_back", Good, Nothing),
        };
        Row { word, level, effect }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// What kind of thing.
    pub kind: Kind,
    /// Whom or what it is about: a condition begins and ends with the same subject.
    pub subject: String,
    /// A sentence. Holds no secret.
    pub text: String,
}

impl Happening {
    /// Something of this kind, about `subject`.
    pub fn new(kind: Kind, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), text: text.into() }
    }

    /// An event of the scheduler, with names instead of ids.
    pub fn of(what: &What, snapshot: &Snapshot) -> Self {
        let with = |kind, subject: String, begin: &str, end: &str| {
            let text = format!("{begin}: {subject}{end}");
            Self { kind, subject, text }
        };
        let key = |id: &KeyId| key_name(snapshot, *id);
        let target = |id: &KeyId, model: &str| format!("{} {model}", key_name(snapshot, *id));
        let provider = |id: &ProviderId| provider_name(snapshot, *id);
        let account = |id: &AccountId| account_name(snapshot, *id);
        match what {
            What::BreakerOpened { key: id, model, last, .. } => {
                let last = format!(" (last: {})", class_label(*last));
                with(Kind::BreakerOpened, target(id, model), "breaker opened", &last)
            }
            What::BreakerHalfOpen { key: id, model } => {
                with(Kind::BreakerHalfOpen, target(id, model), "breaker half open", "")
            }
            What::BreakerClosed { key: id, model } => {
                with(Kind::BreakerClosed, target(id, model), "breaker closed", "")
            }
            What::ProviderOpened { provider: id, .. } => {
                with(Kind::ProviderOpened, provider(id), "provider out", "")
            }
            What::ProviderClosed { provider: id } => {
                with(Kind::ProviderClosed, provider(id), "provider back", "")
            }
            What::KeyBenched { key: id, why, .. } => {
                with(Kind::KeyBenched, key(id), "key benched", &format!(" ({})", class_label(*why)))
            }
            What::KeyRestored { key: id } => with(Kind::KeyRestored, key(id), "key restored", ""),
            What::AccountBenched { account: id, why, .. } => {
                let why = format!(" ({})", class_label(*why));
                with(Kind::AccountBenched, account(id), "account benched", &why)
            }
            What::AccountRestored { account: id } => {
                with(Kind::AccountRestored, account(id), "account restored", "")
            }
            What::CapacityShut { provider: id, model, .. } => {
                with(Kind::CapacityShut, format!("{} {model}", provider(id)), "no capacity", "")
            }
            What::CapacityRestored { provider: id, model } => {
                with(Kind::CapacityRestored, format!("{} {model}", provider(id)), "capacity again", "")
            }
            What::LimitLearned { account: id, dimension: counted, size } => {
                let what = format!(" {size:.0} {}", dimension(*counted));
                with(Kind::LimitLearned, account(id), "limit learned", &what)
            }
            What::ChargingLearned { provider: id, output } => {
                let what = format!(": its answers show that it charges {}", way_of_charging(*output));
                with(Kind::ChargingLearned, provider(id), "way of charging learned", &what)
            }
            What::AccountJoined { account: id, into } => {
                let what = format!(" shares the limits of {}, as its provider says", account(into));
                with(Kind::AccountJoined, account(id), "one account", &what)
            }
            What::QuotaShut { account: id, dimension: counted, .. } => {
                let what = counted.map(|counted| format!(" {}", dimension(counted))).unwrap_or_default();
                with(Kind::QuotaShut, account(id), "quota used up", &what)
            }
            What::RetryBudgetSpent => Self::new(Kind::RetryBudgetSpent, "", "the retry budget is spent"),
            What::Reconfigured => Self::new(Kind::Reconfigured, "", "the configuration was replaced"),
        }
    }
}

/// The word for what a limit counts.
pub fn dimension(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Requests => "requests",
        Dimension::InputTokens => "input tokens",
        Dimension::OutputTokens => "output tokens",
        Dimension::TotalTokens => "tokens",
        Dimension::Concurrent => "concurrent",
        Dimension::NanoUsd => "nano-dollars",
    }
}

fn way_of_charging(output: OutputCharge) -> &'static str {
    match output {
        OutputCharge::MaxTokensRefunded => "what is used in the end (max_tokens_refunded)",
        OutputCharge::MaxOfBoth => "the greater of max_tokens and the input (max_of_both)",
        OutputCharge::SumOfBoth => "the input and all of max_tokens (sum_of_both)",
        OutputCharge::AsProduced => "output as it is produced (as_produced)",
    }
}

/// `provider/account/key`, for people.
pub fn key_name(snapshot: &Snapshot, id: KeyId) -> String {
    match snapshot.key(id) {
        Some(key) => format!("{}/{}", account_name(snapshot, key.account), key.name),
        None => "a removed key".to_owned(),
    }
}

/// A provider, for people.
pub fn provider_name(snapshot: &Snapshot, id: ProviderId) -> String {
    snapshot.upstream(id).map_or_else(|| "a removed provider".to_owned(), |u| u.name.to_string())
}

/// `provider/account`, for people.
pub fn account_name(snapshot: &Snapshot, id: AccountId) -> String {
    snapshot.account_names.get(&id).cloned().unwrap_or_else(|| "a removed account".to_owned())
}
