//! The command as a user runs it: bad input, interruption, resumption, what a run leaves behind.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// The command with an empty hub cache and a hub that refuses every connection.
fn stn(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stn"));
    command.env("HF_HOME", home).env_remove("HF_HUB_CACHE").env("HF_ENDPOINT", "http://127.0.0.1:9").current_dir(home);
    command
}

fn run(home: &Path, args: &str) -> Output {
    stn(home).args(args.split(' ')).output().unwrap()
}

/// Runs a command that must fail, and returns what it says.
fn fails(home: &Path, args: &str) -> String {
    let output = run(home, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "`stn {args}` should fail");
    assert!(!said.contains("panicked"), "`stn {args}` panics: {said}");
    said
}

/// The smallest model with a transformer, a few steps.
const SMALL: &str = "reproduce mnist --model st-fcn-aff --steps 24 --checkpoint-every 5 --offline";

fn run_dir(out: &Path) -> PathBuf {
    out.join("mnist/custom-quick-24/R/st-fcn-aff/seed-0")
}

/// Makes a run one of other settings, and returns its config.json as it was.
fn on_another_device(run_dir: &Path) -> String {
    let path = run_dir.join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    let other = config.replace(r#""device": "cpu""#, r#""device": "abacus""#);
    assert_ne!(config, other);
    fs::write(path, other).unwrap();
    config
}

#[test]
fn unknown_names_say_what_there_is() {
    let home = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (
            "reproduce mnist --model resnet",
            "there are fcn, cnn, st-fcn-aff, st-fcn-proj, st-fcn-tps, st-cnn-aff, st-cnn-proj, st-cnn-tps",
        ),
        ("reproduce mnist --data Q", "RTS"),
        ("reproduce mnist --budget fast", "there are quick, full, paper"),
        ("reproduce mnist --steps 0", "at least one step"),
        ("reproduce mnist --shard 4/4", "i/n"),
        ("reproduce mnist --seeds one", "invalid"),
        ("data fetch", "an empty cache needs the network"),
        ("reproduce colocalisation --batch 1 --offline", "2 to 100"),
        ("reproduce imagenet", "mnist"),
        ("reproduce mnist --device abacus", "cpu"),
        ("reproduce mnist --source moon", "auto, hub, embedded"),
    ] {
        let said = fails(home.path(), args);
        assert!(said.contains(expected), "`stn {args}` says: {said}");
    }
}

#[test]
fn the_hub_alone_fails_without_a_network_and_auto_says_why_it_is_embedded() {
    let home = tempfile::tempdir().unwrap();
    let said = fails(home.path(), "data verify --source hub");
    assert!(said.contains("--source"), "{said}");
    let said = fails(home.path(), "data verify --source hub --offline");
    assert!(said.contains("offline") && said.contains("cache"), "{said}");

    let output = run(home.path(), "data verify");
    assert!(output.status.success());
    let notice = String::from_utf8_lossy(&output.stderr);
    assert!(notice.contains("embedded") && notice.to_lowercase().contains("hub"), "{notice}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("MNIST from embedded"));
}

#[test]
fn commands_on_what_is_no_run_say_so() {
    let home = tempfile::tempdir().unwrap();
    assert!(fails(home.path(), "eval nowhere --offline").contains("nowhere is no run directory"));
    assert!(fails(home.path(), "look nowhere --offline").contains("nowhere is no run directory"));
    assert!(fails(home.path(), "report nowhere").contains("nowhere"));
    fs::create_dir(home.path().join("empty")).unwrap();
    assert!(fails(home.path(), "report empty").contains("no finished runs"));
}

#[test]
fn an_output_folder_that_cannot_be_made_is_named() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    let said = fails(home.path(), "reproduce mnist --model fcn --steps 5 --offline --out file");
    assert!(said.contains("cannot make the run directory file/mnist") && said.contains("--out"), "{said}");
}

/// A full disk: a file system of a few kilobytes would need privileges, so a limit on the size of files stands in for it.
#[cfg(unix)]
#[test]
fn a_full_disk_is_reported_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let script = format!("trap '' XFSZ; ulimit -f 600; exec \"$0\" {SMALL} --out runs");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_stn")]).current_dir(home.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("disk full") && !said.contains("panicked"), "{said}");
    assert!(run_dir(&home.path().join("runs")).join("config.json").exists());
    assert!(run(home.path(), &format!("{SMALL} --out runs")).status.success(), "with room again the run goes on");
}

#[cfg(unix)]
fn hang_up_is_ignored() -> bool {
    let ignored = Command::new("sh").args(["-c", "kill -HUP $$; echo alive"]).output().unwrap();
    ignored.stdout.starts_with(b"alive")
}

