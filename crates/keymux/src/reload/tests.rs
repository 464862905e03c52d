use super::*;
use keymux_config::from_toml;
use std::cell::Cell;

const FILE: &str = "/keymux.toml";

/// A machine whose files a test changes, and that counts the programs it runs.
#[derive(Default)]
struct Machine {
    files: RefCell<HashMap<PathBuf, String>>,
    runs: Cell<u32>,
}

impl Machine {
    fn with(files: &[(&str, &str)]) -> Self {
        let machine = Self::default();
        for (path, text) in files {
            machine.write(path, text);
        }
        machine
    }

    fn write(&self, path: &str, text: &str) {
        self.files.borrow_mut().insert(path.into(), text.to_owned());
    }

    fn remove(&self, path: &str) {
        self.files.borrow_mut().remove(Path::new(path));
    }

    fn see<T>(&self, look: impl FnOnce(&World<'_>) -> T) -> T {
        let read = |path: &Path| -> io::Result<String> {
            self.files.borrow().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        let run = |_: &[String]| {
            self.runs.set(self.runs.get() + 1);
            Ok("sk-test-cmd".to_owned())
        };
        look(&World { env: &|_| None, env_names: &[], read: &read, run: &run })
    }

    fn start(&self) -> (Reloader, Arc<Gateway>) {
        let text = self.files.borrow()[Path::new(FILE)].clone();
        let config =
            self.see(|w| from_toml(FILE, &text, w)).map_err(|p| p.render(FILE, &text, false)).unwrap();
        self.runs.set(0);
        let gateway = Gateway::new(config.clone(), 10, 1, (crate::clock::Clock::start(), None)).unwrap();
        (Reloader::new(FILE.into(), text, config), gateway)
    }

    fn look(&self, reloader: &mut Reloader, gateway: &Arc<Gateway>) -> String {
        match self.see(|w| reloader.look(gateway, w, |text, w| from_toml(FILE, text, w), false)) {
            Looked::Same => "same".to_owned(),
            Looked::Mended => "mended".to_owned(),
            Looked::Changed(changes) => changes.iter().map(|c| c.text.clone()).collect::<Vec<_>>().join("; "),
            Looked::Refused(why) => format!("refused: {why}"),
        }
    }
}

fn text(server: &str, keys: &str) -> String {
    format!(
        "[server]\ndata_dir = \"unused\"\n{server}\n[[provider]]\nname = \"openai\"\ndialect = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\nkeys = [{keys}]\n"
    )
}

const LITERAL: &str = "{ name = \"a\", secret = \"literal:sk-test-a\" }";

#[test]
fn a_secret_file_that_comes_back_is_taken_and_its_absence_told_once() {
    let machine = Machine::with(&[(FILE, &text("", LITERAL))]);
    let (mut reloader, gateway) = machine.start();
    assert_eq!(machine.look(&mut reloader, &gateway), "same");
    let more = "{ name = \"b\", secret = \"file:/b\" }, { name = \"c\", secret = { cmd = [\"vault\"] } }";
    machine.write(FILE, &text("", &format!("{LITERAL}, {more}")));
    let told = machine.look(&mut reloader, &gateway);
    assert!(told.starts_with("refused") && told.contains("/b"), "{told}");
    let runs = machine.runs.get();
    assert_eq!(machine.look(&mut reloader, &gateway), "same", "told once");
    assert_eq!(machine.runs.get(), runs, "no program is run every two seconds");
    machine.write("/b", "sk-test-b");
    assert_eq!(machine.look(&mut reloader, &gateway), "key openai/b added; key openai/c added");
    assert_eq!(machine.look(&mut reloader, &gateway), "same");
}

#[test]
fn a_mistake_that_is_taken_back_is_told_as_mended() {
    let machine = Machine::with(&[(FILE, &text("", LITERAL))]);
    let (mut reloader, gateway) = machine.start();
    machine.write(FILE, &text("drain = 3", LITERAL));
    assert!(machine.look(&mut reloader, &gateway).starts_with("refused"));
    machine.write(FILE, &text("", LITERAL));
    assert_eq!(machine.look(&mut reloader, &gateway), "mended");
    assert_eq!(machine.look(&mut reloader, &gateway), "same");
}

#[test]
fn every_file_that_holds_a_secret_is_looked_at() {
    let server = "token = \"file:/t\"\nadmin_token = \"file:/m\"";
    let key = "{ name = \"a\", secret = \"file:/a\" }";
    let machine =
        Machine::with(&[(FILE, &text(server, key)), ("/t", "km-1"), ("/m", "kma-1"), ("/a", "sk-test-1")]);
    let (mut reloader, gateway) = machine.start();
    assert_eq!(machine.look(&mut reloader, &gateway), "same");
    for (file, change) in [
        ("/t", "server.token changed"),
        ("/m", "server.admin_token changed"),
        ("/a", "key openai/a changed: secret"),
    ] {
        machine.write(file, "sk-test-2");
        assert_eq!(machine.look(&mut reloader, &gateway), change);
        assert_eq!(machine.look(&mut reloader, &gateway), "same");
    }
    machine.remove("/a");
    assert_eq!(machine.look(&mut reloader, &gateway), "same", "it is being replaced");
}

#[test]
fn a_reload_cannot_open_a_gateway_that_others_reach() {
    let open = "listen = \"127.0.0.1:0\"";
    let machine =
        Machine::with(&[(FILE, &text("listen = \"0.0.0.0:0\"\ntoken = \"literal:km-test\"", LITERAL))]);
    let (mut reloader, gateway) = machine.start();
    machine.write(FILE, &text(open, LITERAL));
    let told = machine.look(&mut reloader, &gateway);
    assert!(told.starts_with("refused") && told.contains("0.0.0.0"), "{told}");
    assert!(gateway.live.load().config.server.token.is_some());
    machine.write(FILE, &text(&format!("{open}\nallow_open = true"), LITERAL));
    assert!(machine.look(&mut reloader, &gateway).contains("server.token changed"));
}
