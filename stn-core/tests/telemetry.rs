//! Telemetry: numbers of known grids and matrices, alarms, the penalty and its gradient, gradient norms, errors.

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use stn_core::telemetry::{
    Collapse, Limits, Observation, Pose, gradient_norm, gradient_ratio, observe, outside_penalty,
};
use stn_core::transform::{Affine, Transform};
use support::{check_gradients, message, random, values};

/// The observation of one affine transform, on a grid of 11 x 9.
fn of_affine(theta: [f64; 6], align_corners: bool) -> Result<Observation> {
    let theta = Tensor::new(&[theta], &Device::Cpu)?;
    let grid = Affine.grid(&theta, (11, 9), align_corners)?;
    Ok(observe(&grid, align_corners)?[0])
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

#[test]
fn identity_is_at_home() -> Result<()> {
    for align_corners in [true, false] {
        let Observation { outside, pose } = of_affine([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], align_corners)?;
        assert_eq!(outside, 0.0);
        assert!(close(pose.determinant, 1.0) && close(pose.from_identity, 0.0) && close(pose.rotation, 0.0));
        assert!(pose.scale.iter().all(|&s| close(s, 1.0)));
    }
    Ok(())
}

/// An f32 identity that training has moved by a rounding error is still inside, with all of its border.
#[test]
fn rounding_does_not_leave_the_image() -> Result<()> {
    let theta = Tensor::new(&[[1.00001f32, 0.0, 0.0, 0.0, 1.0, -0.00001]], &Device::Cpu)?;
    let grid = Affine.grid(&theta, (28, 28), true)?;
    assert_eq!(observe(&grid, true)?[0].outside, 0.0);
    Ok(())
}

#[test]
fn pose_of_known_matrices() {
    let (s, phi) = (1.7f64, 58f64.to_radians());
    for sign in [1.0, -1.0] {
        let (sin, cos) = (sign * phi).sin_cos();
        let pose = Pose::of_matrix([[s * cos, -s * sin, 0.3], [s * sin, s * cos, -0.4]]);
        assert!(close(pose.rotation, sign * 58.0) && close(pose.determinant, s * s));
        assert!(close(pose.scale[0], s) && close(pose.scale[1], s));
        assert_eq!(pose.translation, [0.3, -0.4]);
    }
    let stretched = Pose::of_matrix([[0.5, 0.0, 0.0], [0.0, 2.0, 0.0]]);
    assert_eq!((stretched.scale, stretched.determinant, stretched.rotation), ([2.0, 0.5], 1.0, 0.0));
    assert!(close(stretched.from_identity, 1.25f64.sqrt()));
    let mirrored = Pose::of_matrix([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
    assert_eq!((mirrored.scale, mirrored.determinant), ([1.0, 1.0], -1.0));
    let line = Pose::of_matrix([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]);
    assert!(close(line.scale[0], 2.0) && close(line.scale[1], 0.0) && line.determinant == 0.0);
    let shear = Pose::of_matrix([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]); // golden ratio and its inverse
    assert!(close(shear.scale[0], (1.0 + 5f64.sqrt()) / 2.0) && close(shear.scale[0] * shear.scale[1], 1.0));
}

/// The grid alone gives back the matrix it was made from, in either convention.
#[test]
fn grid_gives_the_matrix_back() -> Result<()> {
    let theta = random((5, 6), 1)?;
    let poses = Pose::of_matrices(&Affine.matrix(&theta)?)?;
    for align_corners in [true, false] {
        let grid = Affine.grid(&theta, (4, 7), align_corners)?;
        for (seen, pose) in observe(&grid, align_corners)?.iter().zip(&poses) {
            assert!(close(seen.pose.determinant, pose.determinant) && close(seen.pose.rotation, pose.rotation));
            assert!(close(seen.pose.from_identity, pose.from_identity));
            assert!(close(seen.pose.translation[0], pose.translation[0]));
            assert!(close(seen.pose.translation[1], pose.translation[1]));
        }
    }
    Ok(())
}

#[test]
fn every_way_to_collapse() -> Result<()> {
    let limits = Limits::default();
    let cause = |theta| of_affine(theta, true).map(|seen| seen.collapse(&limits));
    assert_eq!(cause([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])?, None);
    assert_eq!(cause([0.2, 0.0, 0.7, 0.0, 0.2, -0.7])?, None); // a small window is no collapse
    assert_eq!(cause([0.5, 0.0, 3.0, 0.0, 0.5, 0.0])?, Some(Collapse::Outside));
    assert_eq!(cause([0.05, 0.0, 0.0, 0.0, 0.05, 0.0])?, Some(Collapse::Vanished));
    assert_eq!(cause([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])?, Some(Collapse::Vanished)); // a line
    assert_eq!(cause([5.0, 0.0, 0.0, 0.0, 5.0, 0.0])?, Some(Collapse::Exploded));
    assert_eq!(cause([f64::NAN, 0.0, 0.0, 0.0, 1.0, 0.0])?, Some(Collapse::NonFinite));
    assert_eq!(cause([1.0, 0.0, f64::INFINITY, 0.0, 1.0, 0.0])?, Some(Collapse::NonFinite));
    assert_eq!(cause([1e300, 0.0, 0.0, 0.0, 1.0, 0.0])?, Some(Collapse::NonFinite)); // its square overflows
    assert_eq!(of_affine([f64::NAN, 0.0, 0.0, 0.0, 1.0, 0.0], true)?.outside, 1.0);
    // Half of the samples outside is still allowed; the limits are fields.
    let half = of_affine([2.0, 0.0, 0.0, 0.0, 1.0, 0.0], false)?;
    assert!((half.outside - 4.0 / 9.0).abs() < 1e-12 && half.collapse(&limits).is_none());
    assert_eq!(half.collapse(&Limits { outside: 0.4, ..limits }), Some(Collapse::Outside));
    assert_eq!(half.collapse(&Limits { max_area: 1.5, ..limits }), Some(Collapse::Exploded));
    Ok(())
}

#[test]
fn penalty_is_zero_inside_and_smooth_outside() -> Result<()> {
    let inside = random((2, 3, 4, 2), 2)?;
    assert_eq!(outside_penalty(&inside)?.to_scalar::<f64>()?, 0.0);
    let (_, gradients) = support::run(&[&inside], |grid| outside_penalty(&grid[0]))?;
    assert!(values(&gradients[0])?.iter().all(|&g| g == 0.0));
    // At the edge too: that is where a new transformer's outermost samples are.
    let identity = Affine.grid(&Tensor::new(&[[1f64, 0.0, 0.0, 0.0, 1.0, 0.0]], &Device::Cpu)?, (3, 3), true)?;
    let (penalty, gradients) = support::run(&[&identity], |grid| outside_penalty(&grid[0]))?;
    assert_eq!(penalty.to_scalar::<f64>()?, 0.0);
    assert!(values(&gradients[0])?.iter().all(|&g| g == 0.0));
    check_gradients("penalty", &[&inside.affine(3.0, 0.1)?], |grid| outside_penalty(&grid[0]))?;
    let theta = random((3, 6), 3)?.affine(2.0, 0.0)?;
    check_gradients("penalty by theta", &[&theta], |theta| outside_penalty(&Affine.grid(&theta[0], (4, 5), true)?))
}

/// A window that has left the image, where the sampler gives it no gradient, comes back.
#[test]
fn penalty_brings_a_lost_window_back() -> Result<()> {
    let theta = Var::new(&[[0.5f64, 0.0, 4.0, 0.0, 0.5, -3.0]], &Device::Cpu)?;
    for _ in 0..200 {
        let penalty = outside_penalty(&Affine.grid(&theta, (6, 6), true)?)?;
        let grads = penalty.backward()?;
        theta.set(&(theta.as_tensor() - grads.get(&theta).expect("a gradient").affine(0.2, 0.0)?)?.detach())?;
    }
    let seen = observe(&Affine.grid(&theta, (6, 6), true)?, true)?[0];
    assert!(seen.outside < 0.5 && seen.pose.translation[0] < 1.0, "{seen:?}");
    Ok(())
}

#[test]
fn norms_and_ratio_of_gradients() -> Result<()> {
    let var = |value: f32| Var::new(value, &Device::Cpu);
    let vars: Vec<(String, Var)> = vec![
        ("st.loc.a".into(), var(1.5)?),
        ("st.loc.b".into(), var(2.0)?),
        ("fc".into(), var(5.0)?),
        ("far".into(), var(1.0)?),
    ];
    let loss = ((vars[0].1.sqr()? + vars[1].1.sqr()?)? + vars[2].1.sqr()?)?; // 3, 4 and 10; none for "far"
    let grads = loss.backward()?;
    assert_eq!(gradient_norm(&grads, &vars[..2])?, 5.0);
    assert_eq!(gradient_norm(&grads, &vars[3..])?, 0.0);
    assert_eq!(gradient_ratio(&grads, &vars, |name| name.contains(".loc."))?, 0.5);
    assert_eq!(gradient_ratio(&grads, &vars, |name| name == "far")?, 0.0);
    assert_eq!(gradient_ratio(&grads, &vars, |name| name != "far")?, f64::INFINITY);
    Ok(())
}

/// f32 grids in, the graph left alone.
#[test]
fn observing_leaves_the_graph_alone() -> Result<()> {
    let theta = Var::new(&[[0.5f32, 0.0, 0.0, 0.0, 0.5, 0.0]], &Device::Cpu)?;
    let grid = Affine.grid(&theta, (5, 5), true)?;
    assert!(grid.track_op());
    assert_eq!(observe(&grid, true)?.len(), 1);
    assert_eq!(observe(&grid.narrow(0, 0, 0)?, true)?.len(), 0);
    let turned = grid.transpose(1, 2)?; // not contiguous: a mirrored picture
    let pose = observe(&turned, true)?[0].pose;
    assert!((pose.determinant + 0.25).abs() < 1e-6);
    Ok(())
}

#[test]
fn error_messages() -> Result<()> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let text =
        |shape: &[usize]| Ok::<_, candle_core::Error>(observe(&zeros(shape)?, true).expect_err("an error").to_string());
    assert!(text(&[1, 4, 4, 3])?.starts_with("observe: grid must be (N, H', W', 2), got [1, 4, 4, 3]"));
    assert!(
        text(&[1, 1, 4, 2])?.starts_with("observe: a grid must have at least 2 rows and 2 columns, got [1, 1, 4, 2]")
    );
    let matrices = Pose::of_matrices(&zeros(&[6])?).expect_err("an error").to_string();
    assert!(matrices.starts_with("pose: matrices must be (N, 2, 3), got [6]"), "{matrices}");
    let penalty = "outside_penalty: grid must be (.., 2) and not empty, got ";
    assert_eq!(message(outside_penalty(&zeros(&[2, 3])?)), format!("{penalty}[2, 3]"));
    assert_eq!(message(outside_penalty(&zeros(&[0, 2])?)), format!("{penalty}[0, 2]"));
    Ok(())
}
