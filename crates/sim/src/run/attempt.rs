//! One attempt: over the network, through the provider's door, and back, with what the gateway would observe of it and
//! when. All that will be seen is known when the provider decides; what comes first on the gateway's clock happens.

use super::{Event, Fate, Run};
use crate::reader::{evidence, measurements, silent};
use crate::time::{MS, of_mono, ours, theirs, unix};
use keymux_policy::{End, Evidence, HANG_ASK_NS, Hang, Lease, Measurement, Outcome, Phase, Sign, Used};
use keymux_provider::{BodyWish, Call, Dialect, End as Ending, Endpoint, HeaderFamily, How, Reply, Steer};

/// An attempt in flight.
#[derive(Debug)]
pub(super) struct Flight {
    lease: Option<Lease>,
    attempt: u32,
    key: usize,
    sent_ns: u64,
    /// At the provider, while it is open there.
    call: Option<u64>,
    /// What the gateway will report.
    outcome: Option<Outcome>,
    measured: Vec<Measurement>,
    /// So far, as the gateway sees it.
    phase: Phase,
    fault: bool,
    /// A plain call that is asked about if nothing of its answer has come by then.
    ask_ns: Option<u64>,
}

impl Run<'_> {
    /// Sends a request where the lease says.
    pub(super) fn send(&mut self, req: u32, lease: Lease) {
        let way = self.way();
        let now = self.now;
        let r = &mut self.reqs[req as usize];
        r.fate = Fate::InFlight;
        r.ticket = None;
        r.attempts += 1;
        if r.attempts == 1 {
            r.sent_ns = now;
        }
        let attempt = r.attempts;
        self.tally.decided(&lease);
        self.watch.attempted(now, self.tally.attempts, self.tally.submitted);
        let key = lease.key.0 as usize;
        let flight = Flight {
            lease: Some(lease),
            attempt,
            key,
            sent_ns: now,
            call: None,
            outcome: None,
            measured: Vec::new(),
            phase: Phase::Send,
            fault: false,
            ask_ns: None,
        };
        self.flights.insert(req, Box::new(flight));
        self.at(now + way, Event::Reach(req, attempt));
    }

    /// It reaches the provider, which decides.
    pub(super) fn reach(&mut self, req: u32, attempt: u32) {
        let Some(mut flight) = self.flights.remove(&req) else { return };
        if flight.attempt == attempt {
            let model = flight.lease.as_ref().map(|lease| lease.model.clone()).unwrap_or_default();
            let reply = self.call(req, flight.key, &model);
            self.answered(req, &mut flight, reply);
        }
        self.flights.insert(req, flight);
    }

    fn call(&mut self, req: u32, key: usize, model: &str) -> Reply {
        let r = &self.reqs[req as usize];
        let traffic = &self.scenario.traffic[r.source];
        let key = &self.sides.keys[key];
        let vendor = self.vendors[key.provider];
        let silent = matches!(vendor.family, HeaderFamily::None | HeaderFamily::Openrouter);
        let steer = match (traffic.wrong, traffic.poison) {
            (true, _) => Some(400),
            (_, true) => Some(500),
            _ => None,
        };
        let call = Call {
            provider: key.provider,
            secret: &key.secret,
            endpoint: if vendor.dialect == Dialect::Anthropic { Endpoint::Messages } else { Endpoint::Chat },
            model,
            stream: traffic.stream,
            input_tokens: r.input,
            max_tokens: r.max_tokens,
            output_tokens: Some(r.output.max(1)),
            n: 1,
            prompt: r.conversation(req, traffic),
            cache_control: traffic.conversation > 0,
            body: if silent { BodyWish::No } else { BodyWish::Head },
            steer: steer.map(|status| Box::new(Steer { status: Some(status), ..Steer::default() })),
            ..Call::default()
        };
        self.world.call(theirs(self.now), &call)
    }

    /// Works out what the gateway will see of the reply, and when.
    fn answered(&mut self, req: u32, flight: &mut Flight, mut reply: Reply) {
        let key = &self.sides.keys[flight.key];
        let vendor = self.vendors[key.provider];
        let unix_ns = unix(self.now + reply.course.head_at_ns.unwrap_or(0));
        flight.measured = measurements(vendor, &reply.headers, unix_ns);
        self.tally.reached(flight.key, self.now, &reply);
        self.watch.reached(self.now, flight.key, &reply, flight.sent_ns);
        let back = self.way();
        let arrives = |at: Option<u64>| at.map(|at| self.now + at + back);
        let (head, output, end) = (
            arrives(reply.course.head_at_ns),
            arrives(reply.course.first_output_at_ns),
            arrives(reply.course.end_at_ns),
        );
        if reply.open {
            flight.call = Some(reply.id);
            if let Some(end) = reply.course.end_at_ns {
                self.at(self.now + end, Event::Over(reply.id, false));
            }
        }
        if !reply.open {
            let e = evidence(vendor, reply.status, &reply.headers, &reply.plan.drain(), unix_ns);
            flight.fault = true;
            flight.outcome = Some(failed(e));
            self.see(req, flight, head, None, head);
            return;
        }
        let stream = self.scenario.traffic[self.reqs[req as usize].source].stream;
        flight.outcome = Some(outcome(&reply, stream, flight.sent_ns, head, output));
        flight.fault = flight.outcome.as_ref().is_some_and(|o| !matches!(o.end, End::Done));
        let stalled = reply.course.end == Ending::Hang && output.is_some();
        let end = if stalled { output.map(|o| o + self.scenario.patience.idle_ms * MS) } else { end };
        let head = if reply.status == 0 { None } else { head };
        let broken = reply.status == 0 && matches!(reply.course.end, Ending::Reset | Ending::Cut);
        let end = if broken { Some(self.now + back) } else { end };
        self.see(req, flight, if broken { end } else { head }, output.filter(|_| stream), end);
    }

    /// Puts what will be seen on the heap; a head that is too late is a time-out instead.
    fn see(
        &mut self,
        req: u32,
        flight: &mut Flight,
        head: Option<u64>,
        output: Option<u64>,
        end: Option<u64>,
    ) {
        let configured = self.scenario.patience.first_byte_ms * MS;
        let adaptive = flight.lease.as_ref().and_then(|l| l.first_byte_timeout_ns);
        let patience = flight.sent_ns + adaptive.map_or(configured, |a| a.min(configured));
        let attempt = flight.attempt;
        let ask = flight.sent_ns + HANG_ASK_NS;
        let plain = !self.scenario.traffic[self.reqs[req as usize].source].stream;
        if plain && head.is_none_or(|head| head > ask) {
            flight.ask_ns = Some(ask);
            self.at(ask, Event::Silent(req, attempt));
        }
        if head.is_none_or(|head| head > patience) {
            flight.outcome = Some(failed(silent(Phase::Head, Sign::FirstByteTimeout)));
            flight.fault = true;
            self.tally.timeouts += 1;
            self.at(patience.max(self.now), Event::End(req, attempt));
            return;
        }
        if let Some(head) = head.filter(|_| !flight.measured.is_empty()) {
            self.at(head, Event::Head(req, attempt));
        }
        if let Some(output) = output {
            self.at(output, Event::Output(req, attempt));
        }
        if let Some(end) = end {
            self.at(end, Event::End(req, attempt));
        }
    }

    /// Asks about everybody who has waited for long enough to be asked about.
    pub(super) fn ask_silent(&mut self) {
        let waits = |f: &Flight| f.ask_ns.is_some_and(|at| at <= self.now);
        let mut asked: Vec<_> =
            self.flights.iter().filter(|(_, f)| waits(f)).map(|(req, f)| (*req, f.attempt)).collect();
        asked.sort_unstable();
        for (req, attempt) in asked {
            self.at(self.now, Event::Silent(req, attempt));
        }
    }

    pub(super) fn silent(&mut self, req: u32, attempt: u32) {
        let Some(flight) = self.flights.get_mut(&req) else { return };
        let (Some(lease), Some(_)) = (&flight.lease, flight.ask_ns) else { return };
        if flight.attempt != attempt || flight.phase != Phase::Send {
            return;
        }
        match self.policy.hangs(ours(self.now), lease) {
            Hang::GiveUp => {
                flight.outcome = Some(failed(silent(Phase::Head, Sign::FirstByteTimeout)));
                flight.fault = true;
                self.tally.timeouts += 1;
                self.end(req, attempt);
            }
            Hang::AskAt(at) => self.at(of_mono(at), Event::Silent(req, attempt)),
            Hang::Unknown => {}
        }
    }

    pub(super) fn head(&mut self, req: u32, attempt: u32) {
        let Some(flight) = self.flights.get_mut(&req).filter(|f| f.attempt == attempt) else { return };
        flight.phase = Phase::Hold;
        self.tally.heads += 1;
        if let Some(lease) = &flight.lease {
            self.policy.head(ours(self.now), lease, &flight.measured);
        }
        self.poll(false);
    }

    pub(super) fn output(&mut self, req: u32, attempt: u32) {
        let Some(flight) = self.flights.get_mut(&req).filter(|f| f.attempt == attempt) else { return };
        flight.phase = Phase::Stream;
        self.tally.outputs += 1;
        if let Some(lease) = &flight.lease {
            self.policy.first_output(ours(self.now), lease);
            self.watch.first_output();
        }
        let r = &mut self.reqs[req as usize];
        r.output_ns = self.now;
        self.poll(false);
    }

    pub(super) fn end(&mut self, req: u32, attempt: u32) {
        if self.flights.get(&req).is_none_or(|f| f.attempt != attempt) {
            return;
        }
        let Some(flight) = self.flights.remove(&req) else { return };
        let Flight { lease: Some(lease), outcome: Some(outcome), call, key, fault, sent_ns, .. } = *flight
        else {
            return;
        };
        if let Some(call) = call {
            // Where it is over there already, this does nothing.
            let way = self.way();
            self.at(self.now + way, Event::Over(call, true));
        }
        let answered = matches!(outcome.end, End::Done);
        if fault {
            self.tally.failed_at(self.now, key, &outcome);
        } else {
            let r = &mut self.reqs[req as usize];
            (r.key, r.model, r.last_sent_ns) = (key, Some(lease.model.clone()), sent_ns);
        }
        self.tally.ended(&outcome);
        self.watch.before_finish(self.now, &self.policy, &lease, &outcome);
        let next = self.policy.finish(ours(self.now), lease, outcome);
        self.watch.after_finish(self.now, &self.policy, &next);
        self.next(req, next, answered);
        self.poll(false);
    }

    /// The caller of a request in flight goes away.
    pub(super) fn abandon(&mut self, req: u32) {
        let Some(flight) = self.flights.remove(&req) else { return };
        let Flight { lease: Some(lease), call, phase, .. } = *flight else { return };
        if let Some(call) = call {
            let way = self.way();
            self.at(self.now + way, Event::Over(call, true));
        }
        let committed = phase == Phase::Stream;
        // Now and then nobody reports at all: a task that was cancelled drops its lease.
        let end =
            if self.luck.chance(0.5) { End::Dropped } else { End::Failed(silent(phase, Sign::ClientGone)) };
        let outcome = Outcome { end, used: None, committed, first_output_ns: None };
        self.tally.ended(&outcome);
        self.watch.before_finish(self.now, &self.policy, &lease, &outcome);
        let next = self.policy.finish(ours(self.now), lease, outcome);
        self.watch.after_finish(self.now, &self.policy, &next);
        if !matches!(next, keymux_policy::Next::Done(_)) {
            self.watch.violation(self.now, "a request whose caller left goes on");
        }
        self.close(req, Fate::Left);
        self.poll(false);
    }

    /// The gateway is gone, and its connections with it.
    pub(super) fn cut_off(&mut self, req: u32) {
        let call = self.flights.remove(&req).and_then(|flight| flight.call);
        if let Some(call) = call {
            let way = self.way();
            self.at(self.now + way, Event::Over(call, true));
        }
    }

    pub(super) fn over(&mut self, call: u64, cancelled: bool) {
        let how = if cancelled { How::Cancelled } else { How::Completed };
        self.world.done(call, theirs(self.now), how);
    }
}

