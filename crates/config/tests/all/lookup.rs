//! From a model's name to where it leads.

use crate::world::good;
use keymux_config::Resolution;

const FILE: &str = r#"
[[provider]]
name = "openrouter"
keys = [{ name = "a", secret = "env:KEY_A" }]
[[provider]]
name = "lab"
dialect = "openai"
base_url = "http://h/v1"
keys = [{ name = "b", auth = "none" }]
[[route]]
model = "sonnet"
tiers = [["openrouter:anthropic/claude-sonnet-4.5"], ["lab:llama:70b", "openrouter:x/y:free"]]
[[route]]
model = "plain"
tiers = [["lab:llama"]]
[[route]]
model = "sonnet:floor"
tiers = [["lab:cheap"]]
[[route]]
model = "lab:named"
tiers = [["lab:other"]]
"#;

fn adhoc(provider: usize, model: &str) -> Resolution {
    Resolution::Adhoc { provider, model: model.to_owned() }
}

#[test]
fn routes_first_then_provider_prefixes_then_nowhere() {
    let config = good(FILE);
    assert_eq!(config.resolve("sonnet"), Resolution::Route(0));
    assert_eq!(config.resolve("lab:named"), Resolution::Route(3), "an exact route goes over provider:model");
    assert_eq!(config.resolve("lab:named2"), adhoc(1, "named2"));
    assert_eq!(config.resolve("openrouter:openai/gpt-4o:nitro"), adhoc(0, "openai/gpt-4o:nitro"));
    assert_eq!(
        config.resolve("openrouter:~openai/gpt-latest@preset/x"),
        adhoc(0, "~openai/gpt-latest@preset/x")
    );
    for unknown in ["openai/gpt-4o:nitro", "lab:", "", "SONNET", ":x", "plain:free"] {
        assert!(matches!(config.resolve(unknown), Resolution::Unknown { .. }), "{unknown}");
    }
}

#[test]
fn unknown_names_get_suggestions() {
    let config = good(FILE);
    let suggestions = |name: &str| match config.resolve(name) {
        Resolution::Unknown { suggestions } => suggestions,
        other => panic!("{other:?}"),
    };
    assert_eq!(suggestions("sonet")[0], "sonnet");
    assert_eq!(suggestions("openruter:x/y"), ["openrouter:x/y"]);
    assert_eq!(suggestions("gpt-4o"), ["openrouter:gpt-4o", "lab:gpt-4o"]);
    assert!(suggestions(&"x".repeat(1_000_000)).is_empty());
}

#[test]
fn the_default_provider_takes_the_rest_unchanged() {
    let config = good(&format!("default_provider = \"openrouter\"\n{FILE}"));
    assert_eq!(config.resolve("openai/gpt-4o:nitro"), adhoc(0, "openai/gpt-4o:nitro"));
    assert_eq!(config.resolve("lab:x"), adhoc(1, "x"));
    assert!(matches!(config.resolve(""), Resolution::Unknown { .. }));
}

#[test]
fn a_suffix_on_a_route_goes_on_to_openrouter_only() {
    let config = good(FILE);
    let models = |name: &str| -> Vec<Vec<(usize, String)>> {
        let Resolution::Route(i) = config.resolve(name) else { panic!("{name} is no route") };
        let route = &config.routes[i];
        assert_eq!(&*route.model, name);
        route.tiers.iter().map(|t| t.iter().map(|t| (t.provider, t.model.to_string())).collect()).collect()
    };
    assert_eq!(
        models("sonnet:nitro"),
        [
            vec![(0, "anthropic/claude-sonnet-4.5:nitro".to_owned())],
            vec![(1, "llama:70b".to_owned()), (0, "x/y:free".to_owned())]
        ]
    );
    // What is asked for free must not lead to what may cost.
    assert_eq!(
        models("sonnet:free"),
        [vec![(0, "anthropic/claude-sonnet-4.5:free".to_owned())], vec![(0, "x/y:free".to_owned())]]
    );
    assert_eq!(models("sonnet:floor"), [[(1, "cheap".to_owned())]], "a declared route goes over a variant");
    let declared = config.routes.iter().filter(|r| r.variant_of.is_none()).count();
    assert_eq!((declared, config.routes.len()), (4, 6));
}
