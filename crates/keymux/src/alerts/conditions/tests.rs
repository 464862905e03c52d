use super::*;
use keymux_config::{HookKind, World, from_toml};

const S: u64 = 1_000_000_000;
const KEY: &str = "lab/main/main";

/// A webhook of these settings, what it was told, and a clock that is set.
struct Told {
    hook: Webhook,
    conditions: Conditions,
    at_s: u64,
}

pub(in crate::alerts) fn hook(more: &str) -> Webhook {
    let text = format!(
        "[[provider]]\nname = \"lab\"\ndialect = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\n\
         keys = [{{ name = \"k\", auth = \"none\" }}]\n[[webhook]]\nname = \"ops\"\nurl = \"literal:http://127.0.0.1:1/x\"\n{more}"
    );
    let world = World {
        env: &|_| None,
        env_names: &[],
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        run: &|_| Err(String::new()),
    };
    from_toml("test", &text, &world).map_err(|p| p.to_string()).unwrap().webhooks.remove(0)
}

impl Told {
    fn new(more: &str) -> Self {
        Self { hook: hook(more), conditions: Conditions::default(), at_s: 0 }
    }

    fn now(&self) -> Now {
        Now { mono_ns: self.at_s * S, unix_ns: (1_000_000 + self.at_s) * S }
    }

    fn happens(&mut self, kind: Kind, subject: &str) {
        let happening = Happening::new(kind, subject, format!("{}: {subject}", kind.row().word));
        self.conditions.happens(self.now(), &happening, &self.hook);
    }

    /// Lets the clock go second by second; what is said and delivered on the way, as `second: news subject`.
    fn until(&mut self, at_s: u64) -> Vec<String> {
        let mut said = Vec::new();
        while self.at_s < at_s {
            self.at_s += 1;
            let now = self.now();
            if let Some(message) = self.conditions.message(now, &self.hook) {
                self.conditions.delivered(now, &message, &self.hook);
                said.extend(
                    message.notices.iter().map(|n| format!("{}: {:?} {}", self.at_s, n.news, n.subject)),
                );
            }
        }
        said
    }
}

#[test]
fn a_condition_is_told_once_while_it_lasts_and_when_it_is_over() {
    let mut told = Told::new("");
    told.happens(Kind::KeyBenched, KEY);
    assert_eq!(told.until(4), Vec::<String>::new(), "more may come");
    // The key is tried again and again, and benched each time.
    for at_s in [60, 120, 180, 240, 700] {
        let said = told.until(at_s);
        assert_eq!(said, if at_s == 60 { vec![format!("5: Begins {KEY}")] } else { vec![] });
        told.happens(Kind::KeyBenched, KEY);
    }
    told.until(720);
    told.happens(Kind::KeyRestored, KEY);
    told.at_s += 4;
    assert!(told.conditions.message(told.now(), &told.hook).is_none());
    told.at_s += 1;
    let message = told.conditions.message(told.now(), &told.hook).unwrap();
    let notice = &message.notices[0];
    assert_eq!((notice.news, notice.lasted_ns, notice.since_unix_ms), (News::Ends, 720 * S, 1_000_000_000));
    told.conditions.delivered(told.now(), &message, &told.hook);
    assert_eq!((told.until(100_000), told.conditions.open()), (vec![], 0));
}

#[test]
fn what_is_over_before_it_could_be_told_is_not_told() {
    let mut told = Told::new("");
    told.happens(Kind::BreakerOpened, KEY);
    told.until(4);
    told.happens(Kind::BreakerClosed, KEY);
    assert_eq!(told.until(1_000), Vec::<String>::new());
    assert!(told.conditions.known.is_empty(), "nothing is kept of it");
}

#[test]
fn it_is_told_again_as_often_as_one_wants() {
    let mut told = Told::new("remind = \"10m\"");
    told.happens(Kind::KeyBenched, KEY);
    assert_eq!(
        told.until(1_300),
        [format!("5: Begins {KEY}"), format!("605: Reminds {KEY}"), format!("1205: Reminds {KEY}")]
    );
    let mut never = Told::new("remind = \"0s\"");
    never.happens(Kind::KeyBenched, KEY);
    assert_eq!(never.until(100_000).len(), 1);
}

