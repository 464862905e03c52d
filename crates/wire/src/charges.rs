//! What a request asks for that can cost more than its text and its cap tell: media, other models, tools that run at
//! the provider, several answers, dearer ways to be served.
//!
//! For whoever has to bound the cost of a request before it is sent, so it errs on the dear side: every object of the
//! body is walked, names are read with their escapes undone and without regard to case, as servers written in Go read
//! them, and of a name given twice both values count. What it knows of a request's text is its length; no price is known
//! here.

mod free;
mod quick;

use self::free::{UNBOUNDED, costs_nothing_more, is_local};
use crate::head::folded;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

pub use self::free::is_field;

/// Shorter strings than this are not taken for media, in bytes.
const MEDIA_BYTES_MIN: usize = 64;

/// What was found.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read off the request")]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Charges {
    /// Bytes of base64 that stand where media do.
    pub media_bytes: u64,
    /// Images, in whatever form.
    pub images: u64,
    /// Pieces of audio.
    pub audio: u64,
    /// Files, documents, videos: what shows nothing of its size in tokens.
    pub files: u64,
    /// Something that lies at the provider is part of the input.
    pub continues: bool,
    /// Texts in `prompt`: each is answered for itself.
    pub prompts: u64,
    /// `best_of`: answers that are generated, though one is returned.
    pub best_of: Option<u64>,
    /// Names of what nothing bounds: tools that run at the provider, plug-ins, presets.
    pub unbounded: Vec<String>,
    /// Models that the provider may take instead (`fallbacks`).
    pub fallbacks: Vec<String>,
    /// Something is to be kept in the prompt cache for an hour.
    pub cache_hour: bool,
    /// A dearer speed is asked for.
    pub fast: bool,
    /// The answer may be spoken.
    pub audio_out: bool,
    /// It is made also if nobody waits for it.
    pub background: bool,
}

/// Reads a JSON body. `None` if it is none.
pub fn read(body: &[u8]) -> Option<Charges> {
    std::str::from_utf8(body).ok().and_then(quick::read).or_else(|| parsed(body))
}

/// The parser's say.
fn parsed(body: &[u8]) -> Option<Charges> {
    let mut charges = Charges::default();
    let mut json = serde_json::Deserializer::from_slice(body);
    Walk { charges: &mut charges, place: Place::Top }.deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(charges)
}

/// Where in the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The object itself.
    Top,
    /// `prompt`: a text, or in Responses the name of a template.
    Prompt,
    /// `tools`: a tool.
    Tools,
    /// Inside a tool: its schema is text.
    Tool,
    /// `fallbacks`.
    Fallbacks,
    /// `modalities`.
    Modalities,
    /// The value of a name that media stand behind.
    Media,
    /// The value of `type`.
    Type,
    /// The value of a tool's `type`.
    ToolType,
    /// The value of `ttl`.
    Lifetime,
    /// A fallback's `model`.
    Model,
    Elsewhere,
}

struct Walk<'c> {
    charges: &'c mut Charges,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.charges.text(self.place, text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Walk { charges, place } = self;
        let prompts = charges.prompts;
        while seq.next_element_seed(Walk { charges: &mut *charges, place })?.is_some() {}
        charges.ends(place, prompts);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Walk { charges, place } = self;
        let mut object = charges.begins(place);
        while let Some(Name(name)) = map.next_key()? {
            match charges.member(&mut object, &name) {
                Member::Walked(place) => map.next_value_seed(Walk { charges: &mut *charges, place })?,
                Member::Whole => charges.whole(&mut object, &name, map.next_value::<&RawValue>()?.get()),
            }
        }
        charges.closes(&object);
        Ok(())
    }
}

/// A name, copied only where it has escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// How the value of a member is read.
enum Member {
    Walked(Place),
    /// As a whole, by [`Charges::whole`].
    Whole,
}

