//! The sets of a sweep: photographs and creatures, each loaded once.

use super::Setting;
use crate::data::birds::Birds;
use crate::data::{DataSource, Source};
use anyhow::Result;
use std::rc::Rc;

/// Birds with their checksums.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) birds: Birds,
    pub(super) train_identity: String,
    pub(super) test_identity: String,
}

impl Images {
    pub(super) fn new(birds: Birds) -> Result<Self> {
        crate::say!(
            "reading {} pictures to train on and {} to test on, for their checksums",
            birds.train.len(),
            birds.test.len()
        );
        Ok(Self { train_identity: birds.train.identity()?, test_identity: birds.test.identity()?, birds })
    }

    fn are_synthetic(&self) -> bool {
        matches!(self.birds.source, DataSource::Synthetic { .. })
    }
}

/// The images of a sweep, each set loaded where the first setting asks for it.
pub(super) struct Stock<L> {
    source: Source,
    load: L,
    photographs: Option<Rc<Images>>,
    creatures: Option<Rc<Images>>,
}

impl<L: Fn(Source) -> Result<Images>> Stock<L> {
    pub(super) fn new(source: Source, load: L) -> Self {
        Self { source, load, photographs: None, creatures: None }
    }

    /// A setting's images; where photographs cannot be had, the setting becomes the synthetic one.
    pub(super) fn of(&mut self, setting: Setting) -> Result<(Setting, Rc<Images>)> {
        if !setting.is_synthetic() && self.source != Source::Embedded {
            if self.photographs.is_none() {
                let images = Rc::new((self.load)(self.source)?);
                if images.are_synthetic() {
                    // What cannot be had for one setting, cannot be had for the others.
                    self.source = Source::Embedded;
                    self.creatures.get_or_insert(images);
                } else {
                    self.photographs = Some(images);
                }
            }
            if let Some(images) = &self.photographs {
                return Ok((setting, images.clone()));
            }
        }
        let images = match &self.creatures {
            Some(images) => images.clone(),
            None => self.creatures.insert(Rc::new((self.load)(Source::Embedded)?)).clone(),
        };
        Ok((Setting::Synthetic, images))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_has_its_own_images_in_any_order() -> Result<()> {
        let loads = std::cell::RefCell::new(Vec::new());
        let load = |there: bool| {
            let loads = &loads;
            move |source: Source| {
                loads.borrow_mut().push(source);
                let birds = Birds::synthetic([1, 1], "asked for", false)?;
                let photographs = DataSource::Hub { repository: "a/b".into(), commit: "c".into() };
                let real = there && source != Source::Embedded;
                Images::new(if real { Birds { source: photographs, ..birds } } else { birds })
            }
        };
        let [small, large, drawn] = Setting::ALL;
        for order in [[drawn, small, large], [small, drawn, large], [large, small, drawn]] {
            let mut stock = Stock::new(Source::Auto, load(true));
            for setting in order {
                let (of, images) = stock.of(setting)?;
                assert_eq!((of, images.are_synthetic()), (setting, setting.is_synthetic()), "{order:?}");
            }
            assert_eq!(loads.take().len(), 2, "each set once");
            let mut stock = Stock::new(Source::Auto, load(false));
            for setting in order {
                let (of, images) = stock.of(setting)?;
                assert!(of.is_synthetic() && images.are_synthetic());
            }
            let asked = loads.take();
            assert_eq!(
                asked.iter().filter(|source| **source == Source::Auto).count(),
                1,
                "the hub is asked once: {asked:?}"
            );
        }
        Ok(())
    }
}
