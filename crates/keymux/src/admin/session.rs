//! Who is signed in. The page shows the admin token once and gets a ticket for it: a random number and the time, sealed
//! under the token. The ticket is not the token, cannot be made without it, ends with it, and is understood by the next
//! process too, so that a page stays signed in over a restart. It knows headers and the clock's seconds, not what is
//! asked for.

use axum::http::header::{COOKIE, HOST, HeaderMap, ORIGIN};
use hmac::{Hmac, KeyInit as _, Mac as _};
use keymux_config::Secret;
use sha2::Sha256;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// How long a ticket is good for.
pub(super) const LASTS_S: u64 = 7 * 24 * 3_600;
/// Tickets that were given back and are not yet too old anyway.
const ENDED_MAX: usize = 1_000;

/// The tickets of this listener.
pub(super) struct Sessions {
    /// Cookies know hosts, not ports: two gateways on one machine must not overwrite each other's.
    cookie: String,
    ended: Mutex<VecDeque<String>>,
}

impl Sessions {
    /// Sessions of the listener on this port.
    pub(super) fn new(port: u16) -> Self {
        Self { cookie: format!("keymux_admin_{port}"), ended: Mutex::default() }
    }

    /// A new ticket, as the header that sets it. `random` is fresh.
    pub(super) fn begin(&self, token: &Secret, now_unix_s: u64, random: [u8; 16]) -> String {
        let told = format!("{now_unix_s:x}.{}", hexadecimal(&random));
        let ticket = format!("{told}.{}", hexadecimal(&seal(token, &told)));
        format!("{}={ticket}; HttpOnly; SameSite=Strict; Path=/; Max-Age={LASTS_S}", self.cookie)
    }

    /// Whether the caller is signed in.
    pub(super) fn holds(&self, headers: &HeaderMap, token: &Secret, now_unix_s: u64) -> bool {
        self.ticket(headers).is_some_and(|ticket| {
            let Some((told, sealed)) = ticket.rsplit_once('.') else { return false };
            let Some(sealed) = bytes(sealed) else { return false };
            let begun = told.split('.').next().and_then(|s| u64::from_str_radix(s, 16).ok());
            let young = begun
                .is_some_and(|begun| now_unix_s < begun.saturating_add(LASTS_S) && begun <= now_unix_s + 60);
            young && mac(token, told).verify_slice(&sealed).is_ok() && !self.is_ended(ticket)
        })
    }

    /// Signs the caller out, and says so to the browser.
    pub(super) fn end(&self, headers: &HeaderMap) -> String {
        if let Some(ticket) = self.ticket(headers) {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if ended.len() == ENDED_MAX {
                ended.pop_front();
            }
            ended.push_back(ticket.to_owned());
        }
        format!("{}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0", self.cookie)
    }

    fn is_ended(&self, ticket: &str) -> bool {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|ended| ended == ticket)
    }

    fn ticket<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        headers.get_all(COOKIE).iter().filter_map(|all| all.to_str().ok()).find_map(|all| {
            all.split(';').find_map(|one| one.trim().strip_prefix(&*self.cookie)?.strip_prefix('='))
        })
    }
}

/// Whether a request comes from our own page and not from another site that the browser has open. A browser says so by
/// `Sec-Fetch-Site`; an older one at least names the page's origin.
pub(super) fn same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    match (text(ORIGIN.as_str()), text(HOST.as_str())) {
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, from)| from == host),
        _ => false,
    }
}

fn mac(token: &Secret, told: &str) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(token.expose().as_bytes()).expect("any key");
    mac.update(b"keymux admin session ");
    mac.update(told.as_bytes());
    mac
}

fn seal(token: &Secret, told: &str) -> Vec<u8> {
    mac(token, told).finalize().into_bytes().to_vec()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pair = |at: &[u8]| u8::from_str_radix(std::str::from_utf8(at).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(pair).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const NOW: u64 = 1_790_000_000;

    fn token(text: &str) -> Secret {
        Secret::new(text.to_owned()).unwrap()
    }

    fn with(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn cookie(set: &str) -> HeaderMap {
        with(&[("cookie", &format!("other=1; {}", set.split(';').next().unwrap()))])
    }

    #[test]
    fn a_ticket_opens_until_it_is_old_or_given_back_or_the_token_changes() {
        let sessions = Sessions::new(4001);
        let set = sessions.begin(&token("open-sesame"), NOW, [7; 16]);
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && !set.contains("sesame"));
        let shown = cookie(&set);
        let holds = |sessions: &Sessions, secret: &str, at| sessions.holds(&shown, &token(secret), at);
        assert!(holds(&sessions, "open-sesame", NOW) && holds(&sessions, "open-sesame", NOW + LASTS_S - 1));
        assert!(!holds(&sessions, "open-sesame", NOW + LASTS_S), "too old");
        assert!(!holds(&sessions, "open-sesame", NOW - 3_600), "from the future");
        assert!(!holds(&sessions, "another", NOW), "the token was changed");
        assert!(holds(&Sessions::new(4001), "open-sesame", NOW), "after a restart");
        assert!(!holds(&Sessions::new(4002), "open-sesame", NOW), "of another gateway");
        assert!(sessions.end(&shown).contains("Max-Age=0"));
        assert!(!holds(&sessions, "open-sesame", NOW), "given back");
    }

    #[test]
    fn a_ticket_cannot_be_made_or_changed_without_the_token() {
        let sessions = Sessions::new(1);
        let set = sessions.begin(&token("t"), NOW, [1; 16]);
        let ticket = set.split(['=', ';']).nth(1).unwrap();
        for forged in [
            ticket.replacen(&format!("{NOW:x}"), &format!("{:x}", NOW + 1), 1),
            ticket[..ticket.len() - 2].to_owned(),
            format!("{ticket}00"),
            ticket.rsplit_once('.').unwrap().0.to_owned(),
            "t".to_owned(),
            String::new(),
            "é.é.é".to_owned(),
        ] {
            let headers = HeaderMap::from_iter([(
                COOKIE,
                HeaderValue::from_bytes(format!("keymux_admin_1={forged}").as_bytes()).unwrap(),
            )]);
            assert!(!sessions.holds(&headers, &token("t"), NOW), "{forged}");
        }
    }

    #[test]
    fn other_sites_are_told_from_our_own_page() {
        for (headers, ours) in [
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "same-site"), ("origin", "http://h:1"), ("host", "h:1")], false),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("origin", "http://h:1"), ("host", "h:1")], true),
            (vec![("origin", "http://h:2"), ("host", "h:1")], false),
            (vec![("origin", "null"), ("host", "h:1")], false),
            (vec![("host", "h:1")], false),
        ] {
            assert_eq!(same_origin(&with(&headers)), ours, "{headers:?}");
        }
    }
}
