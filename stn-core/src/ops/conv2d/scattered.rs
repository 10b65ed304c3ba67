//! The backward pass behind a max-pool: of each window one pixel at most has a gradient, so the gradient of the map is a short list of
//! places, not a map.
//!
//! Here images lie with their channels last, (groups, padded H, padded W, C / groups): what a filter sees of one row, at any place, is one run of
//! memory, `kw C / groups` long. The weights' gradient is a sum of such runs, the image's gradient is made of runs of weights.

use super::backward::{self, Gradients, Saved, Wanted};
use super::channels_last;
use super::epilogue::{DEAD, unpool};
use super::geometry::Geometry;
use super::runs::{Runs, add_rows, sum_rows};
use super::spectral;
use crate::ops::interleave::{self, groups, members};
use crate::ops::pool2d::Windows;
use crate::ops::real::{Real, vectorised};
use rayon::prelude::*;
use std::ops::Range;

/// The filters, and the images, are divided among tasks into at most so many parts each.
const PARTS: usize = 4;

/// So many bytes of images are looked at for one filter after the other: the cache holds them.
const CHUNK_BYTES: usize = 384 << 10;

/// A pixel of a map with its gradient.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<T> {
    /// Where what the filter sees there begins.
    pub(super) place: usize,
    pub(super) grad: T,
}

/// Some pixels with a gradient, in a buffer that is filled again and again.
struct Entries<T> {
    buffer: Vec<Entry<T>>,
    count: usize,
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { buffer: vec![], count: 0 }
    }
}

impl<T: Real> Entries<T> {
    /// Room for so many more.
    fn free(&mut self, more: usize) -> &mut [Entry<T>] {
        if self.buffer.len() < self.count + more {
            self.buffer.resize(self.count + more, Entry { place: 0, grad: T::zero() });
        }
        &mut self.buffer[self.count..]
    }

    fn all(&self) -> &[Entry<T>] {
        &self.buffer[..self.count]
    }
}

/// One call.
struct Problem<'a, T: Real> {
    geometry: &'a Geometry,
    saved: &'a Saved<'a, T>,
    grad: &'a [T],
    windows: &'a Windows,
    /// For each pixel of each window, where in an image what the filter sees there begins; and where each window begins.
    places: Vec<usize>,
    starts: Vec<usize>,
    runs: Runs,
}

/// The gradients, from that of the result.
pub(super) fn run<T: Real>(
    geometry: &Geometry,
    windows: &Windows,
    saved: &Saved<T>,
    grad: &[T],
    wanted: Wanted,
) -> Gradients<T> {
    let runs = Runs::new(geometry);
    let (mut places, mut starts) = (vec![], vec![]);
    for window in windows.iter() {
        starts.push(places.len());
        places.extend(window.iter().map(|i| runs.place((i / geometry.out.1, i % geometry.out.1))));
    }
    let problem = Problem { geometry, saved, grad, windows, places, starts, runs };
    let alive =
        saved.cells.par_chunks(1 << 16).map(|cells| vectorised!(cells.iter().filter(|c| **c != DEAD).count())).sum();
    if spectral::scattered_backward_pays::<T>(geometry, wanted, alive) && saved.are_tame(grad) {
        let (input, weight) = spectral::backward(geometry, saved, &problem.maps(), wanted);
        return Gradients { input, weight, bias: problem.bias() };
    }
    let (weight, bias) = if wanted.weight { problem.weights() } else { (vec![], problem.bias()) };
    let input = || {
        if problem.runs.are_long::<T>() {
            problem.images()
        } else {
            backward::images(geometry, saved.weight, &problem.maps())
        }
    };
    Gradients { input: wanted.input.then(input), weight: wanted.weight.then_some(weight), bias }
}

