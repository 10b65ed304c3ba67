//! The forward pass: filters by filters over a group of images, each map finished (bias, ReLU, pooling) while it is in the cache.

use super::epilogue::{Epilogue, Planes, Scratch};
use super::geometry::{Geometry, Tile, tiles};
use super::spectral;
use super::tiles::{Taps, by_count, forward, largest};
use crate::ops::interleave::{self, groups, members};
use crate::ops::real::{Real, vectorised, width};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// The images in groups, with the zeros of the padding around them: (groups, C, padded H, padded W, lanes).
pub(super) fn interleaved<T: Real>(geometry: &Geometry, input: &[T]) -> Vec<T> {
    let (channels, (_, width)) = (geometry.channels, geometry.padded());
    let plane = geometry.padded_pixels() * T::LANES;
    let ((rows, top), (columns, left)) = geometry.inside();
    let mut out = vec![T::zero(); groups::<T>(geometry.images) * channels * plane];
    out.par_chunks_mut(plane).with_min_len(4).enumerate().for_each(|(i, plane)| {
        let (images, channel) = (members::<T>(i / channels, geometry.images), i % channels);
        let (rows, columns) = (rows.clone(), columns.len());
        vectorised!({
            for row in rows {
                let pixels = |lane: usize| {
                    let plane = (images.start + lane) * channels + channel;
                    &input[plane * geometry.pixels() + row * geometry.size.1..][..columns]
                };
                let start = ((top + row) * width + left) * T::LANES;
                let lanes = &mut plane[start..start + columns * T::LANES];
                interleave::load::<T, _>(images.len(), pixels, lanes);
            }
        });
    });
    out
}

/// The weights of each tile of filters, (tap, filter), the tiles one after the other.
fn packed<T: Real>(geometry: &Geometry, tiles: &[Tile], weight: &[T]) -> Vec<T> {
    let patch = geometry.patch();
    let mut out = Vec::with_capacity(weight.len());
    for tile in tiles {
        let filters = &weight[tile.filters.start * patch..tile.filters.end * patch];
        out.extend((0..patch).flat_map(|tap| filters[tap..].iter().step_by(patch)));
    }
    out
}

/// The result of the forward pass, (N, O, H', W'), the sides those after pooling.
pub(super) struct Forward<T: Real> {
    pub(super) out: Vec<T>,
    /// Which pixel of each window is the largest, where there is a pool.
    pub(super) cells: Vec<u8>,
    /// The spectra of images and weights, where they were needed.
    pub(super) spectra: Option<spectral::Known<T>>,
}

/// The maps of a batch.
pub(super) fn run<T: Real>(
    geometry: &Geometry,
    epilogue: &Epilogue,
    input: &[T],
    weight: &[T],
    bias: &[T],
) -> Forward<T> {
    let (images, shape) = (geometry.images, (geometry.images, geometry.filters, epilogue.positions()));
    let mut out = vec![T::zero(); shape.0 * shape.1 * shape.2];
    let mut cells = vec![0; if epilogue.windows.is_some() { out.len() } else { 0 }];
    if spectral::forward_pays::<T>(geometry) && spectral::are_tame(&[input, weight]) {
        let spectra = spectral::forward(geometry, epilogue, (input, weight, bias), (&mut out, &mut cells));
        return Forward { out, cells, spectra: Some(spectra) };
    }
    let (tiles, x) = (tiles(geometry), interleaved(geometry, input));
    let (weight, patch) = (packed(geometry, &tiles, weight), geometry.patch());
    let ranges: Vec<_> = tiles.iter().map(|tile| tile.filters.clone()).collect();
    let mut all_cells = interleave::tasks::<T, _>(&mut cells, shape, &ranges);
    all_cells.resize_with(groups::<T>(images) * ranges.len(), Vec::new);
    let tasks = interleave::tasks::<T, _>(&mut out, shape, &ranges).into_par_iter().zip(all_cells).enumerate();
    let plane = geometry.padded_pixels() * T::LANES;
    tasks.for_each_init(Scratch::default, |scratch, (i, (out, cells))| {
        let (group, tile) = (i / tiles.len(), &tiles[i % tiles.len()]);
        let channels = geometry.group_channels();
        let first = (group * geometry.channels + tile.channel) * plane;
        let x = &x[first..first + channels * plane];
        let w = &weight[tile.filters.start * patch..tile.filters.end * patch];
        let bias = &bias[tile.filters.clone()];
        scratch.maps.resize(tile.filters.len() * geometry.positions() * T::LANES, T::zero());
        by_count!(tile.filters.len(), B => maps::<T, B>(geometry, x, w, bias, &mut scratch.maps));
        epilogue.finish(members::<T>(group, images).len(), scratch, &mut Planes { out, cells });
    });
    Forward { out, cells, spectra: None }
}

/// The maps of B filters for a group of images, (B, H', W', lanes).
fn maps<T: Real, const B: usize>(geometry: &Geometry, x: &[T], w: &[T], bias: &[T], map: &mut [T]) {
    struct Maps<'a, T, const B: usize> {
        geometry: &'a Geometry,
        x: &'a [T],
        w: &'a [T],
        bias: [T; B],
        map: &'a mut [T],
    }
    impl<T: Real, const B: usize> WithSimd for Maps<'_, T, B> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self { geometry, x, w, bias, map } = self;
            let (padded, cfg) = (geometry.padded(), geometry.cfg);
            let plane = geometry.positions() * T::LANES;
            let mut taps = Taps {
                channels: geometry.group_channels(),
                kernel: geometry.kernel,
                rows: 0..0,
                plane: geometry.padded_pixels() * T::LANES,
                row: cfg.dilation.0 * padded.1 * T::LANES,
                column: cfg.dilation.1 * T::LANES,
                step: cfg.stride.1 * T::LANES,
            };
            assert!(x.len() == taps.channels * taps.plane && w.len() == geometry.patch() * B && map.len() == B * plane);
            for lane in (0..T::LANES).step_by(width::<T, S>()) {
                for oy in 0..geometry.out.0 {
                    taps.rows = geometry.kernel_rows(oy);
                    let (from, to) =
                        (oy * cfg.stride.0 * padded.1 * T::LANES + lane, oy * geometry.out.1 * T::LANES + lane);
                    let mut ox = 0;
                    while ox < geometry.out.1 {
                        // Of no channels nothing is read.
                        let x = x.as_ptr().wrapping_add(from + ox * taps.step);
                        let out = &mut map[to + ox * T::LANES..];
                        // SAFETY: position (oy, ox + P - 1) is one of the map, so every tap of it lies in the padded image, whose channels `x` holds whole
                        // (asserted above); `w` has B weights a tap, `map` B maps. LANES is a multiple of the vector's width: from `lane` on, a whole
                        // vector of every pixel's lanes is left.
                        ox += unsafe {
                            largest!(geometry.out.1 - ox, S, P => {
                                forward::<T, S, P, B>(simd, &taps, x, w.as_ptr(), &bias, (out.as_mut_ptr(), plane))
                            })
                        };
                    }
                }
            }
        }
    }
    let bias = std::array::from_fn(|b| bias[b]);
    Arch::new().dispatch(Maps::<T, B> { geometry, x, w, bias, map });
}
