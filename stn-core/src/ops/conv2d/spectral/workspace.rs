//! Large buffers that outlive a call: fresh memory costs more, page by page, than what is computed in it.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Buffers of no use at present, of any element type.
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// A buffer and its size.
struct Kept {
    bytes: usize,
    buffer: Box<dyn Any + Send>,
}

/// As many as one call needs at a time, four, and those that each layer of a network leaves for its backward pass, one for its weights and one for each block
/// of images.
const MOST: usize = 64;

/// Bytes that are kept at most, for as long as the process lives.
const MOST_BYTES: usize = 256 << 20;

/// A buffer that the next call gets when this one is done with it.
pub(super) struct Buffer<T: Send + 'static>(Vec<T>);

impl<T: Default + Clone + Send + 'static> Buffer<T> {
    /// Of `len` elements, whatever they are.
    pub(super) fn new(len: usize) -> Self {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let capacity = |kept: &Kept| kept.buffer.downcast_ref::<Vec<T>>().map_or(0, Vec::capacity);
        // The smallest that is large enough, else the largest.
        let best = (0..kept.len()).min_by_key(|&i| {
            let capacity = capacity(&kept[i]);
            if capacity >= len { (0, capacity) } else { (1, usize::MAX - capacity) }
        });
        let buffer = best.map(|i| kept.swap_remove(i)).and_then(|kept| kept.buffer.downcast::<Vec<T>>().ok());
        drop(kept);
        let mut buffer = buffer.map(|buffer| *buffer).unwrap_or_default();
        if buffer.capacity() < len {
            buffer = vec![];
        }
        buffer.resize(len, T::default());
        Self(buffer)
    }
}

impl<T: Send + 'static> Drop for Buffer<T> {
    fn drop(&mut self) {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.0.capacity() * size_of::<T>();
        if kept.len() < MOST && bytes + kept.iter().map(|kept| kept.bytes).sum::<usize>() <= MOST_BYTES {
            kept.push(Kept { bytes, buffer: Box::new(std::mem::take(&mut self.0)) });
        }
    }
}

impl<T: Send + 'static> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Send + 'static> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}
