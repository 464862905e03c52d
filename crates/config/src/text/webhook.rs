//! The `[[webhook]]` section.

use super::leaf::{SecretText, Wait};
use super::read::section;
use crate::problem::At;
use crate::webhook::{Gravity, HookKind, Topic};

section! {
    /// Whom to tell when something needs a person, and again when it is over. `docs/webhooks.md` says what is told, and how it looks.
    Webhook in "[[webhook]]" {
        /// Its name, for logs and `keymux webhooks`.
        name: String,
        /// What takes the messages: a program that takes JSON, a Slack incoming webhook, or a Feishu (Lark) custom bot.
        kind: HookKind = "\"json\"",
        /// Where they are sent. Such addresses hold a token, so this says where it stands: `"env:NAME"`, `"file:/path"`, `"cmd:program argument"` or `"literal:https://…"`. Redirects are not followed.
        url: SecretText,
        /// Signs messages: for `json` as Standard Webhooks has it (with `whsec_…` as its libraries take it, or any other text), for `feishu` as the bot's signature check wants it. Slack knows no such thing.
        secret: SecretText,
        /// What it is told of. By default everything.
        events: Vec<At<Topic>>,
        /// The least grave that it is told of.
        severity: Gravity = "\"warning\"",
        /// How long to wait for more before a message is sent. What is over again by then is not told.
        gather: Wait = "\"5s\"",
        /// How often it is told again of what is still so. `"0s"`: never.
        remind: Wait = "\"4h\"",
    }
}
