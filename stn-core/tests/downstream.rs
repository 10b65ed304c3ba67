//! A crate outside the workspace depends on this one by path, compiles and trains.

use std::path::Path;
use std::process::Command;

/// The crate in `downstream/` with the workspace's lock file and target directory, so that compiled dependencies serve again: half a
/// minute after `cargo test -p stn-core`, which wants the same features of them.
#[test]
#[ignore = "after a build of the whole workspace, which has other features on, it compiles Candle again: minutes; \
            cargo test -p stn-core --test downstream -- --ignored"]
fn crate_outside_the_workspace_compiles_and_trains() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let downstream = package.join("tests/downstream");
    std::fs::copy(package.join("../Cargo.lock"), downstream.join("Cargo.lock")).expect("the workspace's lock file");
    let output = Command::new(env!("CARGO"))
        .args(["run", "--offline", "--quiet"])
        .current_dir(&downstream)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo runs");
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    let losses: Vec<f32> = printed.split_whitespace().map(|loss| loss.parse().expect("a number")).collect();
    assert!(losses.len() == 2 && losses[1] < 0.7 * losses[0], "the loss must fall, got {printed}");
}
