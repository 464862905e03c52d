//! A run: the heap of events, the virtual clock, and the scheduler driven by the very verbs that the server uses, in
//! the server's order. After each verb a wake that is due is polled once, as the server does under its lock; between
//! events the clock jumps to whatever comes first, the next event or the next wake.

mod attempt;
mod record;
mod restart;
mod stranger;

pub(crate) use record::{Fate, Record, Req, SLICES, Tally};

use crate::fleet::{Sides, sides, to_u32};
use crate::reader::Vendor;
use crate::rng::Rng;
use crate::spec::{Scenario, SpecError};
use crate::time::{MS, ns_of, ours};
use crate::traffic::{Arrival, Source};
use crate::watch::Watch;
use attempt::Flight;
use keymux_policy::fleet::{Endpoint, RouteId};
use keymux_policy::saved::Saved;
use keymux_policy::{
    Ask, ClientId, Decision, Destination, Next, Policy, Refusal, RefusalKind, Size, TeamId, Ticket, Woken,
};
use keymux_provider::World;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use stranger::Stranger;

/// Something that happens. Numbers are those of requests, with the attempt that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// The next request of a source.
    Arrive(usize),
    /// A refused or answered caller comes (again).
    Come(u32),
    /// An attempt reaches its provider.
    Reach(u32, u32),
    /// The provider is done with a call.
    Over(u64, bool),
    /// The head of an answer comes.
    Head(u32, u32),
    /// The first output comes.
    Output(u32, u32),
    /// The attempt is over, as the gateway sees it.
    End(u32, u32),
    /// A plain call has had no answer for a while: had it better be given up?
    Silent(u32, u32),
    /// The caller goes away.
    Leave(u32),
    /// The next call of a stranger.
    Stranger(usize),
    /// The gateway stops, and nobody listens for a while.
    Restart,
    /// The next process listens.
    Up,
}

/// A run of a scenario with one seed.
pub(crate) struct Run<'s> {
    pub(crate) scenario: &'s Scenario,
    pub(crate) sides: Sides,
    pub(crate) policy: Policy,
    pub(crate) world: World,
    pub(crate) now: u64,
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    seq: u64,
    pub(crate) reqs: Vec<Req>,
    flights: HashMap<u32, Box<Flight>>,
    /// What the scheduler last said of how often something was found to hang.
    hung: u64,
    tickets: HashMap<u64, u32>,
    sources: Vec<Source>,
    /// The request of each source that comes next.
    coming: Vec<u32>,
    /// The first client's number of each source, and the route of each.
    first_client: Vec<u64>,
    route_of: Vec<u32>,
    strangers: Vec<Stranger>,
    /// Since when the gateway listens, and what the last one saved for the next.
    up_ns: u64,
    saved: Option<Saved>,
    net: Rng,
    luck: Rng,
    vendors: Vec<Vendor>,
    woken: Vec<Woken>,
    pub(crate) tally: Tally,
    pub(crate) watch: Watch,
}

impl<'s> Run<'s> {
    pub(crate) fn new(scenario: &'s Scenario, seed: u64) -> Result<Self, SpecError> {
        let sides = sides(scenario)?;
        let mut rng = Rng::new(seed ^ 0x00C0_FFEE);
        let world =
            World::new(sides.world.clone(), rng.next()).map_err(|e| SpecError::Sense(e.to_string()))?;
        let policy = Policy::new(ours(0), sides.fleet.clone(), rng.next());
        let vendors = sides.world.providers.iter();
        let vendors = vendors.map(|p| Vendor {
            dialect: p.dialect,
            family: p.headers.unwrap_or_else(|| p.dialect.own_headers()),
        });
        let mut run = Self {
            watch: Watch::new(scenario, &sides),
            tally: Tally::new(&sides),
            scenario,
            vendors: vendors.collect(),
            sides,
            policy,
            world,
            now: 0,
            heap: BinaryHeap::new(),
            seq: 0,
            reqs: Vec::new(),
            flights: HashMap::new(),
            hung: 0,
            tickets: HashMap::new(),
            sources: Vec::new(),
            coming: vec![0; scenario.traffic.len()],
            first_client: Vec::new(),
            route_of: Vec::new(),
            strangers: Vec::new(),
            up_ns: 0,
            saved: None,
            net: rng.fork(),
            luck: rng.fork(),
            woken: Vec::new(),
        };
        run.world.keep_records(1);
        run.tally.count_from_ns = ns_of(scenario.count_from_s);
        run.tally.slice_ns = ns_of(scenario.seconds) / record::SLICES as u64;
        run.begin(&mut rng)?;
        Ok(run)
    }

