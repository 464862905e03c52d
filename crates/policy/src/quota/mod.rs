//! Quotas: the mirror that this process keeps of what a provider counts. A *domain* is one limit that a provider
//! enforces (account or key x models x dimension); its *meter* says how it comes back; *estimate* says what a request
//! takes and what it is settled to; *learn* corrects the mirror by what answers say, which *told* puts side by side;
//! *learner* finds out limits that only refusals tell of, from what went before (*history*) and which limit explains that
//! (*shape*); *rules* finds by which rule tokens are charged; *contact* goes carefully where nothing is known yet.
//!
//! Nothing here knows requests, targets or routes: amounts go in, instants come out.

pub(crate) mod bucket;
pub(crate) mod contact;
pub(crate) mod domain;
mod doubt;
pub(crate) mod estimate;
pub(crate) mod history;
pub(crate) mod learn;
pub(crate) mod learner;
pub(crate) mod rules;
mod shape;
mod slide;
pub(crate) mod told;
pub(crate) mod window;

pub(crate) use domain::{Domain, Hold, Meter, Order, Source};
pub(crate) use estimate::{Fate, ModelStats, Need, Turn};
pub(crate) use history::History;
pub(crate) use learner::{Heard, Learner};

/// Our clock against the provider's, and the network between them: what arrives within this time of something is
/// taken to arrive on either side of it.
pub(crate) const MARGIN_NS: u64 = 30 * crate::time::MS;

/// So long may a request be on its way to a provider whose limits are declared, where no refusal is to be drawn: it may
/// count at any instant of that time.
pub(crate) const WAY_NS: u64 = 300 * crate::time::MS;
