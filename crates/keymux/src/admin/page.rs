//! A plain page until the dashboard stands: every key at a glance, made anew every two seconds.

use serde_json::Value;
use std::fmt::Write as _;

/// Nothing but the page itself, its style by hash of nothing: inline style is all it has.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color-scheme:light dark}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #8884}\
td{white-space:nowrap}td.n{text-align:right;font-variant-numeric:tabular-nums}.ok{color:#187a3b}.out{color:#b3261e}@media(prefers-color-scheme:dark){.ok{color:#6fdc97}.out{color:#ff8a80}}";

/// The page.
pub(super) fn html(state: &Value) -> String {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"2\"><meta name=\"viewport\" content=\"width=device-width\"><title>keymux</title>",
    );
    // Writing to a String cannot fail.
    let _ = write!(page, "<style>{STYLE}</style><h1>keymux</h1>");
    let waiting: u64 =
        ["high", "normal", "low"].iter().filter_map(|class| state["waiting"][class].as_u64()).sum();
    let _ = write!(
        page,
        "<p>{} in flight, {waiting} waiting, {} done, {} refused.</p>",
        state["in_flight"], state["totals"]["done"], state["totals"]["refused"]
    );
    page.push_str("<table><thead><tr><th>provider<th>account<th>key<th>state<th>in flight<th>answered<th>limited<th>failed<th>limits of the account<tbody>");
    for provider in list(&state["providers"]) {
        for account in list(&provider["accounts"]) {
            for key in list(&account["keys"]) {
                row(&mut page, provider, account, key);
            }
        }
    }
    page.push_str("</table>");
    page
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn row(page: &mut String, provider: &Value, account: &Value, key: &Value) {
    let state = key["state"].as_str().unwrap_or_default();
    let class = if state == "ready" { "ok" } else { "out" };
    let back_ms = [&key["benched"], &account["benched"]].iter().find_map(|b| b["for_ms"].as_u64());
    let back = back_ms.map(|ms| format!(", next try in {} s", ms.div_ceil(1_000))).unwrap_or_default();
    let limited = key["failed"]["quota"].as_u64().unwrap_or_default();
    let failed: u64 = key["failed"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
    let limits: Vec<String> = list(&account["limits"]).iter().map(limit).collect();
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<tr><td>{}<td>{}<td>{}<td class=\"{class}\">{}{back}<td class=n>{}<td class=n>{}<td class=n>{limited}<td class=n>{}<td>{}",
        escaped(provider["name"].as_str()),
        escaped(account["name"].as_str()),
        escaped(key["name"].as_str()),
        escaped(Some(state)),
        key["in_flight"],
        key["answered"],
        failed - limited,
        limits.join("<br>"),
    );
}

fn limit(limit: &Value) -> String {
    let number = |name: &str| limit[name].as_f64().unwrap_or_default();
    let models: Vec<String> = list(&limit["models"]).iter().map(|m| escaped(m.as_str())).collect();
    let of = if models.is_empty() { String::new() } else { format!(" for {}", models.join(", ")) };
    let daily = if limit["daily"] == true { " a day" } else { "" };
    format!(
        "{:.0} of {:.0} {}{daily} left{of} ({})",
        number("left"),
        number("size"),
        escaped(limit["dimension"].as_str()),
        escaped(limit["source"].as_str())
    )
}

fn escaped(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