    fn begin(&mut self, rng: &mut Rng) -> Result<(), SpecError> {
        let mut client = 0;
        for (s, traffic) in self.scenario.traffic.iter().enumerate() {
            let wanted = traffic.route.as_ref();
            let route = self.sides.routes.iter().position(|r| wanted.is_none_or(|name| r.name == *name));
            let route = route.ok_or_else(|| {
                SpecError::Sense(format!("[[traffic]] `{}`: there is no such route", traffic.client))
            })?;
            self.route_of.push(to_u32(route));
            self.first_client.push(client);
            for n in 0..traffic.clients.max(1) {
                let many = traffic.clients > 1;
                let name = if many { format!("{}-{n}", traffic.client) } else { traffic.client.clone() };
                self.tally.clients.push(record::ClientTally::new(name, route));
            }
            client += traffic.clients.max(1);
            self.sources.push(Source::of_traffic(traffic, self.scenario.seconds, rng.fork()));
            self.arrive_next(s);
        }
        for (s, stranger) in self.scenario.strangers.iter().enumerate() {
            let stranger = Stranger::new(stranger, self.scenario, &self.sides, rng.fork())?;
            self.strangers.push(stranger);
            self.stranger_next(s);
        }
        for at_s in &self.scenario.restart_at_s {
            self.at(ns_of(*at_s), Event::Restart);
        }
        Ok(())
    }

    pub(crate) fn at(&mut self, ns: u64, event: Event) {
        self.seq += 1;
        self.heap.push(Reverse((ns, self.seq, event)));
    }