#[test]
fn what_comes_and_goes_is_told_as_that_and_over_when_it_is_calm() {
    let mut told = Told::new("gather = \"0s\"");
    let mut said = Vec::new();
    for _ in 0..30 {
        told.happens(Kind::BreakerOpened, KEY);
        said.extend(told.until(told.at_s + 10));
        told.happens(Kind::BreakerClosed, KEY);
        said.extend(told.until(told.at_s + 10));
    }
    let words: Vec<&str> = said.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(words, ["Begins", "Ends", "Begins", "Ends", "Begins", "Ends", "Flaps"]);
    // The last time that it closed was at 590 s.
    assert_eq!(told.until(1_189), Vec::<String>::new());
    assert_eq!(told.until(10_000), [format!("1190: Ends {KEY}")]);
    told.happens(Kind::BreakerOpened, KEY);
    assert_eq!(told.until(10_100), [format!("10001: Begins {KEY}")], "and from the beginning");
}

#[test]
fn what_comes_and_goes_faster_than_it_is_gathered_is_told_too() {
    let mut told = Told::new("");
    let mut said = Vec::new();
    for _ in 0..10 {
        told.happens(Kind::BreakerOpened, KEY);
        said.extend(told.until(told.at_s + 1));
        told.happens(Kind::BreakerClosed, KEY);
        said.extend(told.until(told.at_s + 1));
    }
    said.extend(told.until(1_000));
    // The fourth time began at 6 s, the last was over at 19 s.
    assert_eq!(said, [format!("11: Flaps {KEY}"), format!("619: Ends {KEY}")]);
}

#[test]
fn what_begins_together_is_one_message() {
    let mut told = Told::new("");
    for n in 0..500 {
        told.happens(Kind::BreakerOpened, &format!("lab/k{n}"));
    }
    told.happens(Kind::ProviderOpened, "lab");
    told.at_s = 5;
    let message = told.conditions.message(told.now(), &told.hook).unwrap();
    assert_eq!((message.notices.len(), &*message.notices[0].subject), (501, "lab"), "the gravest first");
}

#[test]
fn a_webhook_that_fails_is_told_what_is_so_when_it_works_again() {
    let mut told = Told::new("gather = \"0s\"");
    told.happens(Kind::KeyBenched, KEY);
    told.happens(Kind::AccountBenched, "lab/main");
    let mut tried = Vec::new();
    while told.at_s < 3_600 {
        told.at_s += 1;
        if told.at_s == 100 {
            told.happens(Kind::KeyRestored, KEY);
        }
        if told.conditions.message(told.now(), &told.hook).is_some() {
            tried.push(told.at_s);
            told.conditions.failed(told.now(), None);
        }
    }
    assert_eq!(tried[..5], [1, 3, 7, 15, 31]);
    assert!(tried.windows(2).all(|pair| pair[1] - pair[0] <= 300) && tried.len() < 22, "{tried:?}");
    // The one was never told, and is over: so much is told of it.
    let said = told.until(4_000);
    let words: Vec<&str> =
        said.iter().filter_map(|line| line.split_once(": ")).map(|(_, said)| said).collect();
    assert_eq!(words, ["Begins lab/main", &format!("Ends {KEY}")]);
    assert_eq!(told.until(10_000), Vec::<String>::new());
}

#[test]
fn who_says_when_to_come_back_is_heard() {
    let mut told = Told::new("gather = \"0s\"");
    told.happens(Kind::KeyBenched, KEY);
    told.at_s = 1;
    assert_eq!(told.conditions.failed(told.now(), Some(40 * S)), 1);
    assert_eq!(told.until(1_000), [format!("41: Begins {KEY}")]);
}