/// What the members of an object say together, in whatever order they come.
struct Object {
    place: Place,
    /// So much was found unbounded before it.
    before: usize,
    /// All that it says of where a tool runs is that the client runs it.
    local: Option<bool>,
}

impl Charges {
    /// An object begins.
    fn begins(&mut self, place: Place) -> Object {
        if place == Place::Prompt {
            // A template, with whatever tools it has.
            self.continues = true;
            self.unbounded.push("prompt".to_owned());
        }
        Object { place, before: self.unbounded.len(), local: None }
    }

    /// An object is closed.
    fn closes(&mut self, object: &Object) {
        if object.local == Some(true) {
            let found = self.unbounded.split_off(object.before);
            self.unbounded.extend(found.into_iter().filter(|name| name != "shell"));
        }
    }

    /// A member of an object.
    fn member(&mut self, object: &mut Object, name: &str) -> Member {
        Member::Walked(match (object.place, &*folded(name)) {
            (Place::Top, "prompt") => Place::Prompt,
            (Place::Top, "fallbacks") => Place::Fallbacks,
            (Place::Top, "modalities") => Place::Modalities,
            // Labels.
            (Place::Top, "metadata") => Place::Tool,
            (Place::Top, "audio" | "speed" | "best_of" | "background") | (Place::Tools, "environment") => {
                return Member::Whole;
            }
            (Place::Top, name) if UNBOUNDED.contains(&name) => return Member::Whole,
            (Place::Top, "tools") => Place::Tools,
            // Of a namespace, which runs nowhere itself: each of them says it for itself.
            (Place::Tools, "tools") => {
                object.local = Some(false);
                Place::Tools
            }
            (Place::Top, _) => Place::Elsewhere,
            (Place::Tools, "type") => Place::ToolType,
            // What a model gave to a tool is text, as a tool's schema is.
            (Place::Tools | Place::Tool, _) | (Place::Elsewhere, "input") => Place::Tool,
            (Place::Fallbacks, "model") => Place::Model,
            (Place::Fallbacks, _) => Place::Fallbacks,
            (_, "type") => Place::Type,
            (_, "ttl") => Place::Lifetime,
            (_, "data" | "url" | "image_url" | "file_data") => Place::Media,
            (_, "file_id" | "file_url") => {
                self.files += 1;
                Place::Elsewhere
            }
            _ => Place::Elsewhere,
        })
    }

    /// A member is given this.
    fn whole(&mut self, object: &mut Object, name: &str, raw: &str) {
        match &*folded(name) {
            "environment" => {
                // In another case, not every reader takes it for that.
                let local = name == "environment" && is_local(raw);
                object.local = Some(object.local.unwrap_or(true) && local);
            }
            _ if raw == "null" => {}
            "audio" => self.audio_out = true,
            "speed" => self.fast = true,
            "background" => self.background |= raw != "false",
            "best_of" => match serde_json::from_str(raw) {
                Ok(answers) => self.best_of = self.best_of.max(Some(answers)),
                // Who knows what a provider makes of `1e3` answers.
                Err(_) => self.unbounded.push(name.to_owned()),
            },
            field if costs_nothing_more(field, raw) => {}
            // As it is written: not every reader takes it for that field.
            _ => self.unbounded.push(name.to_owned()),
        }
    }

    /// A string.
    fn text(&mut self, place: Place, text: &str) {
        match place {
            Place::Type => self.content(text),
            Place::ToolType => self.tool(text),
            Place::Media => self.media(text),
            Place::Lifetime => self.cache_hour |= text != "5m",
            Place::Model | Place::Fallbacks => self.fallbacks.push(text.to_owned()),
            Place::Modalities => self.audio_out |= text == "audio",
            Place::Prompt => self.prompts += 1,
            Place::Top | Place::Tools | Place::Tool | Place::Elsewhere => {}
        }
    }

