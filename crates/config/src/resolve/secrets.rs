//! Fetches secrets from where the file says they are. What goes wrong is told by the source's name, never by its
//! content.

use crate::problem::{At, Findings, nearest};
use crate::secret::{NotASecret, Secret, SecretSource};
use crate::text::leaf::SecretText;
use crate::world::World;
use zeroize::Zeroizing;

/// How a text becomes a secret.
type Make = fn(String) -> Result<Secret, NotASecret>;

/// The secret and where it came from.
pub(super) fn fetch(
    text: &At<SecretText>,
    world: &World<'_>,
    found: &mut Findings,
) -> (Option<Secret>, SecretSource) {
    fetch_as(Secret::new, text, world, found)
}

/// The value of a header, which may be more than a key alone.
pub(super) fn fetch_header(text: &At<SecretText>, world: &World<'_>, found: &mut Findings) -> Option<Secret> {
    fetch_as(Secret::of_header, text, world, found).0
}

fn fetch_as(
    make: Make,
    text: &At<SecretText>,
    world: &World<'_>,
    found: &mut Findings,
) -> (Option<Secret>, SecretSource) {
    let (source, fetched) = match &text.value {
        SecretText::Literal(value) => {
            let secret = make(value.to_string());
            (
                SecretSource::Literal,
                secret.map_err(|e| ("the literal secret ".to_owned() + &e.to_string(), String::new())),
            )
        }
        SecretText::Env { name, item } => {
            let source = SecretSource::Env { name: name.clone(), item: *item };
            let fetched = read(&source, world, make);
            (source, fetched)
        }
        SecretText::File(path) => {
            let source = SecretSource::File(world.path(path));
            let fetched = read(&source, world, make);
            (source, fetched)
        }
        SecretText::Cmd(args) => {
            let source = SecretSource::Cmd(args.clone());
            let fetched = read(&source, world, make);
            (source, fetched)
        }
    };
    match fetched {
        Ok(secret) => (Some(secret), source),
        Err((message, hint)) => {
            found.error(text.place, message, hint);
            (None, source)
        }
    }
}

type Trouble = (String, String);

fn read(source: &SecretSource, world: &World<'_>, make: Make) -> Result<Secret, Trouble> {
    match source {
        SecretSource::Env { name, item } => from_env(name, *item, world, make),
        SecretSource::File(path) => {
            let shown = path.display();
            let text = (world.read)(path).map_err(|e| {
                let hint = "create it, or let the user that runs keymux read it";
                (format!("the secret file {shown} cannot be read: {e}"), hint.to_owned())
            })?;
            make(text).map_err(|e| {
                let hint = "put the secret into it and nothing else, on one line";
                (format!("the secret file {shown} {e}"), hint.to_owned())
            })
        }
        SecretSource::Cmd(args) => {
            let program = args.first().map_or("", String::as_str);
            let text = (world.run)(args).map_err(|e| {
                let hint = "try it in a terminal; it must print the secret within 5 s";
                (format!("the program {program} gave no secret: {e}"), hint.to_owned())
            })?;
            make(text).map_err(|e| {
                let hint = "it must print the secret and nothing else, on one line";
                (format!("the output of {program} {e}"), hint.to_owned())
            })
        }
        SecretSource::None | SecretSource::Literal => {
            Err(("there is nothing to read".to_owned(), String::new()))
        }
    }
}

fn from_env(name: &str, item: Option<usize>, world: &World<'_>, make: Make) -> Result<Secret, Trouble> {
    let Some(value) = (world.env)(name).map(Zeroizing::new) else {
        let hint = match nearest(name, world.env_names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean \"env:{near}\"?"),
            None => format!("set it: export {name}=…"),
        };
        return Err((format!("the environment variable {name} is not set"), hint));
    };
    let part = match item {
        Some(i) => value.split(',').nth(i).unwrap_or(""),
        None => &value,
    };
    make(part.to_owned()).map_err(|e| {
        let hint = match e {
            NotASecret::Empty => format!("set it: export {name}=…"),
            NotASecret::Control | NotASecret::Foreign => "set it to the key alone, on one line".to_owned(),
        };
        (format!("the environment variable {name} {e}"), hint)
    })
}
