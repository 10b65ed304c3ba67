//! The backward pass without a pool (`scattered` has the other): the gradient of the maps, then sums over the positions for the weights and over the filters for the images.
//!
//! How the work is cut depends on the sizes alone, and what several tasks add up is added in their order: the bits do not depend on the number
//! of threads.

use super::epilogue::Epilogue;
use super::forward::interleaved;
use super::geometry::{Geometry, TILE, Tile, tiles};
use super::tiles::{Walk, by_count, grad_input, grad_weight, largest};
use super::{scattered, spectral};
use crate::ops::interleave::{self, groups, members};
use crate::ops::real::{Real, vectorised, width};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Work is cut into about this many tasks.
const TASKS: usize = 16;

/// An image's gradient is summed up for so many bytes of channels at a time, which the cache holds.
const IMAGE_BYTES: usize = 1 << 19;

/// What the backward pass needs of the forward pass.
pub(super) struct Saved<'a, T: Real> {
    pub(super) input: &'a [T],
    pub(super) weight: &'a [T],
    /// The result, and which pixel of each window it is.
    pub(super) out: &'a [T],
    pub(super) cells: &'a [u8],
    /// Known where the forward pass went by way of them; images and weights were finite then.
    pub(super) spectra: Option<&'a spectral::Known<T>>,
}

impl<T: Real> Saved<'_, T> {
    /// Whether images, weights and these gradients may go by way of their spectra.
    pub(super) fn are_tame(&self, grad: &[T]) -> bool {
        spectral::are_tame(&[grad]) && (self.spectra.is_some() || spectral::are_tame(&[self.input, self.weight]))
    }
}

/// Which gradients are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) input: bool,
    pub(super) weight: bool,
}

/// The gradients of input and weight, where they are asked for, and of the bias.
pub(super) struct Gradients<T> {
    pub(super) input: Option<Vec<T>>,
    pub(super) weight: Option<Vec<T>>,
    pub(super) bias: Vec<T>,
}

/// The gradients, from that of the result.
pub(super) fn run<T: Real>(
    geometry: &Geometry,
    epilogue: &Epilogue,
    saved: &Saved<T>,
    grad: &[T],
    wanted: Wanted,
) -> Gradients<T> {
    match &epilogue.windows {
        Some(windows) => scattered::run(geometry, windows, saved, grad, wanted),
        None => dense(geometry, epilogue.relu, saved, grad, wanted),
    }
}

/// The gradients where there is no pool.
fn dense<T: Real>(geometry: &Geometry, relu: bool, saved: &Saved<T>, grad: &[T], wanted: Wanted) -> Gradients<T> {
    let (plane, filters) = (geometry.positions(), geometry.filters);
    let mut maps = vec![T::zero(); groups::<T>(geometry.images) * filters * plane * T::LANES];
    let sums: Vec<T> = maps
        .par_chunks_mut(plane * T::LANES)
        .with_min_len(4)
        .enumerate()
        .map_init(Vec::new, |values, (i, map)| {
            let images = members::<T>(i / filters, geometry.images);
            vectorised!({
                let of = |data: &[T], lanes: &mut [T]| {
                    let image = |lane: usize| {
                        let first = ((images.start + lane) * filters + i % filters) * plane;
                        &data[first..first + plane]
                    };
                    interleave::load::<T, _>(images.len(), image, lanes);
                };
                of(grad, map);
                if relu {
                    values.resize(map.len(), T::zero());
                    of(saved.out, values);
                    map.iter_mut().zip(values.iter()).for_each(|(grad, &value)| {
                        *grad = if value <= T::zero() { T::zero() } else { *grad };
                    });
                }
                sum(map)
            })
        })
        .collect();
    let mut bias = vec![T::zero(); filters];
    for group in sums.chunks_exact(filters.max(1)) {
        bias.iter_mut().zip(group).for_each(|(bias, &sum)| *bias += sum);
    }
    if spectral::dense_backward_pays::<T>(geometry, wanted) && saved.are_tame(&maps) {
        let (input, weight) = spectral::backward(geometry, saved, &maps, wanted);
        return Gradients { input, weight, bias };
    }
    Gradients {
        input: wanted.input.then(|| images(geometry, saved.weight, &maps)),
        weight: wanted.weight.then(|| weights(geometry, saved.input, &maps)),
        bias,
    }
}

/// A sum in as many strands as there are lanes, so that it can be vectorised.
#[inline(always)]
fn sum<T: Real>(values: &[T]) -> T {
    let mut strands = [T::zero(); 16];
    for values in values.chunks_exact(T::LANES) {
        strands.iter_mut().zip(values).for_each(|(sum, &x)| *sum += x);
    }
    strands.iter().fold(T::zero(), |sum, &x| sum + x)
}

