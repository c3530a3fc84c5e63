//! Studies as people make them: the program, from a template to a page, and results for Python.

#![expect(clippy::unwrap_used, reason = "test code: it fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use warren_sim::template::TEMPLATES;

/// A folder of one test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("warren-study-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Runs the program here; its exit code, what it printed and what it said.
    fn program(&self, words: &str) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warren-sim"));
        let output = command.args(words.split(' ')).current_dir(&self.0).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn passes(&self, words: &str) -> (String, String) {
        let (code, printed, said) = self.program(words);
        assert_eq!(code, Some(0), "{words}: {printed}{said}");
        (printed, said)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every file below a folder, with what it holds.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_study_that_was_stopped_goes_on_and_gives_the_same_bytes() {
    let scratch = Scratch::new("kept");
    scratch.passes("new --template crowds s.toml");
    scratch.passes("run s.toml --seeds 1..6 --jobs 2 --out whole");
    scratch.passes("run s.toml --seeds 4..6 --out parts");
    let (_, said) = scratch.passes("run s.toml --seeds 1..6 --out parts");
    assert!(said.contains("3 of 6 seeds are there already"), "{said}");
    assert_eq!(tree(&scratch.0.join("whole")), tree(&scratch.0.join("parts")));
    // What is kept is what is used: a seed's file that says something else changes the results.
    let file = scratch.0.join("parts/seeds/4.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"seed\":4", "\"seed\":400")).unwrap();
    scratch.passes("run s.toml --seeds 5 --out parts");
    assert!(scratch.read("parts/seeds.csv").contains("\n400,"));
    // A file that is cut short is named, and nothing is made of it.
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    let (code, _, said) = scratch.program("run s.toml --seeds 5 --out parts");
    assert_eq!(code, Some(1));
    assert!(said.contains("4.json") && said.contains("delete it"), "{said}");
    // And another scenario's seeds are not mixed in, though its manifest is gone.
    fs::remove_file(&file).unwrap();
    fs::remove_file(scratch.0.join("parts/manifest.json")).unwrap();
    let (code, _, said) =
        scratch.program("run s.toml --seeds 5 --out parts --set adversary.hostile=0.2");
    assert_eq!(code, Some(1));
    assert!(said.contains("another scenario's results"), "{said}");
}

#[test]
fn a_sweep_runs_every_point_once_and_its_page_can_be_made_again() {
    let scratch = Scratch::new("sweep");
    scratch.passes("new --template sybil s.toml");
    let sweep =
        "sweep s.toml --set adversary.keys=200 --vary adversary.holders=1..3/1 --seeds 1..3";
    let (printed, _) = scratch.passes(&format!("{sweep} --out one"));
    // Five numbers of identities, three of holders, four metrics; and the heading.
    assert_eq!(printed.lines().count(), 1 + 5 * 3 * 4);
    assert_eq!(printed, scratch.read("one/sweep.csv"));
    let (_, said) = scratch.passes(&format!("{sweep} --out one"));
    assert_eq!(said.matches("3 of 3 seeds are there already").count(), 15, "{said}");
    let (printed, _) = scratch.passes("report one");
    assert_eq!(printed.trim(), "one/report.html");
    let page = scratch.read("one/report.html");
    // The command on the page gives the same bytes.
    let command = page.split("<pre>warren sim ").nth(1).unwrap().split('\n').next().unwrap();
    assert_eq!(command, "sweep one/scenario.toml --seeds 1..3 --out again");
    scratch.passes(command);
    fs::remove_file(scratch.0.join("one/report.html")).unwrap();
    assert_eq!(tree(&scratch.0.join("one")), tree(&scratch.0.join("again")));
}

#[test]
fn a_page_stands_alone_and_shows_theory_beside_what_was_found() {
    let scratch = Scratch::new("page");
    scratch.passes("new --template ends s.toml");
    let one =
        "--set adversary.users=50 --vary adversary.hostile=[0.05] --vary adversary.guards=[2]";
    scratch.passes(&format!("sweep s.toml {one} --seeds 1..3 --out swept"));
    scratch.passes("report swept/adversary.guards=2,adversary.hostile=0.05 --out run.html");
    let page = scratch.read("run.html");
    for wanted in ["<svg", "dashed: theory", "class=\"band\"", "exposed", "--seeds 1..3", "run id"]
    {
        assert!(page.contains(wanted), "{wanted}");
    }
    for link in ["http", "src=", "<script", "url(", "@import", "<link"] {
        assert!(!page.contains(link), "{link}");
    }
    // Text from files is text: no scenario writes into the page.
    let file = scratch.0.join("s.toml");
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace("[sweep]", "# <script>alert()</script>\n[sweep]");
    fs::write(&file, text.split("[sweep]").next().unwrap()).unwrap();
    scratch.passes("run s.toml --set adversary.users=5 --seeds 1..2 --out plain");
    scratch.passes("run s.toml --seeds 1 --out commented");
    scratch.passes("report commented");
    assert!(scratch.read("commented/report.html").contains("&lt;script&gt;"));
    assert_eq!(scratch.program("report nowhere").0, Some(1));
}

