//! The dashboard's files, as the build packed them: compressed, under names that change with their content, and under a
//! policy that lets a browser run nothing else. A build without them says how to get them.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Response, StatusCode};

/// A file of the dashboard.
struct Asset {
    /// Below `/`; the page itself is `index.html`.
    name: &'static str,
    /// Changes with its content.
    etag: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// Only our own files, no frames, no forms that leave.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>keymux</title>\
<h1>keymux runs, without its dashboard</h1>\
<p>This binary was built before the page was. From a checkout, with Node 20 or newer: \
<code>scripts/need dashboard</code>, then build again. \
<p>Meanwhile <a href=\"/admin/state\">/admin/state</a>, <a href=\"/admin/requests\">/admin/requests</a> and \
<a href=\"/metrics\">/metrics</a> tell the same as text, to whoever shows the admin token (once as \
<code>?token=…</code>).";

/// The file of this name, as the caller's browser wants it.
pub(super) fn file(name: &str, headers: &HeaderMap) -> Response<Body> {
    let Some(asset) = ASSETS.iter().find(|a| a.name == name) else {
        if name == "index.html" {
            return answer(StatusCode::OK, "text/html; charset=utf-8", Body::from(NOT_BUILT));
        }
        let told = Body::from("There is no such file.\n");
        return answer(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", told);
    };
    let known = headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let same = known
        .is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == asset.etag));
    let compressed = takes_gzip(headers);
    let (status, body) = match (same, compressed) {
        (true, _) => (StatusCode::NOT_MODIFIED, Body::empty()),
        (false, true) => (StatusCode::OK, Body::from(asset.gzip)),
        (false, false) => (StatusCode::OK, Body::from(asset.plain)),
    };
    let mut response = answer(status, media_type(asset.name), body);
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_static(asset.etag));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    // Names under assets/ are made of the content; the page itself must be asked for anew.
    let lasts = if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(lasts));
    if compressed && !same {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let told = headers.get(ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or_default();
    told.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|q| q == "q=0")
    })
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn answer(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn gzip_goes_only_to_who_takes_it() {
        for (told, takes) in
            [("gzip", true), ("br, gzip;q=0.5", true), ("gzip;q=0", false), ("identity", false), ("", false)]
        {
            assert_eq!(takes_gzip(&with("accept-encoding", told)), takes, "{told}");
        }
    }

    #[test]
    fn the_page_is_always_there_and_no_other_file_is_made_up() {
        assert_eq!(file("index.html", &HeaderMap::new()).status(), StatusCode::OK);
        assert_eq!(file("assets/none.js", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
        assert!(file("index.html", &HeaderMap::new()).headers().contains_key(CONTENT_SECURITY_POLICY));
    }

    #[test]
    fn every_file_is_served_whole_and_known_ones_are_not_sent_again() {
        for asset in ASSETS {
            let response = file(asset.name, &with("accept-encoding", "gzip"));
            assert_eq!(response.headers()[CONTENT_ENCODING], "gzip", "{}", asset.name);
            assert_eq!(asset.gzip[..2], [0x1f, 0x8b], "{}", asset.name);
            let again = file(asset.name, &with("if-none-match", asset.etag));
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
            assert_ne!(media_type(asset.name), "application/octet-stream", "{}", asset.name);
        }
    }
}