/// A run that is asked to end, or whose terminal goes, stops after its step; where `nohup` has the latter ignored the run goes on, and Ctrl-C still stops
/// it.
#[cfg(unix)]
#[test]
fn signals_stop_a_run_but_those_that_nohup_ignores() {
    for (before, signal, ends_it) in [("", "-TERM", true), ("", "-HUP", true), ("trap '' HUP; ", "-HUP", false)] {
        if ends_it && signal == "-HUP" && hang_up_is_ignored() {
            eprintln!("skipped: these tests run under nohup themselves, whose children cannot be without it");
            continue;
        }
        let home = tempfile::tempdir().unwrap();
        let args = "reproduce mnist --model st-fcn-aff --steps 20000 --checkpoint-every 5 --offline --out runs";
        let mut child = Command::new("sh")
            .args(["-c", &format!("{before}exec \"$0\" {args}"), env!("CARGO_BIN_EXE_stn")])
            .envs([("HF_HOME", home.path().as_os_str()), ("HF_ENDPOINT", "http://127.0.0.1:9".as_ref())])
            .current_dir(home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id().to_string();
        let send = |signal: &str| assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let checkpoint = home.path().join("runs/mnist/custom-quick-20000/R/st-fcn-aff/seed-0/checkpoint.safetensors");
        while !checkpoint.exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before its first checkpoint");
            std::thread::sleep(Duration::from_millis(5));
        }
        send(signal);
        if !ends_it {
            std::thread::sleep(Duration::from_millis(500));
            assert!(child.try_wait().unwrap().is_none(), "it was to go on");
            send("-INT");
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(130) && said.contains("The same command goes on from there"), "{said}");
    }
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_bits() {
    let home = tempfile::tempdir().unwrap();
    let (whole, killed) = (home.path().join("whole"), home.path().join("killed"));
    assert!(run(home.path(), &format!("{SMALL} --out whole")).status.success());

    // Killed twice: some time after the first checkpoint, and again after the run has gone on.
    let checkpoint = run_dir(&killed).join("checkpoint.safetensors");
    let mut kills = 0;
    for delay in [0, 37] {
        let mut child = stn(home.path())
            .args(format!("{SMALL} --out killed").split(' '))
            .env("RAYON_NUM_THREADS", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let before = fs::metadata(&checkpoint).and_then(|m| m.modified()).ok();
        while fs::metadata(&checkpoint).and_then(|m| m.modified()).ok() == before && child.try_wait().unwrap().is_none()
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(delay));
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills > 0, "the run was over before it could be killed");
    assert!(!run_dir(&killed).join("result.json").exists());
    assert!(run(home.path(), &format!("{SMALL} --out killed")).status.success());

    let read = |out: &Path, name: &str| fs::read(run_dir(out).join(name)).unwrap();
    assert!(read(&whole, "model.safetensors") == read(&killed, "model.safetensors"), "the weights differ");
    assert!(read(&whole, "samples.safetensors") == read(&killed, "samples.safetensors"), "the samples differ");
    let lines = |out: &Path| -> Vec<Value> {
        let text = String::from_utf8(read(out, "metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| {
                let mut line: Value = serde_json::from_str(line).unwrap();
                line["seconds"].take();
                line
            })
            .collect()
    };
    assert_eq!(lines(&whole), lines(&killed));
    assert!(!checkpoint.exists());
}

#[test]
fn a_run_leaves_what_it_promises_and_is_not_repeated() {
    let home = tempfile::tempdir().unwrap();
    let output = run(home.path(), &format!("{SMALL} --out runs"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("MNIST from embedded (--offline)") && said.contains("| R | ST-FCN Aff |"), "{said}");

    let run_dir = run_dir(&home.path().join("runs"));
    let json = |name: &str| -> Value { serde_json::from_slice(&fs::read(run_dir.join(name)).unwrap()).unwrap() };
    let result = json("result.json");
    for (key, expected) in [
        ("experiment", "mnist"),
        ("data", "R"),
        ("model", "st-fcn-aff"),
        ("budget", "custom-quick-24"),
        ("device", "cpu"),
    ] {
        assert_eq!(result[key], expected, "{key}");
    }
    assert_eq!((&result["seed"], &result["steps"]), (&Value::from(0), &Value::from(24)));
    for key in ["error_percent", "val_error_percent", "params", "seconds", "paper_error_percent"] {
        assert!(result[key].is_number(), "{key}: {}", result[key]);
    }
    assert_eq!(result["error_percent_draws"].as_array().map(Vec::len), Some(10));
    assert_eq!(result["data_source"]["kind"], "embedded");
    let config = json("config.json");
    assert_eq!(config["settings"]["budget"]["steps"], 24);
    assert_eq!(config["versions"]["candle-core"], "0.11.1");

    let report = home.path().join("runs/mnist/custom-quick-24/report");
    let text = fs::read_to_string(report.join("report.md")).unwrap();
    assert!(text.contains("embedded") && text.contains("scaled down"), "{text}");
    for figure in [
        "custom-quick-24-R-st-fcn-aff-seed-0-digits",
        "custom-quick-24-R-st-fcn-aff-seed-0-angles",
        "custom-quick-24-R-st-fcn-aff-seed-0-rotation",
        "error",
        "loss",
    ] {
        assert!(text.contains(&format!("({figure}.png)")), "{figure} is not in the report");
        for extension in ["png", "svg"] {
            assert!(fs::metadata(report.join(format!("{figure}.{extension}"))).unwrap().len() > 1000);
        }
    }

    // Again: nothing is trained. With other settings: refused, nothing overwritten.
    let before = fs::read(run_dir.join("result.json")).unwrap();
    let again = run(home.path(), &format!("{SMALL} --out runs"));
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("finished before"));
    let config = on_another_device(&run_dir);
    let said = fails(home.path(), &format!("{SMALL} --out runs"));
    assert!(said.contains("another configuration") && said.contains("device: stored \"abacus\""), "{said}");
    assert_eq!(fs::read(run_dir.join("result.json")).unwrap(), before);
    fs::write(run_dir.join("config.json"), config).unwrap();

    // The weights give the same test error again; one image can be looked at.
    let dir = run_dir.display();
    let output = run(home.path(), &format!("eval {dir} --offline"));
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("the same as result.json"));
    let output = run(home.path(), &format!("look {dir} --index 3 --out look.svg --offline"));
    assert!(output.status.success() && home.path().join("look.svg").exists());
    assert!(fails(home.path(), &format!("look {dir} --index 10000 --offline")).contains("10000 test images"));
    fs::write(home.path().join("bad.png"), "no picture").unwrap();
    assert!(fails(home.path(), &format!("look {dir} --image bad.png --offline")).contains("bad.png"));

    // Of damaged samples no figure is drawn; the table and the others stay.
    let samples = run_dir.join("samples.safetensors");
    let bytes = fs::read(&samples).unwrap();
    fs::write(&samples, &bytes[..bytes.len() / 2]).unwrap();
    let output = run(home.path(), "report runs --out again");
    let text = fs::read_to_string(home.path().join("again/report.md")).unwrap();
    assert!(output.status.success() && text.contains("| R | ST-FCN Aff |"), "{text}");
    assert!(text.contains("Left out, ST-FCN Aff on R:") && text.contains("samples.safetensors"), "{text}");
    fs::remove_file(run_dir.join("model.safetensors")).unwrap();
    let said = fails(home.path(), &format!("eval {dir} --offline"));
    assert!(said.contains("model.safetensors is missing: the run is finished"), "{said}");

    // A damaged result is not taken for a finished run, nor overwritten.
    fs::write(run_dir.join("result.json"), &before[..before.len() / 2]).unwrap();
    assert!(fails(home.path(), &format!("{SMALL} --out runs")).contains("result.json"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let home = tempfile::tempdir().unwrap();
    let args = "reproduce mnist --budget paper --data R --model st-fcn-aff --offline --out runs";
    let mut child =
        stn(home.path()).args(args.split(' ')).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = home.path().join("runs/mnist/paper/R/st-fcn-aff/seed-0/checkpoint.safetensors");
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(130));
    assert!(said.contains("nothing is lost") && said.contains("--budget paper"), "{said}");
    let before = said.find("1 runs of 1 are not finished, 150000 steps: about").expect(&said);
    assert!(before < said.find("[1/1]").expect(&said), "the time is said before the first step: {said}");
    assert!(said.contains("ms a step: the other 149950 steps of this run will take about"), "{said}");
}

#[test]
fn addition_resumes_to_the_same_bits_and_shows_what_each_transformer_sees() {
    let home = tempfile::tempdir().unwrap();
    let args = "reproduce addition --model 2xst-fcn-aff --steps 24 --checkpoint-every 4 --offline --out";
    let output = run(home.path(), &format!("{args} whole"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("| RTS | 2xST-FCN Aff |") && said.contains("(9.0) |"), "{said}");

    let run_dir = |out: &str| home.path().join(out).join("addition/custom-quick-24/RTS/2xst-fcn-aff/seed-0");
    let checkpoint = run_dir("killed").join("checkpoint.safetensors");
    let mut child = stn(home.path())
        .args(format!("{args} killed").split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!run_dir("killed").join("result.json").exists());
    assert!(run(home.path(), &format!("{args} killed")).status.success());
    for name in ["model.safetensors", "samples.safetensors"] {
        let read = |out| fs::read(run_dir(out).join(name)).unwrap();
        assert!(read("whole") == read("killed"), "{name} differs");
    }

    let result: Value = serde_json::from_slice(&fs::read(run_dir("whole").join("result.json")).unwrap()).unwrap();
    for (key, expected) in [("experiment", "addition"), ("data", "RTS"), ("model", "2xst-fcn-aff")] {
        assert_eq!(result[key], expected, "{key}");
    }
    assert_eq!(result["error_percent_draws"].as_array().map(Vec::len), Some(10));
    let report = home.path().join("whole/addition/custom-quick-24/report");
    let text = fs::read_to_string(report.join("report.md")).unwrap();
    let figure = "custom-quick-24-addition-2xst-fcn-aff-seed-0";
    assert!(text.contains(&format!("({figure}.png)")) && text.contains("transformer 2:"), "{text}");
    assert!(fs::metadata(report.join(format!("{figure}.svg"))).unwrap().len() > 1000);

    let dir = run_dir("whole").display().to_string();
    let output = run(home.path(), &format!("eval {dir} --offline"));
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("the same as result.json"));
    assert!(fails(home.path(), &format!("look {dir} --offline")).contains("a run of addition"));
    assert!(fails(home.path(), "reproduce addition --model st-cnn-aff").contains("2xst-fcn-tps"));
    let list = run(home.path(), "list addition").stdout;
    assert_eq!(String::from_utf8_lossy(&list).lines().filter(|line| line.contains("reproduce addition")).count(), 8);
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let home = tempfile::tempdir().unwrap();
    let mut child = stn(home.path()).arg("list").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn finished_runs_elsewhere_count_if_their_settings_are_the_same() {
    let home = tempfile::tempdir().unwrap();
    assert!(run(home.path(), &format!("{SMALL} --out done")).status.success());
    let output = run(home.path(), &format!("{SMALL} --out runs --finished done"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("finished before") && said.contains("| R | ST-FCN Aff |"),
        "{said}"
    );
    assert!(!run_dir(&home.path().join("runs")).exists());
    on_another_device(&run_dir(&home.path().join("done")));
    let output = run(home.path(), &format!("{SMALL} --out runs --finished done"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("does not count") && said.contains("another configuration"),
        "{said}"
    );
    assert!(run_dir(&home.path().join("runs")).join("result.json").exists(), "it is trained anew");
    assert!(fails(home.path(), &format!("{SMALL} --finished nowhere")).contains("there is no folder nowhere"));
    std::fs::remove_file(run_dir(&home.path().join("done")).join("config.json")).unwrap();
    for (folder, why) in [("done", "does not count: cannot read"), ("done/mnist", "has no folder `mnist`")] {
        let output = run(home.path(), &format!("{SMALL} --out runs --finished {folder}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains(why), "{said}");
    }
}

/// Of the last update no loss tells any more.
#[test]
fn weights_that_are_no_numbers_are_no_result() {
    let home = tempfile::tempdir().unwrap();
    let said = fails(home.path(), "reproduce mnist --data R --model fcn --steps 1 --lr 1e38 --offline");
    assert!(said.contains("diverged") || said.contains("no longer a number after step 0"), "{said}");
    let said = fails(home.path(), "data numbers --count 18446744073709551615 --source embedded");
    assert!(said.contains("at most 1000"), "{said}");
}

/// Committed runs of co-localisation are those of an encoder whose weights are not committed.
#[test]
fn finished_runs_of_another_encoder_are_refused_before_one_is_trained() {
    let home = tempfile::tempdir().unwrap();
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results");
    let said = fails(home.path(), &format!("reproduce colocalisation --offline --finished {}", results.display()));
    assert!(said.contains("mnist/full/R/cnn/seed-0") && said.contains("--encoder"), "{said}");
    assert!(!home.path().join("runs").exists(), "no encoder is trained");
}

#[test]
fn a_shard_without_runs_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let output = run(home.path(), "reproduce mnist --offline --shard 3/4");
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("no run is finished"));
}

#[test]
fn shards_train_their_own_part() {
    let home = tempfile::tempdir().unwrap();
    let args = "reproduce mnist --model fcn --seeds 0,1,2 --steps 2 --offline --out runs --shard 1/3";
    assert!(run(home.path(), args).status.success());
    let seeds: Vec<_> = fs::read_dir(home.path().join("runs/mnist/custom-quick-2/R/fcn"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(seeds, ["seed-1"]);
}
