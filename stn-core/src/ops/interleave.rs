//! Images side by side: batches as (groups of images, C, H, W, lanes), where the lanes are as many images as fill a cache line.
//!
//! One pixel of all images of a group is then one run of memory, and what a kernel does to a pixel it does to a vector of images, however
//! small the images, whatever stride or kernel. The lanes behind the last image of a batch are zero.

use super::real::Real;
use std::ops::Range;

/// Groups of images in a batch.
pub(crate) fn groups<T: Real>(images: usize) -> usize {
    images.div_ceil(T::LANES)
}

/// The images of a group.
pub(crate) fn members<T: Real>(group: usize, images: usize) -> Range<usize> {
    group * T::LANES..images.min((group + 1) * T::LANES)
}

/// The most numbers of a square: as many pixels as there are lanes.
const SQUARE: usize = 256;

/// Takes in some pixels of `count` images; `plane` gives those of the image in a lane. Lanes without an image become zero.
#[inline(always)]
pub(crate) fn load<'a, T: Real, U: Copy + Default + 'a>(
    count: usize,
    plane: impl Fn(usize) -> &'a [U],
    lanes: &mut [U],
) {
    let pixels = lanes.len() / T::LANES;
    if pixels < T::LANES {
        lanes.fill(U::default());
        for lane in 0..count {
            let pixels = lanes.chunks_exact_mut(T::LANES);
            pixels.zip(plane(lane)).for_each(|(pixel, &value)| pixel[lane] = value);
        }
        return;
    }
    let mut buffers = [[U::default(); SQUARE]; 3];
    let [square, one, other] = buffers.each_mut().map(|buffer| &mut buffer[..T::LANES * T::LANES]);
    for first in squares::<T>(pixels) {
        for lane in 0..count {
            square[lane * T::LANES..][..T::LANES].copy_from_slice(&plane(lane)[first..][..T::LANES]);
        }
        square[count * T::LANES..].fill(U::default());
        transpose::<T, _>(square, [one, other], &mut lanes[first * T::LANES..][..T::LANES * T::LANES]);
    }
}

/// Gives out some pixels of the images to those from `first` on of each image's plane.
#[inline(always)]
pub(crate) fn store<T: Real, U: Copy + Default>(lanes: &[U], planes: &mut [&mut [U]], first: usize) {
    let pixels = lanes.len() / T::LANES;
    if pixels < T::LANES {
        for (lane, plane) in planes.iter_mut().enumerate() {
            let pixels = lanes.chunks_exact(T::LANES);
            plane[first..].iter_mut().zip(pixels).for_each(|(value, pixel)| *value = pixel[lane]);
        }
        return;
    }
    let mut buffers = [[U::default(); SQUARE]; 3];
    let [square, one, other] = buffers.each_mut().map(|buffer| &mut buffer[..T::LANES * T::LANES]);
    for start in squares::<T>(pixels) {
        transpose::<T, _>(&lanes[start * T::LANES..][..T::LANES * T::LANES], [one, other], square);
        for (plane, values) in planes.iter_mut().zip(square.chunks_exact(T::LANES)) {
            plane[first + start..][..T::LANES].copy_from_slice(values);
        }
    }
}

/// Where squares begin that cover all pixels, `LANES` of them or more: the last may overlap the one before it.
#[inline(always)]
fn squares<T: Real>(pixels: usize) -> impl Iterator<Item = usize> {
    (0..pixels).step_by(T::LANES).map(move |first| first.min(pixels - T::LANES))
}

/// Exchanges rows and columns of a square of `LANES` rows, with the help of two more.
///
/// An element's number is its row's bits before its column's. Dealing the elements out of two halves in turns, as cards are riffled, moves the first bit behind the last:
/// as often as a row has bits, and row and column have changed places. Unlike moves one by one, compilers make shuffles of vectors of it.
#[inline(always)]
fn transpose<T: Real, U: Copy>(from: &[U], [mut one, mut other]: [&mut [U]; 2], to: &mut [U]) {
    riffle(from, one);
    for _ in 2..T::LANES.ilog2() {
        riffle(one, other);
        std::mem::swap(&mut one, &mut other);
    }
    riffle(one, to);
}

/// Deals out the two halves in turns.
#[inline(always)]
fn riffle<U: Copy>(from: &[U], to: &mut [U]) {
    let (a, b) = from.split_at(from.len() / 2);
    for i in 0..a.len() {
        to[2 * i] = a[i];
        to[2 * i + 1] = b[i];
    }
}

/// Splits the planes of (images, channels, plane) among tasks, one for each group of images and each of some `ranges` of channels, in that order. A task
/// gets its planes channel by channel, those of the images of its group one after the other. Of nothing, no tasks.
pub(crate) fn tasks<'a, T: Real, U>(
    data: &'a mut [U],
    (images, channels, plane): (usize, usize, usize),
    ranges: &[Range<usize>],
) -> Vec<Vec<&'a mut [U]>> {
    if data.is_empty() {
        return vec![];
    }
    let mut planes: Vec<Option<&mut [U]>> = data.chunks_exact_mut(plane).map(Some).collect();
    let mut tasks: Vec<Vec<&mut [U]>> = vec![];
    for group in 0..groups::<T>(images) {
        for range in ranges {
            let places = range.clone().flat_map(|c| members::<T>(group, images).map(move |image| image * channels + c));
            tasks.push(places.filter_map(|place| planes[place].take()).collect());
        }
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pixels of each image, numbered, in its plane from `first` on.
    fn images(count: usize, pixels: usize, first: usize) -> Vec<Vec<f64>> {
        let plane =
            |image: usize| (0..first + pixels).map(move |i| if i < first { -1. } else { (image * 1000 + i) as f64 });
        (0..count).map(|image| plane(image).collect()).collect()
    }

    fn there_and_back<T: Real + std::fmt::Debug>() {
        for count in [0, 1, T::LANES - 1, T::LANES] {
            for (pixels, first) in
                [(0, 0), (1, 2), (T::LANES - 1, 0), (T::LANES, 1), (T::LANES + 1, 0), (5 * T::LANES + 3, 7)]
            {
                let planes: Vec<Vec<T>> =
                    images(count, pixels, first).iter().map(|p| p.iter().map(|&x| T::from_f64(x)).collect()).collect();
                let mut lanes = vec![T::from_f64(0.5); pixels * T::LANES];
                load::<T, _>(count, |lane| &planes[lane][first..], &mut lanes);
                for (i, lane) in (0..pixels).flat_map(|i| (0..T::LANES).map(move |lane| (i, lane))) {
                    let expected = planes.get(lane).map_or(T::zero(), |plane| plane[first + i]);
                    assert_eq!(lanes[i * T::LANES + lane], expected, "pixel {i} of image {lane} of {count}");
                }
                let mut out: Vec<Vec<T>> = planes.iter().map(|plane| plane[..first].to_vec()).collect();
                out.iter_mut().for_each(|plane| plane.resize(first + pixels + 1, T::from_f64(0.5)));
                store::<T, _>(&lanes, &mut out.iter_mut().map(|plane| &mut plane[..]).collect::<Vec<_>>(), first);
                for (got, plane) in out.iter().zip(&planes) {
                    assert_eq!((&got[..first + pixels], got[first + pixels]), (&plane[..], T::from_f64(0.5)));
                }
            }
        }
    }

    #[test]
    fn images_come_back_from_their_lanes() {
        there_and_back::<f32>();
        there_and_back::<f64>();
    }
}