    /// A list ends, at whose beginning there were so many prompts.
    fn ends(&mut self, place: Place, prompts: u64) {
        if place == Place::Prompt && self.prompts == prompts {
            // A list of numbers is one text as its tokens.
            self.prompts += 1;
        }
    }

    /// A part of the input, by its type.
    fn content(&mut self, name: &str) {
        match name {
            "image_url" | "input_image" | "image" => self.images += 1,
            "input_audio" | "audio" => self.audio += 1,
            "file" | "input_file" | "document" | "video_url" | "video" | "input_video"
            | "container_upload" => self.files += 1,
            "item_reference" => self.continues = true,
            _ => {}
        }
    }

    /// A tool: one that the client runs costs nothing but its tokens; one that the provider runs fetches what it likes.
    fn tool(&mut self, name: &str) {
        let own =
            matches!(name, "function" | "custom" | "namespace" | "local_shell" | "apply_patch" | "computer")
                || ["bash_", "text_editor_", "computer_", "memory_"]
                    .iter()
                    .any(|start| name.starts_with(start));
        if !own {
            self.unbounded.push(name.to_owned());
        }
    }

    /// A string where media stand: base64 is no text, whatever else is.
    fn media(&mut self, text: &str) {
        let data = text.split_once(";base64,").map_or(text, |(_, data)| data);
        let base64 =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_');
        if data.len() >= MEDIA_BYTES_MIN && data.bytes().all(base64) {
            self.media_bytes += data.len() as u64;
            // Should nothing around it say what it is.
            self.images += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Charges {
        read(body.as_bytes()).unwrap()
    }

    #[test]
    fn plain_text_and_the_clients_own_tools_cost_nothing_more() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"say \"type\":\"image\" and plugins"}],
            "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},{"name":"g"},
            {"type":"bash_20250124"}],"plugins":null,"best_of":null,"max_tokens":5,"enable_search":false,
            "inference_geo":"global","context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}}"#;
        assert_eq!(of(body), Charges::default());
        for body in [
            r#"{"plugins":[],"mcp_servers":[],"context_management":[]}"#,
            r#"{"plugins":[{"id":"web","enabled":false},{"id":"response-healing"},{"id":"context-compression"}]}"#,
            r#"{"plugins":[{"id":"file-parser","pdf":{"engine":"pdf-text"}}]}"#,
            r#"{"tools":[{"type":"computer"},{"type":"namespace","name":"n","tools":[{"type":"function"}]}]}"#,
            r#"{"messages":[{"content":[{"type":"tool_use","input":{"type":"file","file_id":"x"}}]}]}"#,
            r#"{"metadata":{"type":"file","file_id":"x","data":{"type":"image"}}}"#,
        ] {
            assert_eq!(of(body), Charges::default(), "{body}");
        }
        assert_eq!(read(b"{\"a\":1} x"), None);
        assert_eq!(read(b"nothing"), None);
    }

    #[test]
    fn what_nothing_bounds_is_named_however_it_is_written() {
        for (body, name) in [
            (r#"{"plugins":[{"id":"web"}]}"#, "plugins"),
            (r#"{"pl\u0075gins":[{}]}"#, "plugins"),
            (r#"{"plugins":[{"id":"response-healing"},{"id":"file-parser"}]}"#, "plugins"),
            (r#"{"plugins":[{"id":"file-parser","pdf":{"engine":"mistral-ocr"}}]}"#, "plugins"),
            (r#"{"plugins":[{"id":"web","enabled":"false"}]}"#, "plugins"),
            (r#"{"plugins":[{"id":"web"}],"plugins":[]}"#, "plugins"),
            (r#"{"tools":[{"type":"namespace","tools":[{"type":"web_search"}]}]}"#, "web_search"),
            (r#"{"tools":[{"type":"web_search_20250305","max_uses":1}]}"#, "web_search_20250305"),
            (r#"{"tools":[{"type":"function","t\u0079pe":"file_search"}]}"#, "file_search"),
            (r#"{"web_search_options":{}}"#, "web_search_options"),
            (r#"{"preset":"p"}"#, "preset"),
            (r#"{"prompt":{"id":"pmpt_1"}}"#, "prompt"),
            (r#"{"search_parameters":{"mode":"on"}}"#, "search_parameters"),
            (r#"{"enable_search":true}"#, "enable_search"),
            (r#"{"inference_geo":"us"}"#, "inference_geo"),
            (r#"{"context_management":{"edits":[{"type":"compact_20260112"}]}}"#, "context_management"),
            (r#"{"context_management":[{"type":"compaction"}]}"#, "context_management"),
            (r#"{"Web_Search_Options":{}}"#, "Web_Search_Options"),
            ("{\"\u{17f}earch_parameters\":{}}", "\u{17f}earch_parameters"),
            (r#"{"tools":[{"type":"function","TYPE":"web_search"}]}"#, "web_search"),
            (r#"{"best_of":1e3}"#, "best_of"),
            (r#"{"best_of":"3"}"#, "best_of"),
        ] {
            assert_eq!(of(body).unbounded, [name], "{body}");
        }
    }

    #[test]
    fn each_text_of_a_list_is_answered_for_itself() {
        for (prompt, texts) in [
            ("\"a\"", 1),
            ("[\"a\",\"b\"]", 2),
            ("[1,2,3]", 1),
            ("[[1,2],[3]]", 2),
            ("[\"a\",[3]]", 2),
            ("[]", 1),
        ] {
            assert_eq!(of(&format!("{{\"prompt\":{prompt}}}")).prompts, texts, "{prompt}");
        }
        assert_eq!(of("{\"input\":[\"a\",\"b\"]}").prompts, 0);
    }

    #[test]
    fn media_are_counted_by_their_place_and_only_base64_is_no_text() {
        let data = "A".repeat(100);
        let image = format!(
            r#"{{"messages":[{{"content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]}}"#
        );
        let charges = of(&image);
        assert_eq!((charges.media_bytes, charges.images), (100, 2), "on the dear side");
        // A text that looks like it stays a text.
        let text = format!(r#"{{"messages":[{{"content":"data:;base64,{data}"}}]}}"#);
        assert_eq!(of(&text).media_bytes, 0);
        let schema = format!(r#"{{"tools":[{{"function":{{"url":"{data}"}}}}]}}"#);
        assert_eq!(of(&schema), Charges::default());
        let words = format!(r#"{{"input":[{{"data":"{data} x"}}]}}"#);
        assert_eq!(of(&words).media_bytes, 0);
        let files = r#"{"input":[{"type":"input_file","file_id":"f"},{"type":"item_reference","id":"i"}]}"#;
        assert_eq!((of(files).files, of(files).continues), (2, true));
    }

    #[test]
    fn other_models_answers_and_ways_to_be_served_are_found() {
        let charges = of(
            r#"{"fallbacks":[{"model":"dear"},"dearer"],"best_of":3,"modalities":["text","audio"],"speed":"fast",
            "system":[{"type":"text","cache_control":{"type":"ephemeral","ttl":"1h"}}],"prompt":{"id":"p"}}"#,
        );
        assert_eq!(charges.fallbacks, ["dear", "dearer"]);
        assert_eq!(charges.best_of, Some(3));
        assert!(charges.audio_out && charges.fast && charges.cache_hour && charges.continues);
        assert!(!of(r#"{"prompt":["a","b"],"cache_control":{"ttl":"5m"}}"#).cache_hour);
        for (body, goes_on) in [
            (r#"{"backgr\u006fund":true}"#, true),
            (r#"{"background":"yes"}"#, true),
            (r#"{"background":true,"background":false}"#, true),
            (r#"{"Background":true}"#, true),
            (r#"{"background":false}"#, false),
            (r#"{"background":null,"metadata":{"background":true}}"#, false),
        ] {
            assert_eq!(of(body).background, goes_on, "{body}");
        }
    }
}
