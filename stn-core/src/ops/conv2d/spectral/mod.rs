//! Convolution with large kernels in the frequency domain, where it is a product of two numbers for each frequency instead of a sum over
//! the taps.
//!
//! Two groups of images travel as the real and the imaginary part of one: a kernel of real numbers does not mix them. A frequency k is stored
//! with its mirror image -k, whose conjugate meets the same weights, so that for each pair of frequencies all images are one product of matrices:
//!
//! | values | laid out as |
//! |---|---|
//! | spectra of images and gradients | (pair of groups, channel, frequency, [k, -k], [re, im], lanes) |
//! | those of one frequency, gathered | ([re, im] x channel, pair of groups x [k, -k] x lanes) |
//! | spectra of weights | (frequency, [re, im], filter x channel) |
//!
//! How the work is cut depends on the sizes alone: the bits do not depend on the number of threads.

mod cost;
mod dft;
mod filters;
mod images;
mod plane;
mod workspace;

use super::backward::Saved;
use super::epilogue::{Epilogue, Planes, Scratch};
use super::geometry::Geometry;
use crate::ops::interleave::{self, groups, members};
use crate::ops::product::{Matrix, product};
use crate::ops::real::{Real, vectorised};
use images::{Frequencies, Spectra};
use plane::{Canvas, Plane};
use rayon::prelude::*;
use std::ops::Range;
use workspace::Buffer;

pub(super) use cost::{dense_backward_pays, forward_pays, scattered_backward_pays};

/// The spectra of a block of images and of their maps take about so many bytes.
const BLOCK_BYTES: usize = 48 << 20;

/// The spectra of a batch of images are kept for the backward pass where they take no more bytes than this.
const KEPT_BYTES: usize = 128 << 20;

/// Whether all numbers are finite, and so far from the largest that sums of products are too: one that is not would spoil every pixel of two images.
pub(super) fn are_tame<T: Real>(values: &[&[T]]) -> bool {
    // f32 ends at 2^128: two factors, and 2^48 terms for every pixel of every position of every image.
    let bound = T::from_f64(2f64.powi(40));
    values.iter().all(|values| {
        values.par_chunks(1 << 14).all(|values| {
            // NaN fails every comparison.
            vectorised!(values.iter().fold(true, |tame, &x| tame & (x <= bound) & (x >= T::zero() - bound)))
        })
    })
}

/// The bytes of the spectra of a pair of groups of images and of their maps, planes of so many pixels.
fn pair_bytes<T: Real>(geometry: &Geometry, pixels: usize) -> usize {
    (geometry.channels + geometry.filters) * pixels * 2 * T::LANES * size_of::<T>()
}

/// One convolution in the frequency domain.
struct Spectral<'a, T> {
    geometry: &'a Geometry,
    plane: Plane<T>,
    frequencies: Frequencies,
}

impl<'a, T: Real> Spectral<'a, T> {
    fn new(geometry: &'a Geometry) -> Self {
        let plane = Plane::new(geometry.padded());
        Self { geometry, frequencies: Frequencies::new(plane.size()), plane }
    }

    /// The pairs of groups of images, some at a time.
    fn blocks(&self) -> Vec<Range<usize>> {
        let pairs = groups::<T>(self.geometry.images).div_ceil(2);
        let most = (BLOCK_BYTES / pair_bytes::<T>(self.geometry, self.plane.pixels())).clamp(1, pairs.max(1));
        (0..pairs).step_by(most).map(|first| first..pairs.min(first + most)).collect()
    }

    /// Whether the spectra of a whole batch are worth their memory, which is about that of the images themselves.
    fn keeps_images(&self) -> bool {
        let planes = groups::<T>(self.geometry.images).next_multiple_of(2) * self.geometry.channels;
        planes * self.plane.pixels() * T::LANES * size_of::<T>() <= KEPT_BYTES
    }
}

/// What the forward pass leaves for the backward pass: the spectra of the weights, and those of the images block by block, or none of them.
pub(super) struct Known<T: Real> {
    filters: Buffer<T>,
    images: Vec<Spectra<T>>,
}

