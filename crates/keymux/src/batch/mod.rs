//! A batch: a file of calls becomes a file of answers, with the scheduler, the pool and the wire code that serve. Nothing
//! here calls a provider or chooses a key: a line is carried out by `request`, as one that came by a connection is. What is
//! here is files, how many lines are out at once, and what is sent again once a provider is back.

pub mod engine;
pub mod estimate;
pub mod files;
pub mod input;
pub mod journal;
pub mod line;
pub mod output;
pub mod pace;
pub mod past;
pub mod patience;
pub mod record;
pub mod run;
pub mod tally;
pub mod tell;
pub mod terms;
pub mod watch;
pub mod window;

#[cfg(test)]
mod tests;
