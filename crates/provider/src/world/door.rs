//! The door for requests that came over a wire.

use crate::call::{BodyWish, Call, Reply};
use crate::dialect::{Endpoint, route};
use crate::refusal::{Refusal, Why};
use crate::request::{HttpRequest, read};
use crate::time::Now;
use crate::world::World;

impl World {
    /// Answers a request at the named provider; None if there is no such provider.
    pub fn http(&mut self, now: Now, provider: &str, request: &HttpRequest<'_>) -> Option<Reply> {
        let index = self.provider(provider)?;
        let dialect = self.providers.get(index)?.dialect;
        let route = route(dialect, request.path);
        let secret = request.secret(dialect);
        let mut call = Call {
            provider: index,
            secret: secret.unwrap_or_default(),
            endpoint: route.endpoint,
            id: route.id,
            n: 1,
            body: BodyWish::Yes,
            ..Call::default()
        };
        if route.endpoint == Endpoint::Unknown {
            return Some(self.refuse(now, &call, Refusal::new(Why::NoPath, "path")));
        }
        if !route.methods.contains(&request.method) {
            return Some(self.refuse(now, &call, Refusal::new(Why::Method, "method")));
        }
        // Credentials come before the body: a stranger learns nothing about the schema.
        if !self.knows(index, call.secret) {
            let why = if secret.is_none() { Why::NoKey } else { Why::BadKey };
            return Some(self.refuse(now, &call, Refusal::new(why, "bad_key")));
        }
        let ask = match request.method {
            "POST" => match read(request, route.endpoint, dialect) {
                Ok(ask) => ask,
                Err(refusal) => return Some(self.refuse(now, &call, refusal)),
            },
            "DELETE" => {
                call.inputs = 0;
                call.store = false;
                return Some(self.forget(now, &call));
            }
            _ => return Some(self.call(now, &call)),
        };
        ask.fill(&mut call);
        Some(self.call(now, &call))
    }
}
