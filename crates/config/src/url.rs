//! Addresses of providers and proxies: just the parts that are needed, strictly read. Credentials in a provider's
//! address are refused (they would end up in logs), those of a proxy are kept as a [`Secret`].

use crate::secret::Secret;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use zeroize::Zeroizing;

/// Where a provider answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// TLS or not.
    pub https: bool,
    /// Host name or address, lower case; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path in front of every endpoint: empty, or with a slash at its beginning and none at its end.
    pub path: String,
}

impl BaseUrl {
    /// Reads `http[s]://host[:port][/path]`.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let parts = split(text)?;
        let https = match parts.scheme.as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(BadUrl::Scheme),
        };
        if parts.user.is_some() {
            return Err(BadUrl::Credentials);
        }
        let path = parts.path.trim_end_matches('/').to_owned();
        if path.contains("//") || path.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(BadUrl::Path);
        }
        let port = parts.port.unwrap_or(if https { 443 } else { 80 });
        Ok(Self { https, host: parts.host, port, path })
    }

    /// Value of the `Host` header: with the port where it is not the usual one.
    pub fn authority(&self) -> String {
        let usual = if self.https { 443 } else { 80 };
        let host = bracketed(&self.host);
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// A forward proxy, spoken to by CONNECT for `https` providers and by absolute URIs for `http` ones.
#[derive(Clone, Debug)]
pub struct ProxyUrl {
    /// TLS towards the proxy itself.
    pub https: bool,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// `user:password` in Base64: what follows `Proxy-Authorization: Basic `.
    pub authorization: Option<Secret>,
}

impl PartialEq for ProxyUrl {
    fn eq(&self, other: &Self) -> bool {
        let same_secret = match (&self.authorization, &other.authorization) {
            (None, None) => true,
            (Some(a), Some(b)) => a.matches(b.expose().as_bytes()),
            _ => false,
        };
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port) && same_secret
    }
}

impl ProxyUrl {
    /// Reads `http[s]://[user:password@]host[:port]`; without a scheme, it is `http`.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let text = text.trim();
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let with_scheme = Zeroizing::new(with_scheme);
        let parts = split(&with_scheme)?;
        let https = match parts.scheme.as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(BadUrl::ProxyScheme),
        };
        if !parts.path.trim_end_matches('/').is_empty() {
            return Err(BadUrl::ProxyPath);
        }
        let authorization = parts
            .user
            .map(|user| {
                let decoded = percent_decoded(&user).ok_or(BadUrl::Credentials)?;
                Secret::new(base64(&decoded)).map_err(|_| BadUrl::Credentials)
            })
            .transpose()?;
        let port = parts.port.unwrap_or(if https { 443 } else { 80 });
        Ok(Self { https, host: parts.host, port, authorization })
    }
}

impl fmt::Display for ProxyUrl {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", bracketed(&self.host), self.port)
    }
}

/// Why an address cannot be used. Never repeats it: it may hold credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BadUrl {
    #[error("the address must begin with https:// or http://")]
    Scheme,
    #[error("a proxy's address begins with http:// or https://")]
    ProxyScheme,
    #[error("a proxy's address has no path")]
    ProxyPath,
    #[error("the address names no valid host")]
    Host,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error("credentials do not belong into the address")]
    Credentials,
    #[error("the address holds a query or a fragment")]
    Query,
    #[error("the address holds a fragment")]
    Fragment,
    #[error("the path holds empty or relative parts")]
    Path,
    #[error("the address holds blanks or characters that must be escaped")]
    Characters,
}

struct Parts {
    scheme: String,
    user: Option<Zeroizing<String>>,
    host: String,
    port: Option<u16>,
    path: String,
}

fn split(text: &str) -> Result<Parts, BadUrl> {
    if !text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b)) {
        return Err(BadUrl::Characters);
    }
    let (scheme, rest) = text.split_once("://").ok_or(BadUrl::Scheme)?;
    if rest.contains(['?', '#']) {
        return Err(BadUrl::Query);
    }
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let (user, address) = match authority.rsplit_once('@') {
        Some((user, address)) => (Some(Zeroizing::new(user.to_owned())), address),
        None => (None, authority),
    };
    let (host, port) = host_and_port(address)?;
    Ok(Parts { scheme: scheme.to_ascii_lowercase(), user, host, port, path: path.to_owned() })
}

fn host_and_port(address: &str) -> Result<(String, Option<u16>), BadUrl> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or(BadUrl::Host)?;
        let host: Ipv6Addr = inside.parse().map_err(|_| BadUrl::Host)?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':').ok_or(BadUrl::Port)?),
        };
        (host.to_string(), port)
    } else {
        let (host, port) = match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        };
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if host.len() > 253 || !host.trim_end_matches('.').split('.').all(label) {
            return Err(BadUrl::Host);
        }
        (host.to_ascii_lowercase(), port)
    };
    let port = match port {
        None => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Some(port),
            _ => return Err(BadUrl::Port),
        },
    };
    Ok((host, port))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Whether a host is to be called without a proxy, by the rules that curl and Go share: `*`, an exact name or
/// address, a domain with its subdomains (with or without a dot in front), `host:port`, a network in CIDR notation.
pub(crate) fn bypasses_proxy(base: &BaseUrl, no_proxy: &[String]) -> bool {
    let host = base.host.trim_end_matches('.');
    let address: Option<IpAddr> = host.parse().ok();
    no_proxy.iter().any(|rule| {
        let rule = rule.trim().to_ascii_lowercase();
        if rule == "*" {
            return true;
        }
        if let (Some((network, bits)), Some(address)) = (rule.split_once('/'), address) {
            return network.parse().is_ok_and(|n| bits.parse().is_ok_and(|b| in_network(address, n, b)));
        }
        let (name, port) = match rule.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
                (name, port.parse::<u16>().ok())
            }
            _ => (rule.as_str(), None),
        };
        let name = name.trim_matches(['[', ']']).trim_start_matches("*.").trim_start_matches('.');
        let fits = !name.is_empty()
            && (host == name
                || (address.is_none() && host.strip_suffix(name).is_some_and(|h| h.ends_with('.'))));
        fits && port.is_none_or(|port| port == base.port)
    })
}

