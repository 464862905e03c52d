//! A request body of any bytes: what is accepted is JSON, says what serde says, and survives being spliced.
#![no_main]

use keymux_wire::head::{self, BodyKind, Field};
use keymux_wire::{affinity, estimate, splice};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let _ = head::multipart_model("multipart/form-data; boundary=b", body);
    let Ok(head) = head::parse(body, BodyKind::Chat) else { return };
    let model = head.model.as_ref().expect("a chat's head has a model");
    // Beyond serde's recursion limit, and where unknown strings hold unpaired surrogates, there is nothing to compare.
    let before = serde_json::from_slice::<Value>(body).ok();
    if let Some(value) = &before {
        assert_eq!(value["model"], *model.value);
    }
    let _ = estimate::Size::of(&head).input_token_guess();
    let _ = affinity::prefix_hash(&head);
    let mut edits = splice::remove_fields(body, &head, &[Field::Provider, Field::Models, Field::User]);
    edits.extend(splice::set_model(&head, "other/model"));
    edits.extend(splice::inject_include_usage(&head, body));
    let spliced = splice::apply(body, &mut edits);
    let again = head::parse(&spliced, BodyKind::Chat).expect("a spliced body is a body");
    assert_eq!(again.model.expect("it has a model").value, "other/model");
    assert!(again.provider.is_none() && again.models.is_none() && again.user.is_none());
    if let Some(before) = before {
        let after: Value = serde_json::from_slice(&spliced).expect("still JSON");
        assert_eq!(after["messages"], before["messages"]);
    }
});
