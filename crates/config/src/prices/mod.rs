//! What models cost: a table that is embedded and dated, prices of the operator's own over it, the cost of an answer
//! and the greatest cost that a request can have.
//!
//! Money is whole nano-dollars (10⁻⁹ US dollars), prices are nano-dollars for a million of what they price, and sums
//! are exact until they are rounded up once, at the end. A price that is not known is `None`, never zero. Nothing
//! here reads a clock or decides who may spend: budgets are `keymux_policy::budget`.

mod age;
mod bound;
mod cost;
mod pattern;
mod price;
mod table;

#[cfg(test)]
mod tests;

pub use age::OLD_DAYS;
pub use bound::{Ceiling, Dearest, Request};
pub use cost::Usage;
pub use price::{At, Kind, Price, Rate, Rates, When};
pub use table::{BadTable, Table};

use std::sync::Arc;

/// Prices of one configuration: the operator's own, in the order of the file, then those of a table.
#[derive(Clone, Debug)]
pub struct Prices {
    /// Names as `provider:model`, with `*` for anything. The first that fits counts.
    pub own: Vec<(Box<str>, Price)>,
    /// The embedded table, or the one that a file brought.
    pub table: Arc<Table>,
}

impl Default for Prices {
    fn default() -> Self {
        Self { own: Vec::new(), table: Table::embedded() }
    }
}

impl Prices {
    /// The price of a provider's model, by the names of the configuration. `listed_as` is what the table calls the
    /// provider; `None` for a server that no table knows. `None`: the price is unknown.
    pub fn of(&self, provider: &str, listed_as: Option<&str>, model: &str) -> Option<&Price> {
        let name = format!("{provider}:{model}").to_lowercase();
        let own =
            self.own.iter().find(|(glob, _)| pattern::fits(glob.to_lowercase().as_bytes(), name.as_bytes()));
        match own {
            Some((_, price)) => Some(price),
            None => self.table.find(listed_as?, model),
        }
    }
}