#[test]
fn a_comparison_finds_what_differs_and_says_when_it_cannot_know() {
    let scratch = Scratch::new("compare");
    scratch.passes("new --template crowds s.toml");
    scratch.passes("run s.toml --seeds 1..10 --out a");
    scratch.passes("run s.toml --seeds 1..12 --set adversary.forward=0.9 --out b");
    let (printed, said) = scratch.passes("compare a b");
    let line = |metric: &str| {
        let mut lines = printed.lines().filter(|it| it.starts_with(metric));
        lines.next().unwrap_or_else(|| panic!("{metric}: {printed}")).to_owned()
    };
    // Longer paths show the initiator less often, and leave more open.
    assert!(line("named ").ends_with("B is lower"), "{printed}");
    assert!(line("entropy").ends_with("B is higher"), "{printed}");
    assert!(said.contains("10 seeds in common"), "{said}");
    let (printed, _) = scratch.passes("compare a a");
    assert!(printed.lines().skip(1).all(|line| line.ends_with("the same")), "{printed}");
    scratch.passes("run s.toml --seeds 1..2 --set adversary.forward=0.76 --out c");
    let (printed, _) = scratch.passes("compare a c");
    assert!(printed.contains("2 seeds in common are few") || printed.contains("under-powered"));
    scratch.passes("run s.toml --seeds 20 --out d");
    assert_eq!(scratch.program("compare a d").0, Some(2), "no seed in common");
    assert_eq!(scratch.program("compare a nowhere").0, Some(1));
}

#[test]
fn what_is_new_is_never_written_over_what_is_there() {
    let scratch = Scratch::new("new");
    let (printed, _) = scratch.passes("new");
    assert_eq!(printed.lines().count(), TEMPLATES.len());
    let (_, said) = scratch.passes("new --template ends mine.toml");
    assert!(said.contains("warren sim sweep mine.toml"), "{said}");
    assert_eq!(scratch.program("new --template small mine.toml").0, Some(1));
    assert!(scratch.read("mine.toml").contains("\"ends\""));
    assert_eq!(scratch.program("new --template nothing").0, Some(2));
}

#[test]
fn adversaries_refuse_keys_that_mean_nothing_to_them() {
    let scratch = Scratch::new("refuse");
    scratch.passes("new --template crowds s.toml");
    for (set, wanted) in [
        ("adversary.hostile=0", "at least one hostile"),
        ("adversary.forward=1.5", "adversary.forward"),
        ("adversary.guards=2", "unknown field `guards`"),
        ("adversary.kind=dragon", "unknown variant `dragon`"),
        ("network.degree=8", "looks at no links"),
        ("dead=0.1", "goes without"),
        ("expect.put_p50=<= 1", "no metric of this fidelity"),
    ] {
        let words: Vec<&str> = "run s.toml --seeds 1 --set".split(' ').chain([set]).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_warren-sim"));
        let output = command.args(words).current_dir(&scratch.0).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{set}: {said}");
        assert!(said.contains(wanted), "{set}: {said}");
    }
}

#[test]
fn shipped_adversaries_run_and_are_shown() {
    let scratch = Scratch::new("shipped");
    for name in [
        "correlation",
        "crowds",
        "droppers",
        "fingerprint",
        "guards",
        "pitch-black",
        "predecessor",
        "sybil",
        "sybil-ground",
    ] {
        let template = TEMPLATES.iter().find(|it| it.name == name).unwrap();
        scratch.passes(&format!("new --template {name} {name}.toml"));
        let verb = template.verb();
        scratch.passes(&format!("{verb} {name}.toml --seeds 1..2 --out {name}"));
        scratch.passes(&format!("report {name}"));
        assert!(scratch.read(&format!("{name}/report.html")).contains("<svg"), "{name}");
    }
}

