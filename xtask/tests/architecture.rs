//! The workspace keeps its architecture, and each rule refuses the sample that it was made against.

use std::path::Path;

use xtask::facts::{File, Graph, Package};
use xtask::rules::{length, manners, purity, rooms, sabotages, supply};

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_workspace_keeps_its_architecture() {
    let violations = xtask::check(&root()).expect("facts");
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn the_facts_are_those_of_this_workspace() {
    let graph = xtask::facts::graph(&root()).expect("graph");
    let at = |name: &str| graph.packages.iter().position(|p| p.name == name).expect(name);
    assert!(graph.packages[at("keymux-policy")].member && !graph.packages[at("serde")].member);
    assert!(graph.packages[at("keymux")].links.contains(&at("tokio")), "edges are seen");
    assert!(
        graph.packages[at("keymux-wire")].tests_with.contains(&at("proptest")),
        "test edges are told apart"
    );
    let files = xtask::facts::files(&root()).expect("files");
    assert!(files.iter().any(|f| f.path == "xtask/tests/architecture.rs" || f.path == "Cargo.toml"));
}

fn package(name: &str) -> Package {
    Package {
        name: name.into(),
        version: "1.0.0".into(),
        licence: Some("MIT".into()),
        member: true,
        ..Package::default()
    }
}
fn foreign(name: &str) -> Package {
    let source = Some("registry+https://github.com/rust-lang/crates.io-index".into());
    Package { member: false, source, ..package(name) }
}
/// A graph whose first package links the second, the second the third, and so on.
fn chain(packages: Vec<Package>) -> Graph {
    let mut graph = Graph { packages };
    for at in 1..graph.packages.len() {
        graph.packages[at - 1].links = vec![at];
    }
    graph
}
fn only(found: &[String], part: &str) {
    assert!(found.len() == 1 && found[0].contains(part), "wanted one violation with {part:?}, got {found:?}");
}

#[test]
fn a_room_may_not_know_one_that_the_table_keeps_from_it() {
    assert!(rooms::check(&chain(vec![package("keymux-config"), package("keymux-policy")])).is_empty());
    only(
        &rooms::check(&chain(vec![package("keymux-policy"), package("keymux-wire")])),
        "must not know keymux-wire",
    );
    only(
        &rooms::check(&chain(vec![package("keymux-sim"), package("keymux-wire")])),
        "must not know keymux-wire",
    );
}

#[test]
fn a_room_may_not_know_another_in_its_tests_either() {
    let mut graph = Graph { packages: vec![package("keymux-provider"), package("keymux-policy")] };
    graph.packages[0].tests_with = vec![1];
    only(&rooms::check(&graph), "keymux-provider must not know keymux-policy");
}

#[test]
fn a_new_crate_needs_a_place_in_the_table() {
    only(&rooms::check(&chain(vec![package("keymux-attic")])), "keymux-attic");
}

#[test]
fn a_runtime_is_found_behind_other_crates() {
    let far = |room| chain(vec![package(room), foreign("innocent"), foreign("tokio")]);
    only(&rooms::check(&far("keymux-wire")), "reaches the runtime tokio");
    only(&rooms::check(&far("keymux-sim")), "reaches the runtime tokio");
    assert!(rooms::check(&far("keymux-testkit")).is_empty());
    let mut tests = far("keymux-policy");
    tests.packages[0].tests_with = std::mem::take(&mut tests.packages[0].links);
    only(&rooms::check(&tests), "reaches the runtime tokio");
    // What a dependency's own tests need is never linked here.
    let mut beyond = far("keymux-policy");
    beyond.packages[1].tests_with = std::mem::take(&mut beyond.packages[1].links);
    assert!(rooms::check(&beyond).is_empty());
}

#[test]
fn licence_expressions_are_read_as_such() {
    for ok in [
        "MIT",
        "MIT/Apache-2.0",
        "MIT OR LGPL-2.1-or-later",
        "GPL-3.0-only OR MIT AND ISC",
        "(MIT OR GPL-3.0-only) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
        "ISC AND (Apache-2.0 OR ISC) AND Apache-2.0 AND MIT AND BSD-3-Clause AND (Apache-2.0 OR ISC OR MIT-0)",
    ] {
        assert!(supply::permitted(ok), "{ok}");
    }
    for bad in [
        "",
        "MPL-2.0",
        "OpenSSL",
        "MIT AND GPL-3.0-only",
        "GPL-3.0-only WITH Classpath-exception-2.0",
        "Apache-2.0 WITH Some-exception",
        "(MIT OR ISC) AND AGPL-3.0-only",
        "MIT ISC",
        "(MIT",
        "MIT OR",
    ] {
        assert!(!supply::permitted(bad), "{bad}");
    }
}

#[test]
fn a_package_with_a_wrong_licence_source_or_name_is_refused() {
    let one = |p: Package| supply::check(&chain(vec![package("keymux"), foreign("middle"), p]));
    assert!(one(foreign("bytes")).is_empty());
    only(&one(Package { licence: None, ..foreign("bytes") }), "declares no licence");
    only(&one(Package { licence: Some("MPL-2.0".into()), ..foreign("bytes") }), "licence MPL-2.0");
    only(
        &one(Package { source: Some("git+https://example.org/bytes".into()), ..foreign("bytes") }),
        "comes from git",
    );
    only(&one(Package { source: None, ..foreign("bytes") }), "a path outside the workspace");
    only(&one(foreign("openssl")), "banned");
    only(&one(foreign("reqwest")), "banned");
    only(&one(foreign("ring")), "banned");
    let named_but_not_built = Graph { packages: vec![package("keymux"), foreign("ring")] };
    assert!(supply::check(&named_but_not_built).is_empty());
}

#[test]
fn a_long_file_is_refused_and_its_inline_tests_are_not_counted() {
    let code = "let x = 1;\n".repeat(length::LINES_MAX);
    let tests = format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n");
    assert!(length::check(&[File::new("crates/a/src/a.rs", &code)]).is_empty());
    assert!(length::check(&[File::new("crates/a/src/a.rs", &tests)]).is_empty());
    let long = format!("{code}// one more\n");
    for path in ["crates/a/src/a.rs", "e2e/python/conftest.py", "bench/load.sh"] {
        only(&length::check(&[File::new(path, &long)]), "501 lines");
    }
    for path in ["crates/a/tests/a.rs", "crates/a/src/a/tests.rs", "docs/a.md"] {
        assert!(length::check(&[File::new(path, &long)]).is_empty(), "{path}");
    }
    // `mod tests;` in the middle must not hide what follows it.
    let hidden = format!("#[cfg(test)]\nmod tests;\n{long}");
    only(&length::check(&[File::new("crates/a/src/a.rs", &hidden)]), "503 lines");
}

#[test]
fn an_exception_for_a_data_table_holds_only_while_it_is_needed() {
    let long = File::new("crates/a/src/table.rs", &"x\n".repeat(600));
    let short = File::new("crates/a/src/table.rs", "x\n");
    assert!(length::check_with(&[long], &["crates/a/src/table.rs"]).is_empty());
    only(&length::check_with(&[short], &["crates/a/src/table.rs"]), "take it off");
    only(&length::check_with(&[], &["crates/a/src/table.rs"]), "does not exist");
}

#[test]
fn a_pure_room_has_no_clock_socket_or_second_face_for_tests() {
    let pure = |text: &str| purity::check(&[File::new("crates/policy/src/pick.rs", text)]);
    only(&pure("let t = Instant::now();"), "Instant::now");
    only(&pure("use std::fs;"), "std::fs");
    only(&pure("if cfg!(test) { return; }"), "cfg!(test)");
    only(&pure("#[cfg(not(test))]\nfn f() {}"), "cfg(not(test))");
    only(&pure("#[cfg(test)]\nfn only_in_tests() {}"), "no module of tests");
    assert!(pure("//! No Instant::now here.\n#[cfg(test)]\nmod tests {\n use std::fs;\n}").is_empty());
    let with = |declared: &str| {
        let parent = File::new("crates/wire/src/error.rs", declared);
        purity::check(&[parent, File::new("crates/wire/src/error/corpus.rs", "use std::fs;")])
    };
    assert!(with("#[cfg(test)]\nmod corpus;").is_empty());
    only(&with("mod corpus;"), "std::fs");
    only(&with("#[cfg(test)]\nmod corp;\nmod corpus;"), "std::fs");
    assert!(purity::check(&[File::new("crates/keymux/src/clock.rs", "Instant::now()")]).is_empty());
    only(&purity::check(&[File::new("crates/wire/src/sse.rs", "use tokio::io;")]), "sans-IO");
    only(&purity::check(&[File::new("crates/provider/src/lib.rs", "std::thread::sleep(d);")]), "std::thread");
}

#[test]
fn a_module_without_a_head_and_a_crate_without_lints_are_refused() {
    let one = |path: &str, text: &str| manners::check(&[File::new(path, text)]);
    only(&one("crates/a/src/lib.rs", "use b;\n"), "why it exists");
    only(&one("crates/a/src/lib.rs", "// a comment is no head\n"), "why it exists");
    assert!(one("crates/a/src/lib.rs", "//! A reason.\n").is_empty());
    assert!(one("crates/a/src/a/tests.rs", "use b;\n").is_empty());
    only(&one("crates/a/Cargo.toml", "[package]\nname = \"a\"\n"), "lints");
    assert!(one("crates/a/Cargo.toml", "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n").is_empty());
}

#[test]
fn traces_of_a_machine_and_real_looking_secrets_are_refused() {
    let one = |text: String| manners::check(&[File::new("docs/a.md", &text)]);
    only(&one(["see /wo", "rk/main"].concat()), "docs/a.md:1");
    only(&one(["\n\ncd /ro", "ot/x"].concat()), "docs/a.md:3");
    only(&one(["https://pypi.", "org/simple"].concat()), "docs/a.md:1");
    only(&one(["registry.npmjs.", "org"].concat()), "docs/a.md:1");
    assert!(one(["$dir/tm", "p/x and a/tm", "p/x"].concat()).is_empty());
    only(&one(["a/tm", "p/x and /tm", "p/x"].concat()), "docs/a.md:1");
    let random = "0123456789abcdef".repeat(3);
    only(&one(["sk", "-or-v1-", &random].concat()), "real secret");
    assert!(one(["sk", "-test-", &random].concat()).is_empty());
    assert!(one("task-manager-with-a-very-long-name-and-a-digit-1".into()).is_empty());
    only(&one(["-----BEGIN PRIVATE", " KEY-----"].concat()), "real secret");
}

#[test]
fn a_sabotage_that_fits_nothing_or_that_no_test_would_notice_is_refused() {
    let with = |find: &str, test: &str, more: &str| {
        let one = format!(
            "[[mutant]]\nname = \"a\"\nfile = \"crates/a/src/lib.rs\"\nfind = \"{find}\"\ntest = \"tests::{test}\"\n{more}"
        );
        sabotages::check(&[
            File::new("mutants/mutants.toml", &one),
            File::new("crates/a/src/lib.rs", "once(); twice(); twice();\nfn it_is_so() {}\n"),
        ])
    };
    assert!(with("once();", "it_is_so", "").is_empty());
    only(&with("gone();", "it_is_so", ""), "0 times");
    only(&with("twice();", "it_is_so", ""), "2 times");
    only(&with("once();", "it_was", ""), "no test");
    let again =
        "[[mutant]]\nname = \"a\"\nfile = \"crates/a/src/lib.rs\"\nfind = \"once();\"\ntest = \"it_is_so\"\n";
    only(&with("once();", "it_is_so", again), "two have the name");
    only(&sabotages::check(&[File::new("mutants/mutants.toml", "[[mutant]\n")]), "cannot be read");
}