/// The maps of a batch, finished, as [`super::forward::run`] gives them.
pub(super) fn forward<T: Real>(
    geometry: &Geometry,
    epilogue: &Epilogue,
    (input, weight, bias): (&[T], &[T], &[T]),
    (out, cells): (&mut [T], &mut [u8]),
) -> Known<T> {
    let spectral = Spectral::new(geometry);
    let filters = filters::spectra(&spectral, weight);
    let shape = (geometry.images, geometry.filters, epilogue.positions());
    let each: Vec<_> = (0..geometry.filters).map(|filter| filter..filter + 1).collect();
    let mut planes = interleave::tasks::<T, _>(out, shape, &each);
    let mut cells = interleave::tasks::<T, _>(cells, shape, &each);
    cells.resize_with(planes.len(), Vec::new);
    let mut tasks = planes.drain(..).zip(cells.drain(..));
    let mut known = vec![];
    for pairs in spectral.blocks() {
        let images = Spectra::of_images(&spectral, input, pairs.clone());
        let maps = spectral.apply(&filters, &images, false);
        by_pair(&mut tasks, pairs.len(), geometry.filters).into_par_iter().enumerate().for_each_init(
            <(Canvas<T>, Scratch<T>)>::default,
            |(canvas, scratch), (i, tasks)| {
                let (pair, filter) = (i / geometry.filters, i % geometry.filters);
                maps.plane(&spectral, (pair, filter), geometry.out.0, canvas);
                for (half, (out, cells)) in tasks.into_iter().enumerate() {
                    let part = if half == 0 { &canvas.re } else { &canvas.im };
                    let (wide, width) = (spectral.plane.size().1 * T::LANES, geometry.out.1 * T::LANES);
                    scratch.maps.resize(geometry.out.0 * width, T::zero());
                    let sums = &mut scratch.maps;
                    vectorised!({
                        for (to, from) in sums.chunks_exact_mut(width).zip(part.chunks_exact(wide)) {
                            to.iter_mut().zip(from).for_each(|(to, &x)| *to = x + bias[filter]);
                        }
                    });
                    let images = members::<T>(2 * (pairs.start + pair) + half, geometry.images);
                    epilogue.finish(images.len(), scratch, &mut Planes { out, cells });
                }
            },
        );
        if spectral.keeps_images() {
            known.push(images);
        }
    }
    drop(tasks);
    Known { filters, images: known }
}

/// The gradients of the images, (N, C, H, W), and of the weights, (O, C, kh, kw), where they are asked for, from those of the maps, (groups
/// of images, O, H', W', lanes).
pub(super) fn backward<T: Real>(
    geometry: &Geometry,
    saved: &Saved<T>,
    maps: &[T],
    wanted: super::backward::Wanted,
) -> (Option<Vec<T>>, Option<Vec<T>>) {
    let spectral = Spectral::new(geometry);
    let pixels = geometry.pixels();
    let made;
    let filters = match saved.spectra {
        Some(known) => Some(&*known.filters),
        None => {
            made = wanted.input.then(|| filters::spectra(&spectral, saved.weight));
            made.as_deref()
        }
    };
    let mut image = wanted.input.then(|| vec![T::zero(); geometry.images * geometry.channels * pixels]);
    let mut sums = wanted.weight.then(|| spectral.zeros());
    let each: Vec<_> = (0..geometry.channels).map(|channel| channel..channel + 1).collect();
    let shape = (geometry.images, geometry.channels, pixels);
    let mut planes = image.as_mut().map(|image| interleave::tasks::<T, _>(image, shape, &each)).unwrap_or_default();
    let mut tasks = planes.drain(..);
    for (block, pairs) in spectral.blocks().into_iter().enumerate() {
        let grads = Spectra::of_maps(&spectral, maps, pairs.clone());
        if let Some(sums) = &mut sums {
            let made;
            let images = match saved.spectra.and_then(|known| known.images.get(block)) {
                Some(images) => images,
                None => {
                    made = Spectra::of_images(&spectral, saved.input, pairs.clone());
                    &made
                }
            };
            spectral.correlate(&grads, images, sums);
        }
        let Some(filters) = filters.filter(|_| wanted.input) else { continue };
        let images = spectral.apply(filters, &grads, true);
        let ((rows, top), (columns, left)) = geometry.inside();
        let tasks = by_pair(&mut tasks, pairs.len(), geometry.channels);
        tasks.into_par_iter().enumerate().for_each_init(Canvas::default, |canvas, (i, tasks)| {
            images.plane(&spectral, (i / geometry.channels, i % geometry.channels), geometry.padded().0, canvas);
            let (rows, columns, width) = (rows.clone(), columns.len(), spectral.plane.size().1);
            vectorised!({
                for (half, mut planes) in tasks.into_iter().enumerate() {
                    let part = if half == 0 { &canvas.re } else { &canvas.im };
                    for row in rows.clone() {
                        let start = ((top + row) * width + left) * T::LANES;
                        let lanes = &part[start..start + columns * T::LANES];
                        interleave::store::<T, _>(lanes, &mut planes, row * geometry.size.1);
                    }
                }
            });
        });
    }
    drop(tasks);
    (image, sums.map(|sums| filters::gradient(&spectral, &sums)))
}

