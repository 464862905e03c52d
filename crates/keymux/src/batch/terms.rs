//! On what terms an output was begun: what must be the same for a rerun to go on with it.

use serde::{Deserialize, Serialize};

/// What must be the same in a rerun, or answers of two kinds would be mixed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// `--model`.
    pub model: Option<String>,
    /// `--unordered`.
    pub unordered: bool,
    /// `--errors`.
    pub errors: Option<String>,
}

impl Terms {
    /// Whether an output that was begun on other terms and is worth nothing can be begun anew on these: nothing of
    /// anybody's stands where errors are to go.
    pub fn frees_errors_of(&self, then: &Self) -> bool {
        let is_empty = |path: &String| std::fs::metadata(path).map_or(true, |seen| seen.len() == 0);
        then.errors == self.errors || self.errors.as_ref().is_none_or(is_empty)
    }

    /// What is said otherwise now, for people.
    pub fn changed(&self, now: &Self) -> String {
        let mut changed = Vec::new();
        let text = |value: &Option<String>| value.as_deref().unwrap_or("none").to_owned();
        if self.model != now.model {
            changed.push(format!("--model was {} and is {}", text(&self.model), text(&now.model)));
        }
        if self.errors != now.errors {
            changed.push(format!("--errors was {} and is {}", text(&self.errors), text(&now.errors)));
        }
        if self.unordered != now.unordered {
            let word = |unordered: bool| if unordered { "given" } else { "not given" };
            changed.push(format!("--unordered was {} and is {}", word(self.unordered), word(now.unordered)));
        }
        changed.join(", ")
    }
}
