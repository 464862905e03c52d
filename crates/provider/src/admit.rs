//! Admission: all limits or none, and what each is charged by the habits of the vendor.

use crate::limit::{Fit, Limiter};
use crate::record::Name;
use crate::spec::{ChargingSpec, Dimension, TotalTokens};
use crate::time::Now;

/// The size of a call in every dimension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) input: u64,
    pub(crate) cached: u64,
    /// The output cap in force, times the number of answers.
    pub(crate) max_output: u64,
    /// What an in-flight budget holds, in nano-dollars.
    pub(crate) hold: u64,
}

/// What one limit was charged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) limiter: usize,
    pub(crate) amount: u64,
    mark: u64,
    /// The output is charged as it comes.
    pub(crate) metered: bool,
}

/// Which limit refused.
#[derive(Clone, Debug)]
pub(crate) struct Denied {
    pub(crate) limiter: usize,
    pub(crate) label: Name,
    pub(crate) wait_ns: Option<u64>,
    pub(crate) never: bool,
    pub(crate) requested: u64,
}

impl Size {
    /// The charge at admission and whether the rest is metered as it is produced.
    fn charge(&self, dimension: Dimension, charging: &ChargingSpec) -> (u64, bool) {
        let input =
            if charging.cached_input_free { self.input - self.cached.min(self.input) } else { self.input };
        match dimension {
            Dimension::Requests | Dimension::Concurrent => (1, false),
            Dimension::InputTokens => (input, false),
            Dimension::OutputTokens if charging.output_reserved => (self.max_output, false),
            Dimension::OutputTokens => (0, true),
            Dimension::TotalTokens => match charging.total_tokens {
                TotalTokens::MaxOfEstimateAndMaxTokens => (input.max(self.max_output), false),
                TotalTokens::InputPlusMaxTokens => (input.saturating_add(self.max_output), false),
                TotalTokens::AsProduced => (input, true),
            },
            Dimension::InFlightMoney => (self.hold, false),
        }
    }
}

/// Takes what the call needs from every limit in `ids`, or nothing. Of several limits that refuse, the one
/// that takes longest is named, so that the time told is true.
pub(crate) fn admit(
    limiters: &mut [Limiter],
    ids: &[usize],
    now: Now,
    size: &Size,
    charging: &ChargingSpec,
) -> Result<Vec<Taken>, Denied> {
    let mut denied: Option<Denied> = None;
    for &id in ids {
        let Some(limiter) = limiters.get_mut(id) else { continue };
        let (amount, metered) = size.charge(limiter.dimension, charging);
        // Metered limits admit while anything is left.
        let need = if metered { amount.max(1) } else { amount };
        let (wait_ns, never) = match limiter.fits(now, need) {
            Fit::Fits => continue,
            Fit::Wait(wait) => (wait, false),
            Fit::Never => (None, true),
        };
        let longer = denied.as_ref().is_none_or(|d| !d.never && (never || wait_ns > d.wait_ns));
        if longer {
            let label = limiter.label.clone();
            denied = Some(Denied { limiter: id, label, wait_ns, never, requested: need });
        }
    }
    if let Some(denied) = denied {
        if charging.refused_count {
            count_refused(limiters, ids, now);
        }
        return Err(denied);
    }
    let mut taken = Vec::with_capacity(ids.len());
    for &id in ids {
        let Some(limiter) = limiters.get_mut(id) else { continue };
        let (amount, metered) = size.charge(limiter.dimension, charging);
        let mark = limiter.charge(now, amount);
        taken.push(Taken { limiter: id, amount, mark, metered });
    }
    Ok(taken)
}

/// Where refused requests count: takes a request from every request limit, as far as anything is left.
fn count_refused(limiters: &mut [Limiter], ids: &[usize], now: Now) {
    for &id in ids {
        if let Some(limiter) = limiters.get_mut(id)
            && limiter.dimension == Dimension::Requests
        {
            limiter.count_refused(now);
        }
    }
}

/// Charges output that came into being since the last time.
pub(crate) fn meter(limiters: &mut [Limiter], taken: &[Taken], now: Now, tokens: u64) {
    for part in taken.iter().filter(|part| part.metered) {
        if let Some(limiter) = limiters.get_mut(part.limiter) {
            limiter.charge(now, tokens);
        }
    }
}

/// What a call really used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cost_nano_usd: u64,
}

