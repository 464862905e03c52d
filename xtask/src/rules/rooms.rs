//! Which room of the house may know which. The table is `ARCHITECTURE.md`'s, and a crate that is not in it may not
//! exist: adding a room is a decision, not an accident.

use crate::facts::Graph;

/// A crate, the members it may depend on (tests included), and whether an async runtime may be linked into it.
pub struct Room {
    /// Package name.
    pub name: &'static str,
    /// Package names of the members it may know.
    pub knows: &'static [&'static str],
    /// Whether tokio may be reached from it, directly or not.
    pub runtime: bool,
}

/// The house.
pub const ROOMS: &[Room] = &[
    Room { name: "keymux-policy", knows: &[], runtime: false },
    Room { name: "keymux-wire", knows: &[], runtime: false },
    Room { name: "keymux-provider", knows: &[], runtime: false },
    Room { name: "keymux-config", knows: &["keymux-policy"], runtime: false },
    Room { name: "keymux-store", knows: &["keymux-policy"], runtime: true },
    Room { name: "keymux-sim", knows: &["keymux-policy", "keymux-provider"], runtime: false },
    Room { name: "keymux-testkit", knows: &["keymux-provider"], runtime: true },
    Room {
        name: "keymux",
        knows: &[
            "keymux-policy",
            "keymux-wire",
            "keymux-config",
            "keymux-store",
            "keymux-provider",
            "keymux-testkit",
            "keymux-sim",
        ],
        runtime: true,
    },
    Room { name: "xtask", knows: &["keymux-config"], runtime: false },
];

/// Crates that are, or start, an async runtime.
const RUNTIMES: &[&str] = &["tokio", "async-std", "smol", "async-executor", "mio"];

/// Members that are in no room, imports that the table does not allow, and runtimes where none belongs.
pub fn check(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for (at, member) in graph.packages.iter().enumerate().filter(|(_, p)| p.member) {
        let Some(room) = ROOMS.iter().find(|r| r.name == member.name) else {
            found.push(format!("rooms: crate {} is not in the table of rooms", member.name));
            continue;
        };
        for &to in member.links.iter().chain(&member.tests_with) {
            let other = &graph.packages[to];
            if other.member && !room.knows.contains(&other.name.as_str()) {
                found.push(format!("rooms: {} must not know {}", member.name, other.name));
            }
        }
        if !room.runtime {
            for other in graph.reach(at).into_iter().map(|i| &graph.packages[i]) {
                if RUNTIMES.contains(&other.name.as_str()) {
                    found.push(format!("rooms: {} reaches the runtime {}", member.name, other.name));
                }
            }
        }
    }
    found
}