#[test]
fn what_changes_while_a_message_is_on_its_way_is_told_after_it() {
    let mut told = Told::new("gather = \"0s\"");
    told.happens(Kind::KeyBenched, KEY);
    let begins = told.conditions.message(told.now(), &told.hook).unwrap();
    told.happens(Kind::KeyRestored, KEY);
    told.conditions.delivered(told.now(), &begins, &told.hook);
    let ends = told.conditions.message(told.now(), &told.hook).unwrap();
    assert_eq!(ends.notices[0].news, News::Ends);
    told.happens(Kind::KeyBenched, KEY);
    told.conditions.delivered(told.now(), &ends, &told.hook);
    assert_eq!(told.until(60), [format!("1: Begins {KEY}")]);
}

#[test]
fn only_what_is_wanted_is_told() {
    let mut told = Told::new("events = [\"key_out\", \"budget\"]\nseverity = \"critical\"\ngather = \"0s\"");
    for (kind, subject) in [
        (Kind::KeyBenched, KEY),
        (Kind::AccountBenched, "lab/main"),
        (Kind::BudgetLow, "key ci"),
        (Kind::BudgetSpent, "key ci"),
        (Kind::ByOperator, KEY),
    ] {
        told.happens(kind, subject);
    }
    assert_eq!(told.until(60), [format!("1: Begins {KEY}"), "1: Notes key ci".to_owned()]);
}

#[test]
fn a_webhook_is_told_of_the_others_troubles_alone() {
    let mut told = Told::new("gather = \"0s\"");
    told.happens(Kind::WebhookFails, "ops");
    told.happens(Kind::WebhookFails, "chat");
    assert_eq!(told.until(60), ["1: Begins chat"]);
}

#[test]
fn what_only_happened_is_told_once_an_hour() {
    let mut told = Told::new("");
    let mut said = Vec::new();
    for _ in 0..7_300 {
        told.happens(Kind::BilledAbove, "lab");
        said.extend(told.until(told.at_s + 1));
    }
    assert_eq!(said, ["5: Notes lab", "3605: Notes lab", "7205: Notes lab"]);
}

#[test]
fn what_is_not_so_any_more_ends_though_nothing_said_so() {
    let mut told = Told::new("gather = \"0s\"");
    told.happens(Kind::KeyBenched, KEY);
    told.happens(Kind::KeyBenched, "lab/other/other");
    told.happens(Kind::LedgerAway, "ledger database");
    told.until(10);
    let stand = BTreeSet::from([(Kind::KeyBenched, KEY.to_owned())]);
    told.conditions.only(told.now(), &stand, &told.hook);
    assert_eq!(told.until(60), ["11: Ends lab/other/other"]);
}

#[test]
fn a_bench_that_a_check_finds_too_ends_with_the_bench() {
    let mut told = Told::new("gather = \"0s\"");
    told.happens(Kind::KeyBenched, KEY);
    told.happens(Kind::KeyUnusable, KEY);
    told.happens(Kind::KeyUnusable, "lab/other/other");
    told.until(10);
    told.conditions.only(told.now(), &BTreeSet::new(), &told.hook);
    assert_eq!(told.until(60), [format!("11: Ends {KEY}")], "what a check alone found, a check ends");
    told.happens(Kind::KeyUnusable, KEY);
    told.until(70);
    told.conditions.only(told.now(), &BTreeSet::new(), &told.hook);
    assert_eq!(told.conditions.open(), 2, "this time it was the check alone");
}

