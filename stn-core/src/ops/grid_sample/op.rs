//! The sampler as one node of Candle's graph.

use super::bicubic::Bicubic;
use super::bilinear::Bilinear;
use super::cpu;
use super::nearest::Nearest;
use super::points::Points;
use super::taps::Problem;
use super::{GridSampleConfig, Interpolation};
use crate::ops::real::{Real, contiguous, dispatch};
use crate::ops::targets::Targets;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use std::sync::Arc;

/// A tensor as the kernels get it.
type Arg<'a> = (&'a CpuStorage, &'a Layout);

/// V of eq. (5), of an image and a grid, or of an image and affine matrices where there are `targets`; with a third argument, what lies
/// outside the image.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) cfg: GridSampleConfig,
    pub(super) targets: Option<Arc<Targets>>,
}

/// Calls a kernel for the mode of a [`Sample`].
macro_rules! by_mode {
    ($self:expr, $kernel:ident ( $($arg:expr),* )) => {
        match $self.cfg.interpolation {
            Interpolation::Bilinear => cpu::$kernel::<_, Bilinear, 2>($($arg),*),
            Interpolation::Nearest => cpu::$kernel::<_, Nearest, 1>($($arg),*),
            Interpolation::Bicubic => cpu::$kernel::<_, Bicubic, 4>($($arg),*),
        }
    };
}

const NAME: &str = "grid_sample";

impl Sample {
    fn problem(&self, input: &Layout, points: &Shape) -> Result<Problem> {
        let (n, out) = match &self.targets {
            Some(targets) => (points.dims3()?.0, (targets.y.len(), targets.x.len())),
            None => points.dims4().map(|(n, height, width, _)| (n, (height, width)))?,
        };
        Problem::new(input, n, out, self.cfg)
    }

    fn points<'a, T: Real>(&'a self, (storage, layout): Arg<'a>) -> Result<Points<'a, T>> {
        let points = contiguous::<T>(NAME, storage, layout)?;
        Ok(match &self.targets {
            Some(targets) => Points::Affine(points, targets),
            None => Points::Grid(points),
        })
    }

    fn forward<T: Real>(&self, input: Arg, points: Arg, fill: Option<Arg>) -> Result<(CpuStorage, Shape)> {
        let problem = self.problem(input.1, points.1.shape())?;
        let pixels = T::cpu_storage_as_slice(input.0)?;
        let fill = fill.map_or(Ok([].as_slice()), |(storage, layout)| contiguous::<T>(NAME, storage, layout))?;
        let out = by_mode!(self, forward(&problem, pixels, self.points(points)?, fill));
        Ok((T::to_cpu_storage_owned(out), problem.output_shape()))
    }

    /// The gradients of the image and of the points, each only if it is asked for.
    fn backward(
        &self,
        input: &Tensor,
        points: &Tensor,
        fill: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad_input = if input.track_op() {
            let op = GradInput { sample: self.clone(), input: input.shape().clone() };
            Some(points.apply_op2_no_bwd(grad, &op)?)
        } else {
            None
        };
        let grad_points = if points.track_op() {
            let op = GradPoints { sample: self.clone(), fill: fill.cloned() };
            Some(input.apply_op3_no_bwd(points, grad, &op)?)
        } else {
            None
        };
        Ok((grad_input, grad_points))
    }
}

impl CustomOp2 for Sample {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, s1, self.forward((s1, l1), (s2, l2), None))
    }

    fn bwd(
        &self,
        input: &Tensor,
        points: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.backward(input, points, None, &grad.contiguous()?)
    }
}

impl CustomOp3 for Sample {
    fn name(&self) -> &'static str {
        "grid_sample_fill"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, s1, self.forward((s1, l1), (s2, l2), Some((s3, l3))))
    }

    fn bwd(
        &self,
        input: &Tensor,
        points: &Tensor,
        fill: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (grad_input, grad_points) = self.backward(input, points, Some(fill), &grad)?;
        let grad_fill = if fill.track_op() {
            let op = GradFill { sample: self.clone(), input: input.shape().clone() };
            Some(points.apply_op2_no_bwd(&grad, &op)?)
        } else {
            None
        };
        Ok((grad_input, grad_points, grad_fill))
    }
}

/// points, gradient of the output -> gradient of the image.
struct GradInput {
    sample: Sample,
    input: Shape,
}

impl GradInput {
    fn forward<T: Real>(&self, points: Arg, grad: Arg) -> Result<(CpuStorage, Shape)> {
        let problem = self.sample.problem(&Layout::contiguous(&self.input), points.1.shape())?;
        let (points, grad) = (self.sample.points::<T>(points)?, contiguous::<T>(NAME, grad.0, grad.1)?);
        let out = by_mode!(self.sample, grad_input(&problem, points, grad));
        Ok((T::to_cpu_storage_owned(out), self.input.clone()))
    }
}

impl CustomOp2 for GradInput {
    fn name(&self) -> &'static str {
        "grid_sample_grad_input"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, s1, self.forward((s1, l1), (s2, l2)))
    }
}

/// image, points, gradient of the output -> gradient of the points.
struct GradPoints {
    sample: Sample,
    fill: Option<Tensor>,
}

impl GradPoints {
    fn forward<T: Real>(&self, input: Arg, points: Arg, grad: Arg) -> Result<(CpuStorage, Shape)> {
        let problem = self.sample.problem(input.1, points.1.shape())?;
        let pixels = T::cpu_storage_as_slice(input.0)?;
        let grad = contiguous::<T>(NAME, grad.0, grad.1)?;
        let fill = self.fill.as_ref().map_or(Ok(vec![]), Tensor::to_vec1::<T>)?;
        let out = by_mode!(self.sample, grad_points(&problem, pixels, self.sample.points(points)?, grad, &fill));
        Ok((T::to_cpu_storage_owned(out), points.1.shape().clone()))
    }
}

impl CustomOp3 for GradPoints {
    fn name(&self) -> &'static str {
        "grid_sample_grad_points"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, s1, self.forward((s1, l1), (s2, l2), (s3, l3)))
    }
}

/// points, gradient of the output -> gradient of what lies outside the image.
struct GradFill {
    sample: Sample,
    input: Shape,
}

impl GradFill {
    fn forward<T: Real>(&self, points: Arg, grad: Arg) -> Result<(CpuStorage, Shape)> {
        let problem = self.sample.problem(&Layout::contiguous(&self.input), points.1.shape())?;
        let (points, grad) = (self.sample.points::<T>(points)?, contiguous::<T>(NAME, grad.0, grad.1)?);
        let out = by_mode!(self.sample, grad_fill(&problem, points, grad));
        let shape = Shape::from(out.len());
        Ok((T::to_cpu_storage_owned(out), shape))
    }
}

impl CustomOp2 for GradFill {
    fn name(&self) -> &'static str {
        "grid_sample_grad_fill"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(NAME, s1, self.forward((s1, l1), (s2, l2)))
    }
}