fn failed(evidence: Evidence) -> Outcome {
    Outcome { end: End::Failed(evidence), used: None, committed: false, first_output_ns: None }
}

/// What the gateway reports of an admitted call whose course runs to its end.
fn outcome(reply: &Reply, stream: bool, sent_ns: u64, head: Option<u64>, output: Option<u64>) -> Outcome {
    let course = &reply.course;
    let seen = stream && output.is_some();
    let used = Used {
        input_tokens: course.input_tokens,
        cached_input_tokens: course.cached_tokens,
        output_tokens: course.output_tokens,
        cost_nano_usd: None,
        estimated: false,
    };
    let first = if stream { output } else { head };
    let first_output_ns = first.map(|at| at.saturating_sub(sent_ns));
    let phase = match (seen, head) {
        (true, _) => Phase::Stream,
        (false, Some(_)) if reply.status != 0 => Phase::Hold,
        _ => Phase::Head,
    };
    let sign = match course.end {
        Ending::Complete if course.error_inside => Some(Sign::ErrorInAnswer),
        Ending::Complete => None,
        Ending::Hang => Some(Sign::IdleTimeout),
        Ending::Reset | Ending::Cut if phase == Phase::Head => Some(Sign::Reset),
        Ending::Reset | Ending::Cut => Some(Sign::Truncated),
    };
    match sign {
        None => Outcome { end: End::Done, used: Some(used), committed: true, first_output_ns },
        Some(sign) => {
            let status = (reply.status != 0).then_some(reply.status);
            let end = End::Failed(Evidence { status, ..silent(phase, sign) });
            Outcome { end, used: seen.then_some(used), committed: seen, first_output_ns: None }
        }
    }
}
