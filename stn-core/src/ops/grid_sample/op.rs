//! The sampler as one node of Candle's graph.

use super::bicubic::Bicubic;
use super::bilinear::Bilinear;
use super::cpu::{self, Call};
use super::element::Element;
use super::nearest::Nearest;
use super::points::Points;
use super::problem::Problem;
use super::surroundings;
use super::{GridSampleConfig, Interpolation};
use crate::ops::real::{contiguous, dispatch, tensor_like};
use crate::ops::targets::Targets;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};
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

/// Calls `$kernel` for the mode of a [`Sample`], with the further constants `$d`.
macro_rules! by_mode {
    ($self:expr, $($kernel:ident)::+ <$($d:literal)?> ( $($arg:expr),* )) => {
        match $self.cfg.interpolation {
            Interpolation::Bilinear => $($kernel)::+::<_, Bilinear, 2 $(, $d)?>($($arg),*),
            Interpolation::Nearest => $($kernel)::+::<_, Nearest, 1 $(, $d)?>($($arg),*),
            Interpolation::Bicubic => $($kernel)::+::<_, Bicubic, 4 $(, $d)?>($($arg),*),
        }
    };
}

const NAME: &str = "grid_sample";

impl Sample {
    fn problem(&self, input: &Layout, points: &Shape) -> Result<Problem<2>> {
        let (n, out) = match &self.targets {
            Some(targets) => (points.dims3()?.0, [targets.y.len(), targets.x.len()]),
            None => points.dims4().map(|(n, height, width, _)| (n, [height, width]))?,
        };
        Problem::new(input, n, out, self.cfg)
    }

    fn points<'a, T: Element>(&'a self, (storage, layout): Arg<'a>) -> Result<Points<'a, T>> {
        let points = contiguous::<T>(NAME, storage, layout)?;
        Ok(match &self.targets {
            Some(targets) => Points::Affine(points, targets),
            None => Points::Grid(points),
        })
    }

    fn forward<T: Element>(&self, input: Arg, points: Arg, fill: Option<Arg>) -> Result<(CpuStorage, Shape)> {
        let problem = self.problem(input.1, points.1.shape())?;
        let call =
            Call { problem: &problem, input: T::cpu_storage_as_slice(input.0)?, points: self.points::<T>(points)? };
        let mut out = by_mode!(self, cpu::forward<2>(call));
        if let Some((storage, layout)) = fill {
            let fill = contiguous::<T>(NAME, storage, layout)?;
            by_mode!(self, surroundings::add_fill<>(call, fill, &mut out));
        }
        let [height, width] = problem.out;
        let shape = Shape::from((problem.all_windows(), problem.channels, height, width));
        Ok((T::to_cpu_storage_owned(out), shape))
    }

    /// The gradients of the image, of the points and of the fill, each only if it is asked for.
    fn backward<T: Element>(
        &self,
        (input, points, fill): (&Tensor, &Tensor, Option<&Tensor>),
        (pixels, places, grad): (Arg, Arg, Arg),
    ) -> Result<[Option<Tensor>; 3]> {
        let problem = self.problem(pixels.1, points.shape())?;
        let call =
            Call { problem: &problem, input: T::cpu_storage_as_slice(pixels.0)?, points: self.points::<T>(places)? };
        let grad = contiguous::<T>(NAME, grad.0, grad.1)?;
        let wanted = (input.track_op(), points.track_op());
        let (images, mut grids) = by_mode!(self, cpu::backward<2>(call, grad, wanted));
        let mut of_fill = None;
        if let Some(fill) = fill {
            if wanted.1 {
                let fill = fill.to_vec1::<T>()?;
                by_mode!(self, surroundings::add_slopes<>(call, grad, &fill, &mut grids));
            }
            of_fill = fill.track_op().then(|| by_mode!(self, surroundings::grad_fill<>(call, grad)));
        }
        Ok([
            wanted.0.then(|| tensor_like(images, input)).transpose()?,
            wanted.1.then(|| tensor_like(grids, points)).transpose()?,
            of_fill.zip(fill).map(|(values, fill)| tensor_like(values, fill)).transpose()?,
        ])
    }

    /// The same from the tensors of the graph.
    fn bwd(
        &self,
        input: &Tensor,
        points: &Tensor,
        fill: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let grad = grad.contiguous()?;
        let ((pixels, l1), (places, l2), (grad, l3)) =
            (input.storage_and_layout(), points.storage_and_layout(), grad.storage_and_layout());
        let (Storage::Cpu(pixels), Storage::Cpu(places), Storage::Cpu(grad)) = (&*pixels, &*places, &*grad) else {
            bail!("{NAME}: the kernel's tensors must be on the CPU, got {:?}", input.device())
        };
        dispatch!(NAME, pixels, self.backward((input, points, fill), ((pixels, l1), (places, l2), (grad, l3))))
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
        let [input, points, _] = self.bwd(input, points, None, grad)?;
        Ok((input, points))
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
        let [input, points, fill] = self.bwd(input, points, Some(fill), grad)?;
        Ok((input, points, fill))
    }
}