/// The gradient of the weights, (O, C / groups, kh, kw).
fn weights<T: Real>(geometry: &Geometry, input: &[T], maps: &[T]) -> Vec<T> {
    let patch = geometry.patch();
    let mut out = vec![T::zero(); geometry.filters * patch];
    if geometry.is_empty() {
        return out;
    }
    let (x, tiles) = (interleaved(geometry, input), tiles(geometry));
    let groups = groups::<T>(geometry.images);
    // Where there are few filters, several tasks share a tile, each with some of the images.
    let parts = TASKS.div_ceil(tiles.len()).min(groups);
    let part = groups.div_ceil(parts);
    let sums: Vec<Vec<T>> = (0..tiles.len() * parts)
        .into_par_iter()
        .map(|i| {
            let (tile, groups) = (&tiles[i / parts], i % parts * part..groups.min((i % parts + 1) * part));
            let mut sums = vec![T::zero(); tile.filters.len() * patch];
            let task = Weights { geometry, tile, groups, x: &x, maps };
            by_count!(tile.filters.len(), B => Arch::new().dispatch(Sums::<T, B>(task, &mut sums)));
            sums
        })
        .collect();
    for (tile, parts) in tiles.iter().zip(sums.chunks_exact(parts)) {
        let out = &mut out[tile.filters.start * patch..tile.filters.end * patch];
        for part in parts {
            out.iter_mut().zip(part).for_each(|(out, &x)| *out += x);
        }
    }
    out
}

/// A tile of filters and some groups of images.
struct Weights<'a, T> {
    geometry: &'a Geometry,
    tile: &'a Tile,
    groups: Range<usize>,
    /// The images, and the gradients of the maps.
    x: &'a [T],
    maps: &'a [T],
}

/// Adds these images' part of the gradient of the tile's B filters to (B, patch).
struct Sums<'a, T, const B: usize>(Weights<'a, T>, &'a mut [T]);

impl<T: Real, const B: usize> WithSimd for Sums<'_, T, B> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let patch = self.0.geometry.patch();
        let mut tap = 0;
        while tap < patch {
            tap += largest!(patch - tap, S, A => self.taps::<S, A>(simd, tap));
        }
    }
}

impl<T: Real, const B: usize> Sums<'_, T, B> {
    /// The gradient of A taps from `first` on.
    #[inline(always)]
    fn taps<S: Simd, const A: usize>(&mut self, simd: S, first: usize) {
        let Self(Weights { geometry, tile, groups, x, maps }, out) = self;
        let (cfg, padded) = (geometry.cfg, geometry.padded());
        let taps: [(usize, usize, usize); A] = std::array::from_fn(|a| geometry.tap(first + a));
        let rows = taps.map(|(_, ky, _)| geometry.map_rows(ky));
        let walk = Walk {
            rows: rows.iter().map(|r| r.start).min().unwrap_or(0)..rows.iter().map(|r| r.end).max().unwrap_or(0),
            columns: geometry.out.1,
            row: cfg.stride.0 * padded.1 * T::LANES,
            step: cfg.stride.1 * T::LANES,
            plane: geometry.positions() * T::LANES,
        };
        for lane in (0..T::LANES).step_by(width::<T, S>()) {
            let mut sums = [[T::splat(simd, T::zero()); B]; A];
            for group in groups.clone() {
                let pixels = taps.map(|(channel, ky, kx)| {
                    let plane = (group * geometry.channels + tile.channel + channel) * padded.0;
                    let row = (plane + ky * cfg.dilation.0) * padded.1;
                    x[(row + kx * cfg.dilation.1) * T::LANES + lane..].as_ptr()
                });
                let first = (group * geometry.filters + tile.filters.start) * walk.plane;
                let grad = maps[first..first + B * walk.plane][lane..].as_ptr();
                // SAFETY: every tap of every position of the map lies in the padded image, of which `x` holds this channel whole; `grad` are the B maps
                // of the tile, sliced so above. From `lane` on, a whole vector of every pixel's lanes is left.
                unsafe { grad_weight::<T, S, A, B>(simd, &walk, pixels, grad, &mut sums) }
            }
            for (a, sums) in sums.iter().enumerate() {
                for (b, &sum) in sums.iter().enumerate() {
                    out[b * geometry.patch() + first + a] += T::vector_sum(simd, sum);
                }
            }
        }
    }
}

/// Some channels of one group of filters: those whose gradient one task sums up.
struct Channels {
    range: Range<usize>,
    filters: Range<usize>,
}

fn channel_tasks<T: Real>(geometry: &Geometry) -> Vec<Channels> {
    let (channels, filters) = (geometry.group_channels(), geometry.group_filters());
    let fitting = IMAGE_BYTES / (geometry.padded_pixels() * T::LANES * size_of::<T>());
    let busy = channels.div_ceil(TASKS.div_ceil(groups::<T>(geometry.images) * geometry.cfg.groups));
    let count = fitting.min(busy).max(1);
    let group = |group: usize| {
        let end = (group + 1) * channels;
        (group * channels..end).step_by(count).map(move |first| Channels {
            range: first..end.min(first + count),
            filters: group * filters..(group + 1) * filters,
        })
    };
    (0..geometry.cfg.groups).flat_map(group).collect()
}