/// Whether this is a name or address of the machine itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
}

fn in_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            a.to_bits() & mask == n.to_bits() & mask
        }
        (IpAddr::V6(a), IpAddr::V6(n)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            a.to_bits() & mask == n.to_bits() & mask
        }
        _ => false,
    }
}

pub(crate) fn percent_decoded(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    Some(bytes)
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0_usize, |w, i| w << 8 | usize::from(chunk.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let letter = LETTERS[word >> (18 - 6 * i) & 63];
            text.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> Result<String, BadUrl> {
        BaseUrl::parse(text).map(|url| format!("{} {} {} {}", url.https, url.host, url.port, url.path))
    }

    #[test]
    fn bases_are_taken_apart() {
        assert_eq!(base("https://API.example.com/v1/").unwrap(), "true api.example.com 443 /v1");
        assert_eq!(base("http://h:8000").unwrap(), "false h 8000 ");
        assert_eq!(base("http://[::1]:9/v1/openai").unwrap(), "false ::1 9 /v1/openai");
        let shown = |text: &str| BaseUrl::parse(text).unwrap().to_string();
        assert_eq!(shown("http://[::1]:80/v1"), "http://[::1]/v1");
        assert_eq!(shown("https://h:80/v1//"), "https://h:80/v1");
    }

    #[test]
    fn what_is_no_base_is_refused() {
        let bad = [
            ("", BadUrl::Scheme),
            ("h/v1", BadUrl::Scheme),
            ("ftp://h", BadUrl::Scheme),
            ("https://", BadUrl::Host),
            ("https:///v1", BadUrl::Host),
            ("https://a..b/", BadUrl::Host),
            ("https://[::1/", BadUrl::Host),
            ("https://h:0/", BadUrl::Port),
            ("https://h:99999/", BadUrl::Port),
            ("https://h:+80/", BadUrl::Port),
            ("https://h:/", BadUrl::Port),
            ("https://u:p@h/", BadUrl::Credentials),
            ("https://h/v1?key=x", BadUrl::Query),
            ("https://h/v1#x", BadUrl::Query),
            ("https://h/../v1", BadUrl::Path),
            ("https://h/a//b", BadUrl::Path),
            ("https://h/a b", BadUrl::Characters),
            ("https://h/\r\nx: y", BadUrl::Characters),
            ("https://bücher.example/", BadUrl::Characters),
        ];
        for (text, why) in bad {
            assert_eq!(base(text), Err(why), "{text}");
        }
    }

    #[test]
    fn proxies_keep_their_credentials_to_themselves() {
        let proxy = ProxyUrl::parse("http://Aladdin:open%20sesame@proxy:3128/").unwrap();
        assert_eq!(proxy.authorization.as_ref().unwrap().expose(), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(proxy.to_string(), "http://proxy:3128");
        assert!(!format!("{proxy:?}").contains("QWxh"));
        assert_eq!(ProxyUrl::parse("proxy:3128").unwrap().port, 3128);
        assert_eq!(ProxyUrl::parse("https://p").unwrap().port, 443);
        assert_eq!(ProxyUrl::parse("socks5://p").unwrap_err(), BadUrl::ProxyScheme);
        assert_eq!(ProxyUrl::parse("http://p/x").unwrap_err(), BadUrl::ProxyPath);
        assert_ne!(proxy, ProxyUrl::parse("http://Aladdin:other@proxy:3128/").unwrap());
    }

    #[test]
    fn base64_pads() {
        let text = |bytes: &[u8]| base64(bytes);
        assert_eq!(
            [text(b""), text(b"f"), text(b"fo"), text(b"foo"), text(b"foob")],
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
        assert_eq!(text(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn exceptions_from_the_proxy_fit_whole_labels_only() {
        let bypasses =
            |url: &str, rule: &str| bypasses_proxy(&BaseUrl::parse(url).unwrap(), &[rule.to_owned()]);
        for (url, rule) in [
            ("https://api.corp.example/", "corp.example"),
            ("https://api.corp.example/", ".corp.example"),
            ("https://api.corp.example/", "*.Corp.example"),
            ("https://corp.example/", "corp.example"),
            ("https://corp.example/", "corp.example:443"),
            ("https://x/", "*"),
            ("http://10.1.2.3/", "10.0.0.0/8"),
            ("http://10.1.2.3/", "0.0.0.0/0"),
            ("http://10.1.2.3/", "10.1.2.3"),
            ("http://[fd00::1]/", "fd00::/8"),
            ("http://[fd00::1]/", "[fd00::1]:80"),
        ] {
            assert!(bypasses(url, rule), "{url} {rule}");
        }
        for (url, rule) in [
            ("https://notcorp.example/", "corp.example"),
            ("https://corp.example.org/", "corp.example"),
            ("https://corp.example/", "corp.example:80"),
            ("http://11.1.2.3/", "10.0.0.0/8"),
            ("http://11.10.1.2/", "10.1.2"),
            ("http://10.1.2.3/", "10.0.0.0/40"),
            ("https://x/", ""),
        ] {
            assert!(!bypasses(url, rule), "{url} {rule}");
        }
    }
}
