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

/// Pixels that are moved together: a block of them and of images stays in the nearest cache.
const BLOCK: usize = 16;

/// Takes in some pixels of `count` images; `plane` gives those of the image in a lane. Lanes without an image become zero.
#[inline(always)]
pub(crate) fn load<'a, T: Real>(count: usize, plane: impl Fn(usize) -> &'a [T], lanes: &mut [T]) {
    if count < T::LANES {
        lanes.fill(T::zero());
    }
    for (i, block) in lanes.chunks_mut(BLOCK * T::LANES).enumerate() {
        for lane in 0..count {
            let values = &plane(lane)[i * BLOCK..];
            block.chunks_exact_mut(T::LANES).zip(values).for_each(|(pixel, &value)| pixel[lane] = value);
        }
    }
}

/// Gives out some pixels of the images, or what there is of each, to those from `first` on of each image's plane.
#[inline(always)]
pub(crate) fn store<T: Real, U: Copy>(lanes: &[U], planes: &mut [&mut [U]], first: usize) {
    for (i, block) in lanes.chunks(BLOCK * T::LANES).enumerate() {
        for (lane, plane) in planes.iter_mut().enumerate() {
            let values = &mut plane[first + i * BLOCK..];
            values.iter_mut().zip(block.chunks_exact(T::LANES)).for_each(|(value, pixel)| *value = pixel[lane]);
        }
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
