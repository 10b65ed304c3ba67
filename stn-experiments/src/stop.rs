//! Ctrl-C: while a network is trained it asks the loop to save and end, at any other time it ends the program.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Whether training is asked to stop.
#[derive(Debug, Default)]
pub struct Stop {
    requested: AtomicBool,
    /// A [`Phase`].
    phase: AtomicU8,
}

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Neither = 0,
    Training = 1,
    Testing = 2,
}

impl Stop {
    /// Nobody has asked.
    pub const fn new() -> Self {
        Self { requested: AtomicBool::new(false), phase: AtomicU8::new(Phase::Neither as u8) }
    }

    /// Asks training to stop. `false` where nothing is trained or it had been asked before: the program should then end at once.
    pub fn request(&self) -> bool {
        !self.requested.swap(true, Ordering::Relaxed) && self.is(Phase::Training)
    }

    /// What there is to say when the program ends at once; nothing where nothing is at stake.
    pub fn farewell(&self) -> Option<&'static str> {
        self.is(Phase::Testing)
            .then_some("ended during the test: the run is trained to its end, and the same command tests it")
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    /// Whether training was asked to stop.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// Says that a network is trained until the guard is dropped.
    pub(crate) fn training(&self) -> Busy<'_> {
        self.busy(Phase::Training)
    }

    /// Says that a trained network is tested until the guard is dropped.
    pub(crate) fn testing(&self) -> Busy<'_> {
        self.busy(Phase::Testing)
    }

    fn busy(&self, phase: Phase) -> Busy<'_> {
        self.phase.store(phase as u8, Ordering::Relaxed);
        Busy { stop: self }
    }
}

/// See [`Stop::training`] and [`Stop::testing`].
pub(crate) struct Busy<'a> {
    stop: &'a Stop,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.stop.phase.store(Phase::Neither as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_request_during_training_waits() {
        let stop = Stop::new();
        assert!(!stop.request(), "nothing is trained");
        let stop = Stop::new();
        let training = stop.training();
        assert!(stop.request() && !stop.request() && stop.requested());
        drop(training);
        assert!(!Stop::new().requested());
    }

    #[test]
    fn a_test_that_is_broken_off_says_what_is_left() {
        let stop = Stop::new();
        assert_eq!(stop.farewell(), None);
        let testing = stop.testing();
        assert!(!stop.request() && stop.farewell().is_some_and(|words| words.contains("the same command tests it")));
        drop(testing);
        assert_eq!(stop.farewell(), None);
    }
}
