//! The depthwise convolution: a kernel of its own for each channel.
//!
//! A channel's plane, with its padding, is first parted by the stride: the pixels of each phase of rows and columns lie together, so that what one tap
//! of the kernel sees is one run of memory whatever the stride. The map is computed in rows of that pitch, the surplus at the end of each row
//! included, and so in long runs even where a row has seven pixels.

use super::by_product::{add, strands};
use super::{Conv2dConfig, depthwise_kernels as kernels};
use crate::ops::activation::{Activation, masked_by};
use crate::ops::real::{Gradients, Real, contiguous, dispatch, tensor_like, with_elements};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

const NAME: &str = "conv2d";

/// Whether each of the `channels` has one filter, and the taps are side by side.
pub(super) fn fits(cfg: Conv2dConfig, channels: usize, filters: usize) -> bool {
    cfg.groups == channels && channels == filters && channels > 1 && cfg.dilation == (1, 1)
}

/// Convolution, bias and activation.
pub(super) struct Depthwise {
    pub(super) cfg: Conv2dConfig,
    pub(super) activation: Activation,
}

/// The sizes of one call; pairs are (height, width).
pub(super) struct Sizes {
    images: usize,
    channels: usize,
    size: (usize, usize),
    out: (usize, usize),
    cfg: Conv2dConfig,
    /// Rows and columns of a phase of the padded plane.
    phase: (usize, usize),
    /// The run of the map: its rows at the pitch of a phase.
    pub(super) run: usize,
    /// For each tap, where its first pixel lies in the parted plane.
    pub(super) offsets: Vec<usize>,
}

impl Sizes {
    fn new(input: &Shape, weight: &Shape, cfg: Conv2dConfig) -> Result<Self> {
        let (images, channels, h, w) = input.dims4()?;
        let (_, _, kh, kw) = weight.dims4()?;
        let Some(out) = cfg.out_size((h, w), (kh, kw)) else {
            candle_core::bail!("{NAME}: a {kh}x{kw} kernel does not fit an image of {h}x{w} with {cfg:?}")
        };
        let cfg = cfg.on((h, w));
        let (sy, sx) = cfg.stride;
        let phase = (out.0 + (kh - 1) / sy, out.1 + (kw - 1) / sx);
        let tap = |ky: usize, kx: usize| {
            let plane = ky % sy * sx + kx % sx;
            (plane * phase.0 + ky / sy) * phase.1 + kx / sx
        };
        let offsets = (0..kh).flat_map(|ky| (0..kw).map(move |kx| tap(ky, kx))).collect();
        let run = (out.0 - 1) * phase.1 + out.1;
        Ok(Self { images, channels, size: (h, w), out, cfg, phase, run, offsets })
    }

    fn pixels(&self) -> usize {
        self.size.0 * self.size.1
    }

    fn positions(&self) -> usize {
        self.out.0 * self.out.1
    }

    /// Elements of a parted plane.
    fn parted(&self) -> usize {
        self.cfg.stride.0 * self.cfg.stride.1 * self.phase.0 * self.phase.1
    }

    /// Calls `visit(row of the plane, its first column, its step, where that pixel lies in the parted plane, pixels)` for each stretch of a row
    /// that one phase holds.
    fn stretches(&self, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let ((sy, sx), padding) = (self.cfg.stride, self.cfg.padding);
        for y in 0..self.size.0 {
            let (row, phase_row) = ((y + padding.top) / sy, (y + padding.top) % sy);
            if row >= self.phase.0 {
                continue; // no tap sees it
            }
            for phase_column in 0..sx {
                // The first pixel of the row in this phase.
                let first = (phase_column + sx - padding.left % sx) % sx;
                let column = (first + padding.left) / sx;
                if first >= self.size.1 || column >= self.phase.1 {
                    continue;
                }
                let count = (self.size.1 - first).div_ceil(sx).min(self.phase.1 - column);
                let plane = phase_row * sx + phase_column;
                visit(y * self.size.1 + first, sx, (plane * self.phase.0 + row) * self.phase.1 + column, count);
            }
        }
    }

    /// Parts a plane; the padding of `parted` is zero and stays so.
    fn part<T: Real>(&self, plane: &[T], parted: &mut [T]) {
        self.stretches(|from, step, to, count| {
            let to = &mut parted[to..to + count];
            if step == 1 {
                to.copy_from_slice(&plane[from..from + count]);
            } else {
                to.iter_mut().zip(plane[from..].iter().step_by(step)).for_each(|(to, &x)| *to = x);
            }
        });
    }

    /// Puts a parted plane together again, without its padding.
    fn join<T: Real>(&self, parted: &[T], plane: &mut [T]) {
        self.stretches(|to, step, from, count| {
            let from = &parted[from..from + count];
            if step == 1 {
                plane[to..to + count].copy_from_slice(from);
            } else {
                plane[to..].iter_mut().step_by(step).zip(from).for_each(|(to, &x)| *to = x);
            }
        });
    }
}