impl<T: Real> Problem<'_, T> {
    /// The group that a filter belongs to.
    fn group(&self, filter: usize) -> usize {
        filter / self.geometry.group_filters()
    }

    /// Appends the pixels of one image's map that have a gradient; the image begins at `base`.
    fn entries(&self, image: usize, filter: usize, base: usize, entries: &mut Entries<T>) {
        let (windows, base) = (self.starts.len(), base + self.group(filter) * self.runs.image);
        let free = entries.free(windows);
        let first = (image * self.geometry.filters + filter) * windows;
        let cells = &self.saved.cells[first..first + windows];
        let mut count = 0;
        let grads = &self.grad[first..first + windows];
        for ((cells, grads), starts) in cells.chunks(8).zip(grads.chunks(8)).zip(self.starts.chunks(8)) {
            if cells == [DEAD; 8] {
                continue;
            }
            for ((&cell, &grad), &start) in cells.iter().zip(grads).zip(starts) {
                // Without branches, which the data would make unpredictable: a window without a gradient is overwritten by the next.
                let alive = cell != DEAD;
                let cell = if alive { usize::from(cell) } else { 0 };
                free[count] = Entry { place: base + self.places[start + cell], grad };
                count += usize::from(alive);
            }
        }
        entries.count += count;
    }

    /// The images with their channels last and the zeros of the padding around them, and as much behind them as a vector may reach.
    fn channels_last(&self) -> Vec<T> {
        let (geometry, runs) = (self.geometry, &self.runs);
        let (len, count) = (geometry.group_channels() * geometry.pixels(), geometry.images * geometry.cfg.groups);
        let mut out = vec![T::zero(); count * runs.image + runs.slack::<T>()];
        let images = out.par_chunks_exact_mut(runs.image).with_min_len(4).take(count).enumerate();
        images.for_each_init(Vec::new, |lanes, (i, out)| {
            channels_last::put(geometry, &self.saved.input[i * len..][..len], out, lanes);
        });
        out
    }

    /// The gradients of the weights, (O, C / groups, kh, kw), and of the bias.
    fn weights(&self) -> (Vec<T>, Vec<T>) {
        let (geometry, images) = (self.geometry, self.geometry.images);
        let (filters, patch) = (geometry.filters, geometry.patch());
        let (mut weight, mut bias) = (vec![T::zero(); filters * patch], vec![T::zero(); filters]);
        if geometry.is_empty() {
            return (weight, self.bias());
        }
        let x = self.channels_last();
        let (some_filters, some_images) = (filters.div_ceil(PARTS), images.div_ceil(PARTS));
        let (filter_parts, image_parts) = (filters.div_ceil(some_filters), images.div_ceil(some_images));
        let part = |i: usize, size: usize, all: usize| i * size..all.min((i + 1) * size);
        let parts: Vec<(Vec<T>, Vec<T>)> = (0..filter_parts * image_parts)
            .into_par_iter()
            .map(|i| {
                let filters = part(i / image_parts, some_filters, filters);
                self.part_of_weights(&x, filters, part(i % image_parts, some_images, images))
            })
            .collect();
        for (i, (weights, biases)) in parts.iter().enumerate() {
            let first = i / image_parts * some_filters;
            bias[first..].iter_mut().zip(biases).for_each(|(sum, &x)| *sum += x);
            // (filter, row, column, channel) -> (filter, channel, row, column)
            let taps = geometry.taps();
            for (sums, part) in weight[first * patch..].chunks_exact_mut(patch).zip(weights.chunks_exact(patch)) {
                for (tap, channels) in part.chunks_exact(geometry.group_channels()).enumerate() {
                    sums[tap..].iter_mut().step_by(taps).zip(channels).for_each(|(sum, &x)| *sum += x);
                }
            }
        }
        (weight, bias)
    }

    /// The part of some images in the gradients of some filters' weights, (filters, row, column, channel), and bias.
    fn part_of_weights(&self, x: &[T], filters: Range<usize>, images: Range<usize>) -> (Vec<T>, Vec<T>) {
        let patch = self.geometry.patch();
        let (mut weights, mut biases) = (vec![T::zero(); filters.len() * patch], vec![T::zero(); filters.len()]);
        let image_len = self.geometry.cfg.groups * self.runs.image;
        let chunk = (CHUNK_BYTES / (image_len * size_of::<T>())).max(1);
        let mut entries = Entries::default();
        for first in images.clone().step_by(chunk) {
            let last = images.end.min(first + chunk);
            // What a vector may reach behind the last image lies in `x` too.
            let x = &x[first * image_len..last * image_len + self.runs.slack::<T>()];
            for ((filter, weights), bias) in filters.clone().zip(weights.chunks_exact_mut(patch)).zip(&mut biases) {
                entries.count = 0;
                for image in first..last {
                    self.entries(image, filter, (image - first) * image_len, &mut entries);
                }
                *bias += entries.all().iter().fold(T::zero(), |sum, entry| sum + entry.grad);
                sum_rows(&self.runs, x, entries.all(), weights);
            }
        }
        (weights, biases)
    }

    /// The gradient of the bias.
    fn bias(&self) -> Vec<T> {
        let (filters, windows) = (self.geometry.filters, self.windows.count());
        let of_map = |map: usize| {
            let map = map * windows..(map + 1) * windows;
            let alive = self.grad[map.clone()].iter().zip(&self.saved.cells[map]).filter(|(_, cell)| **cell != DEAD);
            alive.fold(T::zero(), |sum, (&grad, _)| sum + grad)
        };
        let of_filter =
            |filter: usize| (0..self.geometry.images).fold(T::zero(), |sum, i| sum + of_map(i * filters + filter));
        (0..filters).into_par_iter().map(of_filter).collect()
    }

    /// The gradients of the maps for groups of images, (groups, O, H', W', lanes).
    fn maps(&self) -> Vec<T> {
        let (geometry, plane) = (self.geometry, self.geometry.positions() * T::LANES);
        let mut maps = vec![T::zero(); groups::<T>(geometry.images) * geometry.filters * plane];
        let windows = self.windows.count();
        maps.par_chunks_mut(plane).with_min_len(4).enumerate().for_each_init(
            <(Vec<T>, Vec<u8>, Vec<T>)>::default,
            |(grads, bytes, cells), (i, map)| {
                let (images, filter) = (members::<T>(i / geometry.filters, geometry.images), i % geometry.filters);
                let count = images.len();
                let places = move |lane: usize| {
                    let first = ((images.start + lane) * geometry.filters + filter) * windows;
                    first..first + windows
                };
                grads.resize(windows * T::LANES, T::zero());
                bytes.resize(windows * T::LANES, 0);
                cells.clear();
                let (grads, cells) = vectorised!({
                    interleave::load::<T, _>(count, |lane| &self.grad[places(lane)], grads);
                    interleave::load::<T, _>(count, |lane| &self.saved.cells[places(lane)], bytes);
                    cells.extend(bytes.iter().map(|&cell| T::from_f64(f64::from(cell))));
                    (grads, cells)
                });
                unpool(self.windows, grads, cells, map);
            },
        );
        maps
    }

    /// The gradient of the images, (N, C, H, W).
    fn images(&self) -> Vec<T> {
        let (geometry, runs) = (self.geometry, &self.runs);
        let groups = geometry.cfg.groups;
        let mut out = vec![T::zero(); geometry.images * geometry.channels * geometry.pixels()];
        if geometry.is_empty() {
            return out;
        }
        let weights = runs.padded_weights(geometry, self.saved.weight);
        let len = geometry.channels * geometry.pixels();
        out.par_chunks_exact_mut(len).enumerate().for_each_init(
            <(Vec<T>, Vec<T>, Entries<T>)>::default,
            |(image, lanes, entries), (i, out)| {
                image.clear();
                image.resize(groups * runs.image + runs.slack::<T>(), T::zero());
                for (filter, weights) in weights.chunks_exact(runs.padded_filter::<T>()).enumerate() {
                    entries.count = 0;
                    self.entries(i, filter, 0, entries);
                    add_rows(runs, weights, entries.all(), image);
                }
                for (out, image) in out.chunks_exact_mut(len / groups).zip(image.chunks_exact(runs.image)) {
                    channels_last::take(geometry, image, out, lanes);
                }
            },
        );
        out
    }
}
