//! Ctrl-C: while a network is trained it asks the loop to save and end, at any other time it ends the program.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether training is asked to stop.
#[derive(Debug, Default)]
pub struct Stop {
    requested: AtomicBool,
    training: AtomicBool,
}

impl Stop {
    /// Nobody has asked.
    pub const fn new() -> Self {
        Self { requested: AtomicBool::new(false), training: AtomicBool::new(false) }
    }

    /// Asks training to stop. `false` where nothing is trained or it had been asked before: the program should then end at once.
    pub fn request(&self) -> bool {
        !self.requested.swap(true, Ordering::Relaxed) && self.training.load(Ordering::Relaxed)
    }

    /// Whether training was asked to stop.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// Says that a network is trained until the guard is dropped.
    pub(crate) fn training(&self) -> Training<'_> {
        self.training.store(true, Ordering::Relaxed);
        Training { stop: self }
    }
}

/// See [`Stop::training`].
pub(crate) struct Training<'a> {
    stop: &'a Stop,
}

impl Drop for Training<'_> {
    fn drop(&mut self) {
        self.stop.training.store(false, Ordering::Relaxed);
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
}