#[test]
fn tunnels_hide_a_reader_whom_direct_requests_show_and_walks_of_chance_show_more() {
    let scratch = Scratch::new("originator");
    scratch.passes("new --template originator s.toml");
    let (printed, _) = scratch.passes("sweep s.toml --seeds 1..2 --jobs 2 --out results");
    let detected = |requests: &str| -> f64 {
        let start = format!("{requests},detected,");
        let line = printed.lines().find(|it| it.starts_with(&start)).unwrap();
        line.split(',').nth(3).unwrap().parse().unwrap()
    };
    // One neighbour, 256 blocks, at one false alarm in a hundred.
    assert!((0.17..=0.30).contains(&detected("direct")), "{printed}");
    assert!(detected("walks") >= 0.97, "{printed}");
    assert!(detected("tunnels") <= 0.01, "{printed}");
    // Five who put their counts together: more of who asks by himself, nothing of who asks through tunnels.
    let five = "--seeds 1..2 --set adversary.colluding=5 --vary adversary.requests=[\"direct\",\"tunnels\"]";
    let (together, _) = scratch.passes(&format!("sweep s.toml {five} --jobs 2 --out together"));
    let five = |requests: &str| -> f64 {
        let start = format!("{requests},detected,");
        let line = together.lines().find(|it| it.starts_with(&start)).unwrap();
        line.split(',').nth(3).unwrap().parse().unwrap()
    };
    assert!(five("direct") > 2.0 * detected("direct"), "{together}");
    assert!(five("tunnels") <= 0.01, "{together}");
}

