//! Scenarios, their results, and the program that runs them.

use std::{fs, path::Path, process::Command};

use warren_sim::{
    batch::{Batch, Summary, Verdict},
    scenario::Scenario,
    swarm::{self, Blind},
    sweep::Sweep,
    template::TEMPLATES,
};

const SMALL: &str = include_str!("../scenarios/small.toml");

fn read(text: &str, sets: &[&str]) -> Result<(Scenario, String), String> {
    let sets: Vec<_> = sets.iter().map(ToString::to_string).collect();
    Scenario::read(text, &sets).map_err(|error| error.to_string())
}

/// All files in a folder, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("it was written").flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name, fs::read(entry.path()).ok()?))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn results_are_the_same_bytes_however_many_run_at_once() {
    let (scenario, text) = read(
        SMALL,
        &[
            "duration=20s",
            "churn.model=exponential",
            "churn.online=30s",
            "churn.offline=5s",
            "churn.stable=6",
        ],
    )
    .unwrap();
    let batch = Batch { scenario: &scenario, text: &text, folder: Path::new(".") };
    let folder = std::env::temp_dir().join(format!("warren-sim-results-{}", std::process::id()));
    let results = [1, 2].map(|jobs| {
        let out = folder.join(jobs.to_string());
        let reports = batch.run(&[1, 2, 3], jobs, |_| Blind).unwrap();
        batch.write(&out, 3, &reports).unwrap();
        files(&out)
    });
    fs::remove_dir_all(&folder).unwrap();
    let names: Vec<_> = results[0].iter().map(|(name, _)| name.as_str()).collect();
    let wanted = ["manifest.json", "scenario.toml", "seeds.csv", "summary.json", "wishes.csv"];
    assert_eq!(names, wanted);
    assert!(results[0] == results[1]);
}

#[test]
fn of_no_seed_nothing_is_said() {
    // Somebody interrupted the first one: what was expected was not seen.
    let (scenario, _) = read(SMALL, &[]).unwrap();
    let nothing = Summary::of(&scenario, &[]);
    assert!(nothing.verdict.is_none() && nothing.expect.is_empty());
}

#[test]
fn more_people_change_nothing_about_the_wires() {
    // Common random numbers: who joins when, and how long the ways are, is drawn from other streams.
    let ready = |set: &str| {
        let (scenario, text) = read(SMALL, &[set, "duration=2s"]).unwrap();
        let batch = Batch { scenario: &scenario, text: &text, folder: Path::new(".") };
        batch.run(&[5], 1, |_| Blind).unwrap()[0].metrics[&warren_sim::metric::Metric::ReadyP95]
    };
    let [few, many] = ["workload.browsing.clients=1", "workload.browsing.clients=9"].map(ready);
    assert!((few - many).abs() < f64::EPSILON, "{few} {many}");
}

#[test]
fn what_is_no_scenario_is_refused_by_name() {
    for (sets, wanted) in [
        (&["network.routes=5"][..], "unknown field `routes`"),
        (&["network.routers=3"], "network.routers: 4 to"),
        (&["fidelity=whole"], "fidelity: `whole` is none"),
        (&["fidelity=routing"], "unknown field"),
        (&["expect.succes=>= 1"], "unknown variant `succes`"),
        (&["duration=soon"], "`soon` is no time"),
        (&["network.latency={ model = \"square\", file = \"../x\" }"], "does not lie in"),
        (&["churn.model=weibull", "churn.online=1h", "churn.offline=1h"], "churn.shape"),
        (&["network.natted=nan"], "network.natted"),
    ] {
        let error = read(SMALL, sets).unwrap_err();
        assert!(error.contains(wanted), "{sets:?}: {error}");
    }
    let error = read("fidelity = \"wire\"\nduration = \"1s\"\ncolour = 1\n", &[]).unwrap_err();
    assert!(error.contains("line 3") && error.contains("colour"), "{error}");
}

#[test]
fn the_schema_names_every_key_that_a_scenario_may_have() {
    let schema = serde_json::to_string(&Scenario::schema()).unwrap();
    for key in ["fidelity", "routers", "latency", "graceful", "browsing", "until", "holders"] {
        assert!(schema.contains(&format!("\"{key}\"")), "{key}");
    }
}

#[test]
fn shipped_scenarios_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for (name, bytes) in files(&folder) {
        count += 1;
        let text = String::from_utf8(bytes).unwrap();
        if text.contains("[sweep]") {
            let points = Sweep::read(&text, &[], &[]).and_then(|sweep| sweep.points());
            let points = points.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(points.len() > 1, "{name}");
        } else {
            read(&text, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let template = TEMPLATES.iter().find(|it| format!("{}.toml", it.name) == name);
        assert_eq!(template.map(|it| it.text), Some(&*text), "{name} is a template");
        assert!(text.starts_with("# "), "{name} says first what it is");
    }
    assert_eq!(count, TEMPLATES.len());
}

#[test]
fn nothing_bad_happens_in_ten_swarm_seeds_and_everything_heals() {
    let seeds: Vec<_> = (1..=10).collect();
    let failures = swarm::run(&seeds, 2, |_| Blind).unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn every_scenario_that_the_swarm_draws_is_one() {
    for seed in 0..500 {
        let text = toml::to_string(&swarm::draw(seed)).unwrap();
        read(&text, &[]).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
    }
}

/// Runs the program; its exit code, and what it said to people.
fn program(words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_warren-sim")).args(words).output();
    let output = output.expect("the program starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn exit_codes_tell_failures_apart_and_a_run_can_be_replayed() {
    let folder = std::env::temp_dir().join(format!("warren-sim-program-{}", std::process::id()));
    let out = folder.join("out");
    let out = out.to_str().unwrap();
    let small = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/small.toml");
    let quick = ["--seeds", "4", "--set", "duration=5s", "--out", out];
    assert_eq!(program(&[&["run", small], &quick[..]].concat()).0, Some(0));
    let (code, words) = program(&["replay", out, "--seed", "4"]);
    assert_eq!(code, Some(0));
    assert!(words.contains("the same as then"), "{words}");
    let failing =
        ["run", small, "--seeds", "4", "--set", "duration=5s", "--set", "expect.ready=<= 0"];
    assert_eq!(program(&failing).0, Some(10));
    assert_eq!(program(&["run", small, "--set", "duration"]).0, Some(2));
    assert_eq!(program(&["run", "nowhere.toml"]).0, Some(1));
    assert_eq!(program(&["fly"]).0, Some(2));
    // Another scenario's results are not written over.
    let (code, words) =
        program(&["run", small, "--seeds", "4", "--set", "duration=4s", "--out", out]);
    assert_eq!(code, Some(1));
    assert!(words.contains("another scenario's results"), "{words}");
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!([Verdict::Liveness, Verdict::Safety].map(Verdict::code), [128, 129]);
}
