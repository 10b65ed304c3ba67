//! Shows a download's progress, with a bar or where there is no terminal with a line now and then, and notices when there is none.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use indicatif::{ProgressBar, ProgressStyle};

/// A download of so many bytes has a line for each quarter of it where no terminal shows a bar.
const LARGE: u64 = 16 << 20;

/// Follows one request: says how far it is, and remembers when the last byte came and how many were announced.
pub(super) struct Watch {
    /// The file's name; none of a request that nothing is said of.
    name: Option<String>,
    bar: ProgressBar,
    /// Longest wait for the hub's first answer, then for the next byte.
    patience: [Duration; 2],
    state: Mutex<State>,
}

struct State {
    moved: Instant,
    bytes: u64,
    size: Option<u64>,
}

impl Watch {
    /// Watches the download of `name`; waits `answer` for the hub's first answer, `stall` for the next byte.
    pub(super) fn new(name: &str, answer: Duration, stall: Duration) -> Self {
        let bar = ProgressBar::no_length().with_message(name.to_string());
        let style = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self { name: Some(name.into()), bar, patience: [answer, stall], ..Self::silent(answer) }
    }

    /// Watches a request that has no bar.
    pub(super) fn silent(answer: Duration) -> Self {
        let state = State { moved: Instant::now(), bytes: 0, size: None };
        Self { name: None, bar: ProgressBar::hidden(), patience: [answer; 2], state: Mutex::new(state) }
    }

    /// The size that the hub announced, in bytes.
    pub(super) fn size(&self) -> Option<u64> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).size
    }

    /// Clears the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// How long nothing has moved, and how long that may last.
    fn idle(&self) -> (Duration, Duration) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let [answer, stall] = self.patience;
        let patience = if state.size.is_some() { stall } else { answer };
        (state.moved.elapsed(), patience)
    }
}

impl ProgressHandler for Watch {
    fn on_progress(&self, event: &ProgressEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match event {
            ProgressEvent::Download(DownloadEvent::Start { total_bytes, .. }) => {
                state.size = Some(*total_bytes);
                state.moved = Instant::now();
                self.bar.set_length(*total_bytes);
                0
            }
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                files.iter().map(|file| file.bytes_completed).sum()
            }
            // Xet counts what it fetches for the whole batch; here the batch is one file.
            ProgressEvent::Download(DownloadEvent::AggregateProgress { bytes_completed, .. }) => *bytes_completed,
            _ => state.bytes,
        };
        if bytes > state.bytes {
            if let (Some(name), Some(line)) = (&self.name, quarter(state.bytes, bytes, state.size))
                && self.bar.is_hidden()
            {
                crate::warn!("{name}: {line}");
            }
            state.bytes = bytes;
            state.moved = Instant::now();
            self.bar.set_position(bytes);
        }
    }
}

/// What to say when a large download goes from so many bytes to so many: the quarter that it has reached, if it is another.
fn quarter(before: u64, now: u64, size: Option<u64>) -> Option<String> {
    let size = size.filter(|&size| size >= LARGE)?;
    let quarters = |bytes: u64| 4 * bytes.min(size) / size;
    (quarters(now) > quarters(before)).then(|| format!("{} % of {} MB", 25 * quarters(now), size / 1_000_000))
}

/// Does blocking work, but gives up when nothing moves for longer than the watch's patience.
///
/// `hf-hub` sets no timeouts, so where packets vanish a request would hang for minutes. The work goes on in a
/// thread of its own and is left behind when it hangs: whatever it still writes to the cache is verified when next used.
pub(super) fn within<T: Send + 'static>(watch: &Watch, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("hub".into())
        .spawn(move || sender.send(work()))
        .context("cannot start a thread")?;
    loop {
        // The patience changes with the first answer, so it is asked often.
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => bail!("the request broke off"),
            Err(RecvTimeoutError::Timeout) => {
                let (idle, patience) = watch.idle();
                ensure!(idle < patience, "nothing came from the hub for {patience:.1?}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_downloads_have_a_line_for_each_quarter() {
        let size = Some(40_000_000);
        assert_eq!(quarter(0, 9_999_999, size), None);
        assert_eq!(quarter(9_999_999, 10_000_000, size).as_deref(), Some("25 % of 40 MB"));
        assert_eq!(quarter(10_000_000, 40_000_000, size).as_deref(), Some("100 % of 40 MB"));
        assert_eq!((quarter(0, 1_000, Some(1_000)), quarter(0, 1 << 30, None)), (None, None));
    }
}
