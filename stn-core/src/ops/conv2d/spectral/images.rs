//! The spectra of images and maps, plane by plane or frequency by frequency.

use super::Spectral;
use super::plane::Canvas;
use super::workspace::Buffer;
use crate::ops::interleave::{self, members};
use crate::ops::real::{Real, vectorised};
use rayon::prelude::*;
use std::ops::Range;

/// The frequencies of a plane in pairs of one and its mirror image, each pair once: their places in the plane.
pub(super) struct Frequencies(Vec<[usize; 2]>);

impl Frequencies {
    pub(super) fn new((height, width): (usize, usize)) -> Self {
        let mirror = |k: usize| (height - k / width) % height * width + (width - k % width) % width;
        Self((0..height * width).map(|k| [k, mirror(k)]).filter(|[k, mirror]| k <= mirror).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The places of each frequency and its mirror image, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = [usize; 2]> {
        self.0.iter().copied()
    }
}

/// The spectra of some channels of some pairs of groups of images.
pub(super) struct Spectra<T: Real> {
    data: Buffer<T>,
    order: Order,
    pairs: usize,
    channels: usize,
}

#[derive(Clone, Copy)]
enum Order {
    /// (pair of groups, channel, frequency, [k, -k], [re, im], lanes)
    Planes,
    /// (frequency, [re, im], channel, pair of groups, [k, -k], lanes)
    Frequencies,
}

/// Numbers of a frequency in a plane: [k, -k] x [re, im].
const NUMBERS: usize = 4;

impl<T: Real> Spectra<T> {
    /// What products gave, frequency by frequency.
    pub(super) fn by_frequency(data: Buffer<T>, pairs: usize, channels: usize) -> Self {
        Self { data, order: Order::Frequencies, pairs, channels }
    }

    /// Of images, (N, C, H, W), with their padding.
    pub(super) fn of_images(spectral: &Spectral<T>, input: &[T], pairs: Range<usize>) -> Self {
        let geometry = spectral.geometry;
        let ((rows, top), (columns, left)) = geometry.inside();
        let (channels, pixels, width) = (geometry.channels, geometry.pixels(), spectral.plane.size().1);
        Self::planes(spectral, pairs, channels, top + rows.len(), |group, channel, part| {
            let images = members::<T>(group, geometry.images);
            let (rows, columns) = (rows.clone(), columns.len());
            vectorised!({
                for row in rows {
                    let pixels = |lane: usize| {
                        let plane = &input[((images.start + lane) * channels + channel) * pixels..][..pixels];
                        &plane[row * geometry.size.1..][..columns]
                    };
                    let start = ((top + row) * width + left) * T::LANES;
                    interleave::load::<T, _>(images.len(), pixels, &mut part[start..start + columns * T::LANES]);
                }
            });
        })
    }

    /// Of maps, (groups of images, O, H', W', lanes).
    pub(super) fn of_maps(spectral: &Spectral<T>, maps: &[T], pairs: Range<usize>) -> Self {
        let (filters, (height, width)) = (spectral.geometry.filters, spectral.geometry.out);
        let (len, wide) = (height * width * T::LANES, spectral.plane.size().1 * T::LANES);
        Self::planes(spectral, pairs, filters, height, |group, filter, part| {
            let map = &maps[(group * filters + filter) * len..][..len];
            for (to, from) in part.chunks_exact_mut(wide).zip(map.chunks_exact(width * T::LANES)) {
                to[..from.len()].copy_from_slice(from);
            }
        })
    }

    /// Transforms planes whose first `rows` rows `fill` fills for a group and a channel.
    fn planes(
        spectral: &Spectral<T>,
        pairs: Range<usize>,
        channels: usize,
        rows: usize,
        fill: impl Fn(usize, usize, &mut [T]) + Sync,
    ) -> Self {
        let len = spectral.frequencies.len() * NUMBERS * T::LANES;
        let groups = interleave::groups::<T>(spectral.geometry.images);
        let (fill, mut data) = (&fill, Buffer::new(pairs.len() * channels * len));
        data.par_chunks_exact_mut(len).enumerate().for_each_init(Canvas::default, |canvas, (i, out)| {
            let (pair, channel) = (pairs.start + i / channels, i % channels);
            spectral.plane.clear(canvas);
            let (re, im) = (&mut canvas.re, &mut canvas.im);
            fill(2 * pair, channel, re);
            if 2 * pair + 1 < groups {
                fill(2 * pair + 1, channel, im);
            }
            spectral.plane.forward(rows, canvas);
            vectorised!({
                for (&[k, mirror], out) in spectral.frequencies.0.iter().zip(out.chunks_exact_mut(NUMBERS * T::LANES)) {
                    let (k, mirror) = (k * T::LANES, mirror * T::LANES);
                    out[..T::LANES].copy_from_slice(&canvas.re[k..][..T::LANES]);
                    out[T::LANES..][..T::LANES].copy_from_slice(&canvas.im[k..][..T::LANES]);
                    out[2 * T::LANES..][..T::LANES].copy_from_slice(&canvas.re[mirror..][..T::LANES]);
                    negated(&canvas.im[mirror..], &mut out[3 * T::LANES..]);
                }
            });
        });
        Self { data, order: Order::Planes, pairs: pairs.len(), channels }
    }

    pub(super) fn pairs(&self) -> usize {
        self.pairs
    }

    /// Columns of a frequency's matrix.
    pub(super) fn columns(&self) -> usize {
        self.pairs * 2 * T::LANES
    }

    /// Where the numbers of a frequency, [k or -k][re or im], begin.
    fn place(
        &self,
        frequencies: usize,
        frequency: usize,
        (pair, channel): (usize, usize),
        [mirror, part]: [usize; 2],
    ) -> usize {
        T::LANES
            * match self.order {
                Order::Planes => {
                    ((pair * self.channels + channel) * frequencies + frequency) * NUMBERS + mirror * 2 + part
                }
                Order::Frequencies => {
                    (((frequency * 2 + part) * self.channels + channel) * self.pairs + pair) * 2 + mirror
                }
            }
    }

    fn frequencies(&self) -> usize {
        self.data.len() / (self.pairs * self.channels * NUMBERS * T::LANES)
    }

    /// One frequency's matrix, ([re, im] x channel, columns).
    pub(super) fn gather(&self, frequency: usize, out: &mut Vec<T>) {
        let frequencies = self.frequencies();
        out.resize(2 * self.channels * self.columns(), T::zero());
        let mut to = out.chunks_exact_mut(T::LANES);
        for part in 0..2 {
            for channel in 0..self.channels {
                for pair in 0..self.pairs {
                    for mirror in 0..2 {
                        let at = self.place(frequencies, frequency, (pair, channel), [mirror, part]);
                        if let Some(to) = to.next() {
                            to[..T::LANES].copy_from_slice(&self.data[at..][..T::LANES]);
                        }
                    }
                }
            }
        }
    }

    /// Transforms a plane back: the two groups of the pair are its real and imaginary part, sound in the first `rows` rows.
    pub(super) fn plane(&self, spectral: &Spectral<T>, at: (usize, usize), rows: usize, canvas: &mut Canvas<T>) {
        spectral.plane.resize(canvas);
        let (frequencies, re, im) = (self.frequencies(), &mut canvas.re, &mut canvas.im);
        vectorised!({
            for (frequency, &[k, mirror]) in spectral.frequencies.0.iter().enumerate() {
                let numbers = |mirror: usize, part: usize| {
                    &self.data[self.place(frequencies, frequency, at, [mirror, part])..][..T::LANES]
                };
                let (k, mirror) = (k * T::LANES, mirror * T::LANES);
                re[mirror..][..T::LANES].copy_from_slice(numbers(1, 0));
                negated(numbers(1, 1), &mut im[mirror..]);
                re[k..][..T::LANES].copy_from_slice(numbers(0, 0));
                im[k..][..T::LANES].copy_from_slice(numbers(0, 1));
            }
        });
        spectral.plane.inverse(rows, canvas);
    }
}

#[inline(always)]
fn negated<T: Real>(from: &[T], to: &mut [T]) {
    to[..T::LANES].iter_mut().zip(&from[..T::LANES]).for_each(|(to, &x)| *to = T::zero() - x);
}