#[test]
fn what_is_removed_or_switched_off_is_in_no_trouble_any_more() {
    let mut told = Told::new("gather = \"0s\"");
    let all = |key: &str, more: &str| {
        [
            (Kind::KeyUnusable, key.to_owned()),
            (Kind::KeyExpires, key.to_owned()),
            (Kind::CreditLow, key.to_owned()),
            (Kind::BreakerOpened, format!("{key} a model")),
            (Kind::AccountBenched, format!("lab{more}/main")),
            (Kind::ProviderOpened, format!("lab{more}")),
            (Kind::AllKeysOut, format!("lab{more}")),
            (Kind::WebhookFails, format!("chat{more}")),
        ]
    };
    let (stays, goes) = (all("lab/main/main", ""), all("lab/main/mai", "-2"));
    for (kind, subject) in stays.iter().chain(&goes) {
        told.happens(*kind, subject);
    }
    told.happens(Kind::LedgerAway, "ledger database");
    assert_eq!(told.until(10).len(), 17);
    told.conditions.still_there(told.now(), &there(true), &told.hook);
    told.at_s += 1;
    let message = told.conditions.message(told.now(), &told.hook).unwrap();
    let mut over: Vec<_> =
        message.notices.iter().map(|n| (n.topic, n.subject.clone(), n.news, n.end)).collect();
    let topic = |kind: Kind| match kind.row().effect {
        Effect::Opens(topic) => topic,
        other => panic!("{other:?}"),
    };
    let mut gone: Vec<_> = goes.into_iter().map(|(k, s)| (topic(k), s, News::Ends, End::Gone)).collect();
    over.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    gone.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    assert_eq!(over, gone);
    assert_eq!(told.conditions.open(), 9);
}

/// One key of one account and provider, and one other webhook.
fn there(checks: bool) -> There {
    let set = |name: &str| BTreeSet::from([name.to_owned()]);
    There { providers: set("lab"), accounts: set("lab/main"), keys: set(KEY), hooks: set("chat"), checks }
}

#[test]
fn what_only_checks_would_see_end_is_over_once_there_are_none() {
    for benched in [false, true] {
        let mut told = Told::new("gather = \"0s\"");
        for kind in [Kind::KeyUnusable, Kind::KeyExpires, Kind::CreditLow] {
            told.happens(kind, KEY);
        }
        if benched {
            told.happens(Kind::KeyBenched, KEY);
        }
        assert_eq!(told.until(10).len(), 3);
        told.conditions.still_there(told.now(), &there(true), &told.hook);
        assert_eq!(told.conditions.open(), 3);
        told.conditions.still_there(told.now(), &there(false), &told.hook);
        // What requests meet, they see the end of.
        assert_eq!(told.conditions.open(), usize::from(benched));
        told.at_s += 1;
        let message = told.conditions.message(told.now(), &told.hook).unwrap();
        assert!(message.notices.iter().all(|n| (n.news, n.end) == (News::Ends, End::Unwatched)));
    }
}

#[test]
fn a_key_that_ended_expires_no_more_and_is_not_said_to_be_well() {
    let mut told = Told::new("remind = \"10m\"");
    told.happens(Kind::KeyExpires, KEY);
    told.until(100);
    told.happens(Kind::KeyEnded, KEY);
    told.at_s += 5;
    let message = told.conditions.message(told.now(), &told.hook).unwrap();
    assert_eq!((message.notices[0].news, message.notices[0].end), (News::Ends, End::KeyEnded));
    told.conditions.delivered(told.now(), &message, &told.hook);
    assert_eq!(told.until(10_000), Vec::<String>::new());
}

#[test]
fn messages_are_few_and_memory_is_bounded() {
    let mut told = Told::new("gather = \"0s\"");
    let mut messages = 0;
    for n in 0..600 {
        told.happens(Kind::KeyBenched, &format!("lab/{n}"));
        messages += usize::from(!told.until(told.at_s + 1).is_empty());
    }
    assert!((20..=27).contains(&messages), "{messages} in ten minutes");
    for n in 0..2 * CONDITIONS_MAX {
        told.happens(Kind::KeyBenched, &format!("lab/{n}"));
        told.happens(Kind::BilledAbove, &format!("lab/{n}"));
    }
    assert_eq!((told.conditions.known.len(), told.conditions.notes.len()), (CONDITIONS_MAX, NOTES_MAX));
    told.at_s += 60;
    let message = told.conditions.message(told.now(), &told.hook).unwrap();
    assert_eq!(message.left_out, (3 * CONDITIONS_MAX - NOTES_MAX) as u64);
    assert_eq!(told.hook.kind, HookKind::Json);
}
