//! The images of co-localisation: digits of one class at random places of 84x84 pixels, without clutter (T) or with (TC).

use crate::data::distort::clutter::place_in_clutter;
use crate::data::mnist::SIDE;
use crate::data::{Dataset, Purpose, epoch_order, rng};
use crate::experiments::classification::image_tensor;
use crate::models::colocalisation::SCENE_SIDE;
use crate::named::by_id;
use anyhow::{Result, ensure};
use candle_core::Tensor;
use std::fmt;
use std::str::FromStr;

/// Images of a set, N.
pub const SCENES: usize = 100;

/// What is around the digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenery {
    /// Nothing: translated.
    T,
    /// Sixteen 6x6 patches of other digits: translated and cluttered.
    Tc,
}

impl Scenery {
    /// Both, in the order of Table 5.
    pub const ALL: [Self; 2] = [Self::T, Self::Tc];

    /// The name in commands, paths and tables.
    pub fn id(self) -> &'static str {
        match self {
            Self::T => "T",
            Self::Tc => "TC",
        }
    }

    fn patches(self) -> usize {
        match self {
            Self::T => 0,
            Self::Tc => 16,
        }
    }
}

impl fmt::Display for Scenery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

impl FromStr for Scenery {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> Result<Self> {
        by_id("data set", s, Self::ALL, Self::id)
    }
}

/// A set of images of one digit class.
#[derive(Debug)]
pub struct Scenes {
    /// (N, 1, 84, 84).
    pub images: Dataset,
    /// The same as a tensor, 0 to 1.
    pub tensor: Tensor,
    /// Where the digit's 28x28 frame was put: its first column and row. Nothing but the measurement looks at it.
    pub places: Vec<[usize; 2]>,
}

impl Scenes {
    /// Chooses a hundred digits of a class and puts each somewhere; both are the seed's.
    ///
    /// # Errors
    /// When there are fewer digits of the class.
    pub fn new(digits: &Dataset, scenery: Scenery, class: u8, seed: u64) -> Result<Self> {
        let of_class: Vec<usize> = (0..digits.len()).filter(|&i| digits.labels[i] == class).collect();
        ensure!(
            of_class.len() >= SCENES,
            "co-localisation needs {SCENES} images of the digit {class}, got {}",
            of_class.len()
        );
        let chosen = epoch_order(seed, u64::from(class), of_class.len()).into_iter().take(SCENES);
        let mut pixels = vec![0; SCENES * SCENE_SIDE * SCENE_SIDE];
        let places = pixels
            .chunks_exact_mut(SCENE_SIDE * SCENE_SIDE)
            .zip(chosen)
            .map(|(out, chosen)| {
                let index = of_class[chosen as usize];
                let mut rng = rng(seed, Purpose::Distortion, 0, index as u64);
                place_in_clutter(digits, index, SCENE_SIDE, scenery.patches(), &mut rng, out)
            })
            .collect();
        let tensor = image_tensor(&pixels, (1, SCENE_SIDE, SCENE_SIDE))?;
        let images = Dataset::new(pixels, vec![class; SCENES], 1, SCENE_SIDE, SCENE_SIDE)?;
        Ok(Self { images, tensor, places })
    }

    /// Copies the 28x28 window of an image whose first column and row are `at`.
    pub fn window(&self, index: usize, at: [usize; 2], out: &mut [u8]) {
        let rows = self.images.image(index).chunks_exact(SCENE_SIDE).skip(at[1]);
        for (out, row) in out.chunks_exact_mut(SIDE).zip(rows) {
            out.copy_from_slice(&row[at[0]..at[0] + SIDE]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Mnist;

    #[test]
    fn a_set_is_the_seeds_own_and_holds_its_digits_where_it_says() -> Result<()> {
        let digits = Mnist::embedded("asked for")?.train;
        let scenes = Scenes::new(&digits, Scenery::Tc, 3, 0)?;
        assert_eq!(scenes.images, Scenes::new(&digits, Scenery::Tc, 3, 0)?.images);
        assert_ne!(scenes.images, Scenes::new(&digits, Scenery::Tc, 3, 1)?.images);
        let plain = Scenes::new(&digits, Scenery::T, 3, 0)?;
        let ink = |pixels: &[u8]| pixels.iter().map(|&p| u64::from(p)).sum::<u64>();
        let mut seen = std::collections::HashSet::new();
        for i in 0..SCENES {
            let mut window = vec![0; SIDE * SIDE];
            plain.window(i, plain.places[i], &mut window);
            assert_eq!(ink(&window), ink(plain.images.image(i)), "all of the digit is in its frame");
            let index = (0..digits.len()).find(|&index| digits.image(index) == window);
            assert_eq!(index.map(|index| digits.labels[index]), Some(3));
            assert!(seen.insert(index), "a hundred different digits");
        }
        // In clutter the digit is whole, and there is more than it.
        let (mut frame, mut more) = (vec![0; SIDE * SIDE], 0);
        for i in 0..SCENES {
            scenes.window(i, scenes.places[i], &mut frame);
            let whole = (0..digits.len()).any(|index| {
                let digit = digits.image(index);
                digits.labels[index] == 3 && frame.iter().zip(digit).all(|(seen, ink)| seen >= ink)
            });
            assert!(whole, "scene {i}");
            more += usize::from(ink(scenes.images.image(i)) > ink(&frame));
        }
        assert!(more > 90, "clutter beside the digit in {more} of {SCENES} scenes");
        Ok(())
    }

    #[test]
    fn too_few_digits_are_an_error() -> Result<()> {
        let digits = Mnist::embedded("asked for")?.train.range(0..200)?;
        let error = Scenes::new(&digits, Scenery::T, 0, 0).unwrap_err().to_string();
        assert!(error.starts_with("co-localisation needs 100 images of the digit 0, got "), "{error}");
        assert_eq!("tc".parse::<Scenery>()?, Scenery::Tc);
        assert_eq!("R".parse::<Scenery>().unwrap_err().to_string(), "unknown data set `R`; there are T, TC");
        Ok(())
    }
}