/// The gradient of the images, (N, C, H, W), from that of the maps, (groups of images, O, H', W', lanes).
pub(super) fn images<T: Real>(geometry: &Geometry, weight: &[T], maps: &[T]) -> Vec<T> {
    let mut out = vec![T::zero(); geometry.images * geometry.channels * geometry.pixels()];
    if geometry.is_empty() {
        return out;
    }
    let channels = channel_tasks::<T>(geometry);
    let weights: Vec<Vec<T>> = channels.iter().map(|channels| packed(geometry, channels, weight)).collect();
    let ranges: Vec<_> = channels.iter().map(|channels| channels.range.clone()).collect();
    let tasks = interleave::tasks::<T, _>(&mut out, (geometry.images, geometry.channels, geometry.pixels()), &ranges);
    let plane = geometry.padded_pixels() * T::LANES;
    tasks.into_par_iter().enumerate().for_each_init(Vec::new, |image, (i, mut planes)| {
        let (group, task) = (i / channels.len(), i % channels.len());
        let Channels { range, filters } = &channels[task];
        image.clear();
        image.resize(range.len() * plane, T::zero());
        let first = group * geometry.filters + filters.start;
        let maps = &maps[first * geometry.positions() * T::LANES..][..filters.len() * geometry.positions() * T::LANES];
        Arch::new().dispatch(Images { geometry, maps, weights: &weights[task], image });
        let count = members::<T>(group, geometry.images).len();
        let ((rows, top), (columns, left)) = geometry.inside();
        let image = &image[..];
        vectorised!({
            for (image, planes) in image.chunks_exact(plane).zip(planes.chunks_mut(count)) {
                for row in rows.clone() {
                    let start = ((top + row) * geometry.padded().1 + left) * T::LANES;
                    let lanes = &image[start..start + columns.len() * T::LANES];
                    interleave::store::<T, _>(lanes, planes, row * geometry.size.1);
                }
            }
        });
    });
    out
}

/// The weights of some channels: blocks of taps, in each of them (filter, tap).
fn packed<T: Real>(geometry: &Geometry, channels: &Channels, weight: &[T]) -> Vec<T> {
    let (patch, taps) = (geometry.patch(), geometry.taps());
    let first = channels.range.start % geometry.group_channels() * taps;
    let end = first + channels.range.len() * taps;
    let mut out = Vec::with_capacity(channels.filters.len() * (end - first));
    for tap in (first..end).step_by(TILE) {
        for filter in channels.filters.clone() {
            out.extend_from_slice(&weight[filter * patch + tap..filter * patch + end.min(tap + TILE)]);
        }
    }
    out
}

/// Adds the gradient of some channels of a group of images to (channels, padded H, padded W, lanes).
struct Images<'a, T> {
    geometry: &'a Geometry,
    /// The gradients of the maps that see them.
    maps: &'a [T],
    weights: &'a [T],
    image: &'a mut [T],
}

impl<T: Real> WithSimd for Images<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (out, lanes) = (self.geometry.out, T::LANES);
        for lane in (0..lanes).step_by(width::<T, S>()) {
            for oy in 0..out.0 {
                let mut ox = 0;
                while ox < out.1 {
                    ox += largest!(out.1 - ox, S, P => self.positions::<S, P>(simd, (oy, ox), lane));
                }
            }
        }
    }
}

impl<T: Real> Images<'_, T> {
    /// What P positions from (oy, ox) on give to the pixels under their taps.
    #[inline(always)]
    fn positions<S: Simd, const P: usize>(&mut self, simd: S, (oy, ox): (usize, usize), lane: usize) {
        let Self { geometry, maps, weights, image } = self;
        let (plane, cfg, padded) = (geometry.positions() * T::LANES, geometry.cfg, geometry.padded());
        let (filters, rows) = (maps.len() / plane, geometry.kernel_rows(oy));
        let step = cfg.stride.1 * T::LANES;
        let grad = maps[(oy * geometry.out.1 + ox) * T::LANES + lane..].as_ptr();
        let patch = image.len() / (geometry.padded_pixels() * T::LANES) * geometry.taps();
        for first in (0..patch).step_by(TILE) {
            let count = TILE.min(patch - first);
            let weights = &weights[first * filters..(first + count) * filters];
            by_count!(count, B => {
                let taps: [(usize, usize, usize); B] = std::array::from_fn(|b| geometry.tap(first + b));
                if taps.iter().any(|(_, ky, _)| rows.contains(ky)) {
                    let offsets = taps.map(|(channel, ky, kx)| {
                        let row = channel * padded.0 + oy * cfg.stride.0 + ky * cfg.dilation.0;
                        (row * padded.1 + ox * cfg.stride.1 + kx * cfg.dilation.1) * T::LANES + lane
                    });
                    assert!(offsets.iter().all(|offset| offset + (P - 1) * step < image.len()));
                    // SAFETY: `grad` is P positions of the first map, and all maps are `plane` apart, the last of them whole; `weights` has B numbers a filter;
                    // the last pixel under each tap is in `image`, asserted above. From `lane` on, a whole vector of every pixel's lanes is left.
                    unsafe {
                        grad_input::<T, S, P, B>(
                            simd, filters, (grad, plane), weights.as_ptr(), image.as_mut_ptr(), &offsets, step,
                        )
                    }
                }
            });
        }
    }
}