/// Ends what a call took: slots and holds come back, unused reservations where the vendor refunds them.
pub(crate) fn settle(limiters: &mut [Limiter], taken: &[Taken], now: Now, used: Used, refund_unused: bool) {
    for part in taken {
        let Some(limiter) = limiters.get_mut(part.limiter) else { continue };
        match limiter.dimension {
            Dimension::Concurrent => limiter.refund(now, part.mark, part.amount),
            Dimension::InFlightMoney => limiter.settle_hold(now, part.amount, used.cost_nano_usd),
            Dimension::OutputTokens | Dimension::TotalTokens if refund_unused && !part.metered => {
                let real = match limiter.dimension {
                    Dimension::OutputTokens => used.output,
                    _ => used.input.saturating_add(used.output),
                };
                limiter.refund(now, part.mark, part.amount.saturating_sub(real));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{LimitShape, LimitSpec};

    const NOW: Now = Now { mono_ns: 0, unix_ns: 0 };

    fn world(specs: &[LimitSpec]) -> (Vec<Limiter>, Vec<usize>) {
        (specs.iter().map(|spec| Limiter::new(spec, NOW)).collect(), (0..specs.len()).collect())
    }

    fn window(dimension: Dimension, limit: u64) -> LimitSpec {
        LimitSpec { dimension, limit, shape: LimitShape::Window, ..LimitSpec::default() }
    }

    const SIZE: Size = Size { input: 100, cached: 30, max_output: 40, hold: 0 };

    #[test]
    fn a_refusal_takes_nothing_from_the_limits_that_had_room() {
        let (mut limits, ids) = world(&[window(Dimension::Requests, 5), window(Dimension::InputTokens, 99)]);
        let denied = admit(&mut limits, &ids, NOW, &SIZE, &ChargingSpec::default()).unwrap_err();
        assert!(denied.never);
        assert_eq!(denied.limiter, 1);
        assert_eq!(limits[0].remaining(NOW), 5);
    }

    #[test]
    fn refused_requests_count_only_where_the_vendor_does_so() {
        let (mut limits, ids) = world(&[window(Dimension::Requests, 5), window(Dimension::InputTokens, 99)]);
        let charging = ChargingSpec { refused_count: true, ..ChargingSpec::default() };
        admit(&mut limits, &ids, NOW, &SIZE, &charging).unwrap_err();
        assert_eq!(limits[0].remaining(NOW), 4);
    }

    #[test]
    fn each_vendor_charges_tokens_its_own_way() {
        let spec = [window(Dimension::TotalTokens, 1000), window(Dimension::OutputTokens, 1000)];
        for (charging, total, output) in [
            (ChargingSpec::default(), 900, 1000),
            (ChargingSpec { cached_input_free: true, ..ChargingSpec::default() }, 930, 1000),
            (
                ChargingSpec {
                    total_tokens: TotalTokens::InputPlusMaxTokens,
                    output_reserved: true,
                    ..ChargingSpec::default()
                },
                860,
                960,
            ),
        ] {
            let (mut limits, ids) = world(&spec);
            admit(&mut limits, &ids, NOW, &SIZE, &charging).unwrap();
            assert_eq!((limits[0].remaining(NOW), limits[1].remaining(NOW)), (total, output), "{charging:?}");
        }
    }

    #[test]
    fn only_what_was_reserved_and_not_used_comes_back() {
        let charging = ChargingSpec {
            total_tokens: TotalTokens::InputPlusMaxTokens,
            refund_unused: true,
            ..ChargingSpec::default()
        };
        let (mut limits, ids) =
            world(&[window(Dimension::TotalTokens, 1000), window(Dimension::Requests, 9)]);
        let taken = admit(&mut limits, &ids, NOW, &SIZE, &charging).unwrap();
        settle(&mut limits, &taken, NOW, Used { input: 100, output: 10, cost_nano_usd: 0 }, true);
        assert_eq!(limits[0].remaining(NOW), 890);
        assert_eq!(limits[1].remaining(NOW), 8, "requests are never refunded");
    }

    #[test]
    fn metered_output_is_charged_as_it_comes_and_shuts_admission_when_overdrawn() {
        let (mut limits, ids) = world(&[window(Dimension::OutputTokens, 50)]);
        let charging = ChargingSpec::default();
        let taken = admit(&mut limits, &ids, NOW, &SIZE, &charging).unwrap();
        assert_eq!(limits[0].remaining(NOW), 50);
        meter(&mut limits, &taken, NOW, 60);
        assert!(admit(&mut limits, &ids, NOW, &SIZE, &charging).is_err());
    }
}