impl Depthwise {
    fn forward<T: Real>(
        &self,
        input: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let (sizes, activation) = (Sizes::new(input.1.shape(), weight.1.shape(), self.cfg)?, self.activation);
        let (input, bias) = (contiguous::<T>(NAME, input.0, input.1)?, contiguous::<T>(NAME, bias.0, bias.1)?);
        let (weight, taps) = (contiguous::<T>(NAME, weight.0, weight.1)?, sizes.offsets.len());
        let mut out = vec![T::zero(); sizes.images * sizes.channels * sizes.positions()];
        let scratch = || (vec![T::zero(); sizes.parted()], vec![T::zero(); sizes.run]);
        out.par_chunks_mut(sizes.positions()).with_min_len(4).enumerate().for_each_init(
            scratch,
            |(parted, run), (i, map)| {
                let channel = i % sizes.channels;
                sizes.part(&input[i * sizes.pixels()..][..sizes.pixels()], parted);
                kernels::map(&sizes, parted, &weight[channel * taps..][..taps], bias[channel], run);
                for (row, run) in map.chunks_exact_mut(sizes.out.1).zip(run.chunks(sizes.phase.1)) {
                    row.iter_mut().zip(run).for_each(|(out, &x)| *out = activation.of(x));
                }
            },
        );
        Ok((T::to_cpu_storage_owned(out), Shape::from((sizes.images, sizes.channels, sizes.out.0, sizes.out.1))))
    }

    fn backward<T: Real>(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<Gradients> {
        let sizes = Sizes::new(input.shape(), weight.shape(), self.cfg)?;
        let wanted = (input.track_op(), weight.track_op());
        let (grad_input, grad_weight, grad_bias) = with_elements::<T, _>(NAME, input, |input| {
            with_elements(NAME, weight, |weight| {
                with_elements(NAME, out, |out| {
                    with_elements(NAME, grad, |grad| Ok(self.gradients(&sizes, wanted, (input, weight, out, grad))))
                })
            })
        })?;
        Ok((
            if wanted.0 { Some(tensor_like(grad_input, input)?) } else { None },
            if wanted.1 { Some(tensor_like(grad_weight, weight)?) } else { None },
            if bias.track_op() { Some(tensor_like(grad_bias, bias)?) } else { None },
        ))
    }

    fn gradients<T: Real>(
        &self,
        sizes: &Sizes,
        wanted: (bool, bool),
        (input, weight, out, grad): (&[T], &[T], &[T], &[T]),
    ) -> (Vec<T>, Vec<T>, Vec<T>) {
        let (activation, taps, positions) = (self.activation, sizes.offsets.len(), sizes.positions());
        let mut grad_input = vec![T::zero(); if wanted.0 { input.len() } else { 0 }];
        // A task has a channel, of all images in their order.
        let mut planes: Vec<Vec<&mut [T]>> = (0..sizes.channels).map(|_| Vec::with_capacity(sizes.images)).collect();
        for (i, plane) in grad_input.chunks_exact_mut(sizes.pixels().max(1)).enumerate() {
            planes[i % sizes.channels].push(plane);
        }
        // Every tap reads the map's gradient at another place: zeros lie before and behind it.
        let margin = sizes.offsets.iter().copied().max().unwrap_or(0);
        let scratch = || {
            let around = vec![T::zero(); sizes.parted() + margin];
            (vec![T::zero(); positions], vec![T::zero(); sizes.parted()], around, vec![T::zero(); sizes.parted()])
        };
        let per_channel = planes.into_par_iter().with_min_len(4).enumerate().map_init(
            scratch,
            |(masked, parted, around, parted_grad), (channel, planes)| {
                let weight = &weight[channel * taps..][..taps];
                let (mut sums, mut sum) = (vec![T::zero(); taps], T::zero());
                let mut planes = planes.into_iter();
                for image in 0..sizes.images {
                    let i = image * sizes.channels + channel;
                    let at = i * positions..(i + 1) * positions;
                    masked_by(activation, &out[at.clone()], &grad[at], masked);
                    sum += strands(masked);
                    let rows = masked.chunks_exact(sizes.out.1);
                    for (run, row) in around[margin..].chunks_mut(sizes.phase.1).zip(rows) {
                        run[..row.len()].copy_from_slice(row);
                    }
                    let run = &around[margin..margin + sizes.run];
                    if wanted.1 {
                        sizes.part(&input[i * sizes.pixels()..][..sizes.pixels()], parted);
                        let mut part = vec![T::zero(); taps];
                        kernels::weights(sizes, parted, run, &mut part);
                        add(&mut sums, &part);
                    }
                    if let Some(plane) = planes.next() {
                        kernels::image(sizes, around, margin, weight, parted_grad);
                        sizes.join(parted_grad, plane);
                    }
                }
                (sums, sum)
            },
        );
        let (sums, bias): (Vec<Vec<T>>, Vec<T>) = per_channel.unzip();
        (grad_input, sums.concat(), bias)
    }
}

impl Sizes {
    /// For each phase the range that it has in the parted plane, and the taps that see it: their numbers, and where their pixel lies from the phase's start.
    pub(super) fn phases(&self) -> impl Iterator<Item = (std::ops::Range<usize>, Vec<(usize, usize)>)> + '_ {
        let len = self.phase.0 * self.phase.1;
        (0..self.cfg.stride.0 * self.cfg.stride.1).map(move |phase| {
            let range = phase * len..(phase + 1) * len;
            let taps = self.offsets.iter().enumerate().filter(|(_, offset)| range.contains(offset));
            (range.clone(), taps.map(|(tap, offset)| (tap, offset - range.start)).collect())
        })
    }
}

impl CustomOp3 for Depthwise {
    fn name(&self) -> &'static str {
        NAME
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

    fn bwd(&self, input: &Tensor, weight: &Tensor, bias: &Tensor, out: &Tensor, grad: &Tensor) -> Result<Gradients> {
        let grad = grad.contiguous()?;
        dispatch!(NAME, input, self.backward(input, weight, bias, out, &grad))
    }
}
