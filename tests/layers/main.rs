//! Keeps the layers: a normal dependency points to a strictly lower layer, and siblings are strangers.

#![allow(clippy::expect_used, reason = "tests")]

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Every crate of the workspace with its layer. A crate that is not listed fails the test.
const LAYERS: &[(&str, u8)] = &[
    ("tally-types", 0),
    ("tally-events", 1),
    ("tally-matcher", 2),
    ("tally-tracker", 2),
    ("tally-order", 2),
    ("tally-account", 2),
    ("tally-pricing", 2),
    ("tally-address", 2),
    ("tally-sign", 2),
    ("tally-ports", 3),
    ("tally-watcher", 4),
    ("tally-projector", 4),
    ("tally-rates", 4),
    ("tally-notifier", 4),
    ("tally-gateway", 4),
    ("tally-chains", 4),
    ("tally-feeds", 4),
    ("tally-log", 4),
    ("tally-store", 4),
    ("tally-courier", 4),
    ("tally-sandbox", 4),
    ("tally-testkit", 4),
    ("tally", 5),
    ("tally-tests", 6),
    ("tally-benches", 6),
];

/// Outside libraries that only these crates may name: what comes from them stays inside.
const ADAPTERS: &[(&str, &[&str])] = &[
    ("bitcoincore-rpc", &["tally-chains"]),
    ("ethers-core", &["tally-chains"]),
    ("async-nats", &["tally-log"]),
    ("sled", &["tally-log", "tally-store"]),
    ("reqwest", &["tally-chains", "tally-feeds", "tally-courier", "tally-log", "tally"]),
    ("lettre", &["tally-courier"]),
    ("axum", &["tally-gateway", "tally-sandbox", "tally"]),
    ("tonic", &["tally-gateway"]),
];

/// Crates that compute and never do: no I/O, no async, no clock.
const PURE: &[&str] = &[
    "tally-types",
    "tally-events",
    "tally-matcher",
    "tally-tracker",
    "tally-order",
    "tally-account",
    "tally-pricing",
    "tally-address",
    "tally-sign",
];

/// What a pure crate cannot depend on.
const IMPURE: &[&str] =
    &["tokio", "async-trait", "futures", "reqwest", "axum", "sled", "async-nats", "getrandom", "tracing"];

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

/// `(package, its normal dependencies)` of every package of the workspace.
fn packages() -> Vec<(String, Vec<String>)> {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata answers");
    let names = |package: &cargo_metadata::Package| {
        package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Normal)
            .map(|dependency| dependency.name.clone())
            .collect()
    };
    metadata.packages.iter().map(|package| (package.name.to_string(), names(package))).collect()
}

#[test]
fn a_dependency_points_to_a_strictly_lower_layer() {
    let mut broken = Vec::new();
    for (package, dependencies) in packages() {
        let Some(own) = layer(&package) else {
            broken.push(format!("{package} has no layer"));
            continue;
        };
        for dependency in dependencies.iter().filter(|name| name.starts_with("tally")) {
            match layer(dependency) {
                Some(below) if below < own => {}
                _ => broken.push(format!("{package} (layer {own}) depends on {dependency}")),
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_testkit_is_never_a_normal_dependency() {
    for (package, dependencies) in packages() {
        assert!(!dependencies.contains(&"tally-testkit".to_owned()), "{package}");
    }
}

#[test]
fn outside_libraries_stay_in_their_adapters() {
    for (package, dependencies) in packages() {
        for (library, homes) in ADAPTERS {
            let uses = dependencies.iter().any(|dependency| dependency == library);
            assert!(!uses || homes.contains(&package.as_str()), "{package} depends on {library}");
        }
    }
}

#[test]
fn pure_crates_have_no_way_to_do_anything() {
    for (package, dependencies) in packages() {
        if PURE.contains(&package.as_str()) {
            let impure: Vec<_> = dependencies.iter().filter(|name| IMPURE.contains(&name.as_str())).collect();
            assert!(impure.is_empty(), "{package} depends on {impure:?}");
        }
    }
}

/// Every file below a folder that is a source of tests.
fn sources(dir: &std::path::Path, found: &mut String) {
    for entry in std::fs::read_dir(dir).expect("it is there") {
        let path = entry.expect("it is there").path();
        let is_source = path.extension().is_some_and(|extension| extension == "rs" || extension == "py");
        if path.is_dir() {
            sources(&path, found);
        } else if is_source {
            found.push_str(&std::fs::read_to_string(&path).expect("it is there"));
        }
    }
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is there");
    let mut all = String::new();
    sources(&root.join("crates"), &mut all);
    sources(&root.join("tests"), &mut all);
    let page = std::fs::read_to_string(root.join("docs/acknowledgements.md")).expect("it is there");
    let mut promises = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let proofs = row.trim_end_matches(" |").rsplit(" | ").next().expect("it is there");
        let named: Vec<&str> = proofs.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test: {row}");
        for name in named {
            let exists = if name.contains('/') {
                root.join(name).exists() || root.join("crates/tally-log").join(name).exists()
            } else if name.starts_with("tally-") {
                root.join("crates").join(name).exists()
            } else {
                all.contains(&format!("fn {name}(")) || all.contains(&format!("def {name}("))
            };
            assert!(exists, "{name} is nowhere: {row}");
        }
        promises += 1;
    }
    assert!(promises > 15, "{promises} promises");
}