impl<T: Real> Spectral<'_, T> {
    /// Zeros for the spectra of the weights.
    fn zeros(&self) -> Buffer<T> {
        let mut zeros = Buffer::new(self.frequencies.len() * 2 * self.geometry.filters * self.geometry.channels);
        zeros.fill(T::zero());
        zeros
    }

    /// The spectra of the maps from those of the images; `transposed`, those of the images' gradients from those of the maps'.
    fn apply(&self, filters: &[T], spectra: &Spectra<T>, transposed: bool) -> Spectra<T> {
        let (o, c) = (self.geometry.filters, self.geometry.channels);
        let columns = spectra.columns();
        let to = if transposed { c } else { o };
        let mut out = Buffer::new(self.frequencies.len() * 2 * to * columns);
        out.par_chunks_exact_mut(2 * to * columns).enumerate().for_each_init(
            <(Vec<T>, Vec<T>)>::default,
            |(gathered, block), (frequency, out)| {
                spectra.gather(frequency, gathered);
                block_matrix(&filters[frequency * 2 * o * c..][..2 * o * c], (o, c), block);
                let (matrix, x) =
                    (Matrix::new(block, 2 * o, 2 * c), Matrix::new(gathered, gathered.len() / columns, columns));
                product(out, if transposed { matrix.t() } else { matrix }, x);
            },
        );
        Spectra::by_frequency(out, spectra.pairs(), to)
    }

    /// Adds, for each filter and channel, twice the spectrum of the correlation of the maps' gradient with the images.
    fn correlate(&self, grads: &Spectra<T>, images: &Spectra<T>, sums: &mut [T]) {
        let (o, c) = (self.geometry.filters, self.geometry.channels);
        let columns = images.columns();
        sums.par_chunks_exact_mut(2 * o * c).enumerate().for_each_init(
            <[Vec<T>; 3]>::default,
            |[g, x, products], (frequency, sums)| {
                grads.gather(frequency, g);
                images.gather(frequency, x);
                products.resize(4 * o * c, T::zero());
                product(products, Matrix::new(g, 2 * o, columns), Matrix::new(x, 2 * c, columns).t());
                let (re, im) = sums.split_at_mut(o * c);
                let (upper, lower) = products.split_at(2 * o * c);
                let rows = upper.chunks_exact(2 * c).zip(lower.chunks_exact(2 * c));
                for ((re, im), (upper, lower)) in re.chunks_exact_mut(c).zip(im.chunks_exact_mut(c)).zip(rows) {
                    // conj(g) x
                    for i in 0..c {
                        re[i] += upper[i] + lower[c + i];
                        im[i] += upper[c + i] - lower[i];
                    }
                }
            },
        );
    }
}

/// The next tasks, one for each group of images and each channel, as pairs of those of two groups: (pair, channel, [group]). The last pair of a batch may be
/// of one group.
fn by_pair<A>(tasks: &mut impl Iterator<Item = A>, pairs: usize, channels: usize) -> Vec<Vec<A>> {
    let mut out: Vec<Vec<A>> = (0..pairs * channels).map(|_| Vec::with_capacity(2)).collect();
    for (i, task) in tasks.take(2 * pairs * channels).enumerate() {
        out[i / channels / 2 * channels + i % channels].push(task);
    }
    out
}

/// Conjugated weights as a real matrix that multiplies (re, im): [[re, im], [-im, re]], (2 O, 2 C).
fn block_matrix<T: Real>(weights: &[T], (o, c): (usize, usize), block: &mut Vec<T>) {
    let (re, im) = weights.split_at(o * c);
    block.clear();
    for (re, im) in re.chunks_exact(c).zip(im.chunks_exact(c)) {
        block.extend_from_slice(re);
        block.extend_from_slice(im);
    }
    for (re, im) in re.chunks_exact(c).zip(im.chunks_exact(c)) {
        block.extend(im.iter().map(|&x| T::zero() - x));
        block.extend_from_slice(re);
    }
}

#[cfg(test)]
mod tests;