    /// Runs to the end: nothing is to come, nobody waits, nothing is in flight.
    pub(crate) fn run(mut self) -> Record {
        loop {
            let next = self.heap.peek().map_or(u64::MAX, |Reverse((ns, ..))| *ns);
            let wake = self
                .policy
                .next_wake()
                .map_or(u64::MAX, |wake| if wake == u64::MAX { wake } else { crate::time::of_mono(wake) });
            let at = next.min(wake);
            if at == u64::MAX || self.watch.is_hopeless() {
                break;
            }
            if at > self.now.saturating_add(crate::time::DAY * 400) {
                let waiting = self.policy.waiting();
                self.watch
                    .violation(self.now, format!("wants to be woken in more than a year; {waiting} wait"));
                break;
            }
            self.now = self.now.max(at);
            if next <= wake {
                if let Some(Reverse((_, _, event))) = self.heap.pop() {
                    self.happen(event);
                }
            } else {
                self.poll(true);
            }
            if std::mem::replace(&mut self.hung, self.policy.hung()) != self.policy.hung() {
                self.ask_silent();
            }
            self.watch.after_event(self.now, &self.policy, &self.reqs, self.flights.len());
        }
        self.watch.at_end(self.now, &mut self.policy, self.flights.len());
        Record::of(self)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(source) => self.arrive(source),
            Event::Come(req) => self.submit(req),
            Event::Reach(req, attempt) => self.reach(req, attempt),
            Event::Over(id, cancelled) => self.over(id, cancelled),
            Event::Head(req, attempt) => self.head(req, attempt),
            Event::Output(req, attempt) => self.output(req, attempt),
            Event::End(req, attempt) => self.end(req, attempt),
            Event::Silent(req, attempt) => self.silent(req, attempt),
            Event::Leave(req) => self.leave(req),
            Event::Stranger(n) => self.stranger(n),
            Event::Restart => self.restart(),
            Event::Up => self.up(),
        }
    }

    fn arrive_next(&mut self, source: usize) {
        if let Some(arrival) = self.sources[source].next() {
            let req = self.open(source, &arrival);
            self.coming[source] = req;
            self.at(arrival.at_ns, Event::Arrive(source));
        }
    }

    /// Writes a request down that will come.
    fn open(&mut self, source: usize, arrival: &Arrival) -> u32 {
        let traffic = &self.scenario.traffic[source];
        let client = self.first_client[source] + arrival.client;
        let req = Req::new(source, self.route_of[source], client, arrival, traffic);
        self.reqs.push(req);
        to_u32(self.reqs.len() - 1)
    }

    fn arrive(&mut self, source: usize) {
        let req = self.coming[source];
        self.arrive_next(source);
        self.submit(req);
    }

    fn submit(&mut self, req: u32) {
        if self.now < self.up_ns {
            self.at(self.up_ns, Event::Come(req));
            return;
        }
        let r = &mut self.reqs[req as usize];
        let traffic = &self.scenario.traffic[r.source];
        r.came_ns = self.now;
        r.deadline_ns = self.now + r.patience_ns;
        let first = r.returns == 0 && r.fate == Fate::Coming;
        r.fate = Fate::Waiting;
        self.tally.submitted += 1;
        if first {
            self.tally.clients[usize::try_from(r.client).unwrap_or(0)].offered();
        }
        if traffic.leaves > 0.0 && self.luck.chance(traffic.leaves) {
            let after = 1 + self.luck.below(5_000) * MS;
            self.at(self.now + after, Event::Leave(req));
        }
        let ask = self.ask(req);
        let decision = self.policy.submit(ours(self.now), ask);
        self.watch.decided(self.now, &self.reqs[req as usize], &decision);
        match decision {
            Decision::Go(lease) => self.send(req, lease),
            Decision::Wait { ticket, forecast_mono_ns } => {
                let late = crate::time::of_mono(forecast_mono_ns) > self.reqs[req as usize].deadline_ns;
                self.tally.hopeful += u64::from(late);
                self.wait(req, ticket);
            }
            Decision::Refuse(refusal) => self.refused(req, &refusal, false),
        }
        self.poll(false);
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of tokens, guessed")]
    fn ask(&mut self, req: u32) -> Ask {
        let r = &self.reqs[req as usize];
        let traffic = &self.scenario.traffic[r.source];
        let session = r.conversation(req, traffic).filter(|_| self.scenario.affinity);
        Ask {
            to: Destination::Route(RouteId(r.route)),
            endpoint: Endpoint::ChatCompletions,
            client: ClientId(r.client),
            team: TeamId(0),
            class: traffic.class.into(),
            weight: 1.0,
            deadline_mono_ns: ours(r.deadline_ns).mono_ns,
            size: Size {
                body_bytes: r.input * 4,
                input_tokens: (r.input as f64 * traffic.guess).round() as u64,
                wide: false,
                output_tokens_max: r.max_tokens,
            },
            cost_max_nano_usd: None,
            session,
            bound_to: None,
            allowed: None,
            providers: None,
            stream: traffic.stream,
        }
    }

    fn wait(&mut self, req: u32, ticket: Ticket) {
        let r = &mut self.reqs[req as usize];
        r.fate = Fate::Waiting;
        r.ticket = Some(ticket);
        self.tally.waits += 1;
        self.tickets.insert(ticket.as_u64(), req);
        self.watch.sat_down(req, self.reqs[req as usize].deadline_ns);
    }

    /// What an attempt's end leads to.
    fn next(&mut self, req: u32, next: Next, answered: bool) {
        match next {
            Next::Done(settled) => {
                let fate = if answered { Fate::Answered } else { Fate::Error(settled.blame) };
                self.close(req, fate);
            }
            Next::Go(lease) => self.send(req, lease),
            Next::Wait { ticket, .. } => self.wait(req, ticket),
            Next::Refuse(refusal) => self.refused(req, &refusal, true),
        }
    }

    fn refused(&mut self, req: u32, refusal: &Refusal, late: bool) {
        let quota = matches!(refusal.kind, RefusalKind::QuotaExhausted { .. } | RefusalKind::RoomFull);
        self.tally.refused_late += u64::from(late && quota);
        self.tally.note_refusal(&refusal.kind);
        self.close(req, if quota { Fate::Refused } else { Fate::Error(None) });
        if refusal.retry_after_ns.is_some_and(|after| after > crate::time::DAY * 400) {
            self.watch
                .violation(self.now, format!("told to come back in more than a year: {:?}", refusal.kind));
            return;
        }
        let r = &self.reqs[req as usize];
        let traffic = &self.scenario.traffic[r.source];
        if let Some(after) = refusal.retry_after_ns.filter(|_| r.returns < traffic.comes_back && quota) {
            // `retry-after-ms` is rounded up.
            let at = self.now + after.div_ceil(MS) * MS;
            let again = r.again();
            self.reqs.push(again);
            let again = to_u32(self.reqs.len() - 1);
            self.at(at, Event::Come(again));
        }
    }

    fn close(&mut self, req: u32, fate: Fate) {
        let r = &mut self.reqs[req as usize];
        r.fate = fate;
        r.ended_ns = self.now;
        r.ticket = None;
        let (source, poison) = (r.source, self.scenario.traffic[r.source].poison);
        let wrong = self.scenario.traffic[source].wrong;
        self.tally.closed(&self.reqs[req as usize], poison, wrong);
        if let Some(arrival) = self.sources[source].after_answer(self.now) {
            let next = self.open(source, &arrival);
            self.at(arrival.at_ns, Event::Come(next));
        }
    }

    fn leave(&mut self, req: u32) {
        let r = &self.reqs[req as usize];
        if r.fate == Fate::Waiting {
            if let Some(ticket) = r.ticket {
                self.policy.cancel(ours(self.now), ticket);
                self.tickets.remove(&ticket.as_u64());
                self.watch.stood_up(req, r.deadline_ns);
            }
            self.tally.cancelled_waiting += 1;
            self.close(req, Fate::Left);
            self.poll(false);
        } else if r.fate == Fate::InFlight {
            self.abandon(req);
        }
    }

    /// Lets out whom time or the last verb set free.
    fn poll(&mut self, alarm: bool) {
        let now = ours(self.now);
        if !alarm && self.policy.next_wake().is_none_or(|wake| wake > now.mono_ns) {
            return;
        }
        let mut woken = std::mem::take(&mut self.woken);
        self.policy.poll(now, &mut woken);
        self.tally.polls += 1;
        let let_out = !woken.is_empty();
        for w in woken.drain(..) {
            let Some(req) = self.tickets.remove(&w.ticket.as_u64()) else {
                self.watch.violation(self.now, "a ticket was let out that nobody holds");
                continue;
            };
            self.watch.stood_up(req, self.reqs[req as usize].deadline_ns);
            self.watch.decided(self.now, &self.reqs[req as usize], &w.decision);
            match w.decision {
                Decision::Go(lease) => self.send(req, lease),
                Decision::Refuse(refusal) => self.refused(req, &refusal, true),
                Decision::Wait { .. } => self.watch.violation(self.now, "let out to wait"),
            }
        }
        self.woken = woken;
        let due = self.policy.next_wake().is_some_and(|wake| wake <= now.mono_ns);
        self.watch.polled(self.now, let_out, due);
    }

    /// One way over the network.
    fn way(&mut self) -> u64 {
        let network = &self.scenario.network;
        ns_of((network.delay_ms + self.net.unit() * network.jitter_ms) / 1e3)
    }
}
