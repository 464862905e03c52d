//! The routes of the admin listener, with a note of each, and the document that describes them. The document is
//! written by hand, since what it describes is JSON that is composed here and there; a test holds its paths against the
//! routes, and the end-to-end tests hold the methods and every answer against it.

use super::Admin;
use axum::Router;
use axum::routing::MethodRouter;

/// What `/admin/openapi.json` says.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// Routes, and where they are.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) router: Router<Admin>,
    paths: Vec<&'static str>,
}

impl Routes {
    /// One more.
    pub(super) fn route(mut self, path: &'static str, methods: MethodRouter<Admin>) -> Self {
        self.paths.push(path);
        Self { router: self.router.route(path, methods), paths: self.paths }
    }

    /// With others.
    pub(super) fn merge(mut self, others: Self) -> Self {
        self.paths.extend(others.paths);
        Self { router: self.router.merge(others.router), paths: self.paths }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{guarded, open};
    use serde_json::Value;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_and_every_description_has_its_route() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let described: BTreeSet<&str> =
            document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let all = open().merge(guarded()).paths;
        let served: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(served, described, "the routes of admin/, and the paths of admin/openapi.json");
        assert_eq!(all.len(), served.len(), "each once");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn what_needs_no_token_says_so_and_nothing_else_does() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let open: BTreeSet<&str> = open().paths.into_iter().collect();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in
                item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
            {
                let says_open = operation["security"] == serde_json::json!([]);
                assert_eq!(says_open, open.contains(path.as_str()), "{method} {path}");
            }
        }
    }
}
