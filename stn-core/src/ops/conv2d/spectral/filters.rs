//! The spectra of the weights, and the gradient of the weights from its spectra.

use super::Spectral;
use super::plane::Canvas;
use super::workspace::Buffer;
use crate::ops::real::Real;
use rayon::prelude::*;

/// The spectra of all filters, (frequency, [re, im], filter x channel), divided by the number of pixels of a plane, which the inverse transform
/// leaves out.
pub(super) fn spectra<T: Real>(spectral: &Spectral<T>, weight: &[T]) -> Buffer<T> {
    let (taps, (kh, kw)) = (spectral.geometry.taps(), spectral.geometry.kernel);
    let (frequencies, width) = (spectral.frequencies.len(), spectral.plane.size().1);
    let kernels = spectral.geometry.filters * spectral.geometry.channels;
    let scale = T::from_f64(0.5 / spectral.plane.pixels() as f64);
    // Two sets of kernels a plane, as its real and imaginary part: (plane, frequency, set, [re, im], lanes).
    let len = frequencies * 4 * T::LANES;
    let mut planes = Buffer::new(kernels.div_ceil(2 * T::LANES) * len);
    planes.par_chunks_exact_mut(len).enumerate().for_each_init(Canvas::default, |canvas, (i, out)| {
        spectral.plane.clear(canvas);
        for (set, part) in [&mut canvas.re, &mut canvas.im].into_iter().enumerate() {
            let first = (2 * i + set) * T::LANES;
            for (lane, kernel) in (first..kernels.min(first + T::LANES)).enumerate() {
                let kernel = &weight[kernel * taps..][..taps];
                for (y, row) in kernel.chunks_exact(kw).enumerate() {
                    row.iter().enumerate().for_each(|(x, &value)| part[(y * width + x) * T::LANES + lane] = value);
                }
            }
        }
        spectral.plane.forward(kh, canvas);
        for (places, out) in spectral.frequencies.iter().zip(out.chunks_exact_mut(4 * T::LANES)) {
            let [k, mirror] = places.map(|place| place * T::LANES..(place + 1) * T::LANES);
            let (re, im) = (&canvas.re[k.clone()], &canvas.im[k]);
            let (mirror_re, mirror_im) = (&canvas.re[mirror.clone()], &canvas.im[mirror]);
            for lane in 0..T::LANES {
                out[lane] = (re[lane] + mirror_re[lane]) * scale;
                out[T::LANES + lane] = (im[lane] - mirror_im[lane]) * scale;
                out[2 * T::LANES + lane] = (im[lane] + mirror_im[lane]) * scale;
                out[3 * T::LANES + lane] = (mirror_re[lane] - re[lane]) * scale;
            }
        }
    });
    let mut out = Buffer::new(frequencies * 2 * kernels);
    out.par_chunks_exact_mut(2 * kernels).enumerate().for_each(|(frequency, out)| {
        for (part, out) in out.chunks_exact_mut(kernels).enumerate() {
            for (set, out) in out.chunks_mut(T::LANES).enumerate() {
                let first = ((set / 2 * frequencies + frequency) * 4 + set % 2 * 2 + part) * T::LANES;
                out.copy_from_slice(&planes[first..first + out.len()]);
            }
        }
    });
    out
}

/// The gradient of the weights, (O, C, kh, kw), from twice its spectra, (frequency, [re, im], filter x channel).
pub(super) fn gradient<T: Real>(spectral: &Spectral<T>, sums: &[T]) -> Vec<T> {
    let (taps, (kh, kw)) = (spectral.geometry.taps(), spectral.geometry.kernel);
    let kernels = spectral.geometry.filters * spectral.geometry.channels;
    let width = spectral.plane.size().1;
    let scale = T::from_f64(0.5 / spectral.plane.pixels() as f64);
    let mut out = vec![T::zero(); kernels * taps];
    out.par_chunks_mut(2 * T::LANES * taps).enumerate().for_each_init(Canvas::default, |canvas, (i, out)| {
        spectral.plane.clear(canvas);
        for (frequency, places) in spectral.frequencies.iter().enumerate() {
            let [k, mirror] = places.map(|place| place * T::LANES);
            for (lane, kernel) in (2 * i * T::LANES..kernels.min((2 * i + 2) * T::LANES)).enumerate() {
                let (set, lane) = (lane / T::LANES, lane % T::LANES);
                let re = sums[frequency * 2 * kernels + kernel];
                let im = sums[(frequency * 2 + 1) * kernels + kernel];
                // The first set's spectrum, and i times the second's; at the mirror image, of their conjugates.
                let (at, at_mirror) =
                    if set == 0 { ((re, im), (re, T::zero() - im)) } else { ((T::zero() - im, re), (im, re)) };
                if k != mirror {
                    canvas.re[mirror + lane] += at_mirror.0;
                    canvas.im[mirror + lane] += at_mirror.1;
                }
                canvas.re[k + lane] += at.0;
                canvas.im[k + lane] += at.1;
            }
        }
        spectral.plane.inverse(kh, canvas);
        for (lane, kernel) in out.chunks_exact_mut(taps).enumerate() {
            let part = if lane < T::LANES { &canvas.re } else { &canvas.im };
            for (y, row) in kernel.chunks_exact_mut(kw).enumerate() {
                for (x, value) in row.iter_mut().enumerate() {
                    *value = part[(y * width + x) * T::LANES + lane % T::LANES] * scale;
                }
            }
        }
    });
    out
}