/// A metric of a sweep at the point with these values.
fn at(printed: &str, value: &str, metric: &str) -> f64 {
    let start = format!("{value},{metric},");
    let rest = printed.lines().find_map(|it| it.strip_prefix(&start)).unwrap();
    rest.split(',').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_mark_is_noise_behind_an_honest_hop_and_is_read_through_a_key_stream() {
    let scratch = Scratch::new("tagging");
    scratch.passes("new --template tagging s.toml");
    let (printed, _) = scratch.passes("sweep s.toml --seeds 1..2 --out results");
    let (ours, other) = (|it| at(&printed, "chained", it), |it| at(&printed, "counter", it));
    assert!(ours("marks_read") <= 0.0 && other("marks_read") >= 1.0, "{printed}");
    assert!((0.49..0.51).contains(&ours("mark_bits")), "{printed}");
    assert!(ours("tunnels_ended") >= 1.0 && other("tunnels_ended") <= 0.0, "{printed}");
}

#[test]
fn names_pushed_without_end_are_no_more_of_what_tunnels_are_made_of_than_those_who_push() {
    let scratch = Scratch::new("gossip");
    scratch.passes("new --template gossip s.toml");
    let small = "--set network.routers=200 --set adversary.known=64 --set adversary.minutes=15";
    // A fifth pushes; [expect] has the rest: at most a quarter, and everybody honest is sampled by somebody.
    let (printed, _) = scratch.passes(&format!("run s.toml --seeds 1..2 --jobs 2 {small}"));
    let of = |metric: &str| -> f64 {
        let line = printed.lines().find(|it| it.split(' ').next() == Some(metric)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert!(of("view_hostile") > 0.1, "{printed}");
    assert!(of("view_hostile_simple") > 0.35, "a view that keeps the last is poisoned: {printed}");
}

#[test]
fn whoever_takes_part_finds_out_who_does_and_sooner_by_asking() {
    let scratch = Scratch::new("crawler");
    scratch.passes("new --template crawler s.toml");
    let small = "--set network.routers=100 --set adversary.minutes=3 --vary adversary.crawlers=[1]";
    let (printed, _) = scratch.passes(&format!("sweep s.toml {small} --seeds 1..2 --out results"));
    let [listens, asks] = ["0,1", "30,1"].map(|it| at(&printed, it, "enumerated"));
    assert!(asks > 0.95 && listens <= asks && listens > 0.1, "{printed}");
}

#[test]
fn python_reads_what_runs_and_sweeps_leave() {
    let scratch = Scratch::new("python");
    scratch.passes("new --template crowds s.toml");
    scratch.passes("run s.toml --seeds 1..3 --out run");
    scratch.passes("sweep s.toml --vary adversary.hostile=[0.05,0.1] --seeds 1..2 --out sweep");
    let script = "
import simload
run = simload.load('run')
assert run.column('seed') == [1, 2, 3], run.rows
assert all(0 < it < 1 for it in run.column('named')), run.rows
assert sum(run.curves['rounds'].values()) == 3 * 200, run.curves
assert run.about['complete'] is True
sweep = simload.load('sweep')
named = [row for row in sweep.rows if row['metric'] == 'named']
assert [row['adversary.hostile'] for row in named] == [0.05, 0.1], named
assert all(abs(row['mean'] - row['theory']) < 0.02 for row in named), named
";
    let loader = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let mut python = Command::new("python3");
    python.args(["-B", "-c", script]).env("PYTHONPATH", loader).current_dir(&scratch.0);
    let output = python.output().expect("python3, which the tests need");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = include_str!("../python/simload.py").lines().count();
    assert!(lines <= 40, "a loader that is read in a minute, not {lines} lines");
}

#[test]
fn the_notebook_runs_from_its_first_cell_to_its_last() {
    let scratch = Scratch::new("notebook");
    scratch.passes("new --template ends mine.toml");
    let small = "--vary adversary.hostile=[0.05,0.1] --vary adversary.guards=[0,2]";
    scratch.passes(&format!("sweep mine.toml {small} --seeds 1..3 --jobs 2 --out results"));
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let run = |notebook: &Path| {
        let mut command = Command::new("python3");
        command.arg("-B").arg(python.join("run_notebook.py")).arg(notebook);
        command.env("PYTHONPATH", &python).current_dir(&scratch.0).output().expect("python3")
    };
    let output = run(&python.join("analysis.ipynb"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("0 guards, 5% hostile: 100.0%"), "{printed}");
    let figure = scratch.read("exposed.svg");
    assert_eq!((figure.matches("<polyline").count(), figure.contains("2 guards")), (2, true));
    // A cell that fails is named, and nothing goes on after it.
    let broken = include_str!("../python/analysis.ipynb").replacen("half_width_95", "half", 1);
    fs::write(scratch.0.join("broken.ipynb"), broken).unwrap();
    let output = run(&scratch.0.join("broken.ipynb"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("cell 4"), "{said}");
}

#[test]
fn the_first_experiment_goes_as_its_page_says() {
    let scratch = Scratch::new("first");
    let page = include_str!("../../docs/first-experiment.md");
    let code: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let code = code.join("\n").replace("\\\n", " ");
    let mut printed = Vec::new();
    for line in code.lines().filter(|line| line.starts_with("./warren sim ")) {
        // Three seeds show that it works; the page's ten give the intervals.
        let line = line.replacen("./warren sim", "\"$0\"", 1).replace("1..10", "1..3");
        let mut shell = Command::new("sh");
        shell.args(["-ec", &line, env!("CARGO_BIN_EXE_warren-sim")]).current_dir(&scratch.0);
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{line}: {said}");
        printed.push(String::from_utf8(output.stdout).unwrap());
    }
    let [new, _, swept, report, _, report_weeks, compared] = &printed[..] else {
        panic!("the page has other steps: {printed:?}");
    };
    assert_eq!(new.lines().count(), TEMPLATES.len());
    for report in [report, report_weeks] {
        assert!(scratch.read(report.trim()).contains("<svg"));
    }
    // What it says of the plot, and of the comparison.
    let exposed = |guards: &str| -> f64 {
        let start = format!("{guards},0.05,exposed,");
        let line = swept.lines().find(|it| it.starts_with(&start)).unwrap();
        line.split(',').nth(4).unwrap().parse().unwrap()
    };
    assert!(exposed("0") > 0.99 && (0.05..0.2).contains(&exposed("2")), "{swept}");
    let exposed = compared.lines().find(|it| it.starts_with("exposed")).unwrap();
    assert!(exposed.contains("B is higher"), "{compared}");
}

/// Plans three jobs, starts the first two, and kills the first worker in the middle of its job; the folder,
/// in which the second is done.
fn with_a_worker_killed(scratch: &Scratch, what: &str) -> String {
    let worker = |folder: &str, job: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warren-sim"));
        command.args(["exec", folder, "--job", job]).current_dir(&scratch.0).spawn().unwrap()
    };
    for attempt in 0..20 {
        let folder = format!("shared{attempt}");
        let (printed, _) = scratch.passes(&format!("plan {what} --jobs 3 --out {folder}"));
        let jobs = [1, 2, 3].map(|job| format!("warren sim exec {folder} --job {job}"));
        assert!(printed.lines().eq(jobs), "{printed}");
        let seed = |seed: u32| scratch.0.join(format!("{folder}/seeds/{seed}.json"));
        let (mut one, mut other) = (worker(&folder, "1"), worker(&folder, "2"));
        while !seed(1).exists() && one.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        one.kill().unwrap();
        one.wait().unwrap();
        assert!(other.wait().unwrap().success());
        // On a machine that stood still for this thread alone it may have done all of it.
        if !seed(7).exists() {
            return folder;
        }
    }
    panic!("no worker was killed in the middle")
}

#[test]
fn jobs_of_a_plan_give_the_same_bytes_though_a_worker_is_killed() {
    let scratch = Scratch::new("plan");
    scratch.passes("new --template crowds s.toml");
    let what = "s.toml --seeds 1..9";
    scratch.passes(&format!("run {what} --jobs 1 --out whole"));
    let folder = with_a_worker_killed(&scratch, what);
    let (code, _, said) = scratch.program(&format!("merge {folder}"));
    assert_eq!(code, Some(1));
    assert!(said.contains("unfinished jobs: [1, 3]"), "{said}");
    // What a worker that is killed while it writes leaves is nobody's result.
    fs::write(scratch.0.join(format!("{folder}/seeds/7.half0")), "{").unwrap();
    for job in [1, 3, 2] {
        scratch.passes(&format!("exec {folder} --job {job}"));
    }
    scratch.passes(&format!("merge {folder}"));
    fs::remove_dir_all(scratch.0.join(&folder).join("plan")).unwrap();
    assert_eq!(tree(&scratch.0.join("whole")), tree(&scratch.0.join(&folder)));
}

#[test]
fn a_plan_of_a_sweep_gives_what_the_sweep_gives() {
    let scratch = Scratch::new("planned");
    scratch.passes("new --template crowds s.toml");
    let what = "s.toml --vary adversary.hostile=[0.05,0.1] --seeds 1..3";
    let (printed, _) = scratch.passes(&format!("sweep {what} --out swept"));
    scratch.passes(&format!("plan {what} --jobs 4 --out planned"));
    scratch.passes(&format!("plan {what} --jobs 4 --out planned"));
    let (code, _, said) = scratch.program(&format!("plan {what} --jobs 5 --out planned"));
    assert_eq!(code, Some(2));
    assert!(said.contains("another plan"), "{said}");
    assert_eq!(scratch.program("exec planned --job 5").0, Some(2));
    assert_eq!(scratch.program("exec nowhere --job 1").0, Some(1));
    for job in 1..=4 {
        scratch.passes(&format!("exec planned --job {job}"));
    }
    assert_eq!(scratch.passes("merge planned").0, printed);
    fs::remove_dir_all(scratch.0.join("planned/plan")).unwrap();
    assert_eq!(tree(&scratch.0.join("swept")), tree(&scratch.0.join("planned")));
}

#[test]
fn bisect_finds_where_an_expectation_ceases_to_hold() {
    let scratch = Scratch::new("bisect");
    let text = "fidelity = \"routing\"\n[network]\nrouters = 200\n[adversary]\nkind = \"sybil\"\n\
        identities = 10\nkeys = 500\n[expect]\ntouched = \"<= 0.5\"\n";
    fs::write(scratch.0.join("s.toml"), text).unwrap();
    // 1 - (1 - s/(200 + s))^3 is a half at 52 identities.
    let words = "bisect s.toml --vary adversary.identities=10..150/10 --seeds 1..3 --out tried";
    let (printed, _) = scratch.passes(words);
    let last = printed.lines().last().unwrap();
    let at = |no: u32| format!("adversary.identities={no}");
    let wanted = [(40, 50), (50, 60), (60, 70)];
    let wanted = wanted.map(|(a, b)| format!("holds at {}, not at {}", at(a), at(b)));
    assert!(wanted.contains(&last.to_owned()), "{printed}");
    // Fewer than half of the fifteen values were tried.
    assert!(fs::read_dir(scratch.0.join("tried")).unwrap().count() <= 7);
    let (printed, _) = scratch.passes("bisect s.toml --vary adversary.identities=[5,10] --seeds 1");
    assert!(printed.contains("holds at either end"), "{printed}");
    let ends = "bisect s.toml --vary adversary.identities=[100,150] --seeds 1";
    assert_eq!(scratch.program(ends).0, Some(10));
    let none = "bisect s.toml --vary adversary.identities=[5] --seeds 1";
    assert_eq!(scratch.program(none).0, Some(2));
}
