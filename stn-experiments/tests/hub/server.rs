//! A hub of a few files on loopback, healthy or faulty.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{COMMIT, SET};
use sha2::{Digest, Sha256};
use stn_experiments::data::hub::Hub;

/// What the server does to the GET of a data file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    Deny,
    Error,
    Truncate,
    Corrupt,
    Stall,
}

/// A hub of a few files on loopback.
pub struct Server {
    pub endpoint: String,
    pub state: Arc<State>,
}

pub struct State {
    pub files: HashMap<String, Vec<u8>>,
    /// Played by the next so many downloads.
    pub fault: Mutex<Option<(Fault, usize)>>,
    /// Answer as the real hub does for large files: redirect to another host.
    pub redirects: AtomicBool,
    /// Never answer anything.
    pub deaf: AtomicBool,
    pub requests: AtomicUsize,
    pub stop: AtomicBool,
}

impl Server {
    pub fn start(files: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files.into_iter().map(|(name, file)| (name.to_string(), file));
        let state = Arc::new(State {
            files: files.collect(),
            fault: Mutex::new(None),
            redirects: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let state = shared.clone();
                std::thread::spawn(move || state.serve(stream.unwrap()));
            }
        });
        Self { endpoint, state }
    }

    pub fn fault(&self, fault: Option<(Fault, usize)>) {
        *self.state.fault.lock().unwrap() = fault;
    }

    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    pub fn hub(&self, cache: &Path) -> Hub {
        Hub::new(&self.endpoint, cache)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, which then closes.
        let _ = TcpStream::connect(self.endpoint.trim_start_matches("http://"));
    }
}

impl State {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let Some(Ok(request)) = lines.next() else {
            return;
        };
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        self.requests.fetch_add(1, Ordering::SeqCst);
        while self.deaf.load(Ordering::SeqCst) && !self.stopped() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let _ = self.answer(&mut stream, method == "HEAD", path);
    }

    fn answer(&self, stream: &mut TcpStream, head: bool, path: &str) -> std::io::Result<()> {
        if path == format!("/api/datasets/{}/revision/{COMMIT}", SET.id) {
            let names = self.files.keys().map(|name| format!(r#"{{"rfilename":"{name}"}}"#));
            let names = names.collect::<Vec<_>>().join(",");
            let body = format!(r#"{{"id":"{}","sha":"{COMMIT}","siblings":[{names}]}}"#, SET.id);
            return reply(stream, "200 OK", "", body.as_bytes(), false);
        }
        let resolve = format!("/datasets/{}/resolve/{COMMIT}/", SET.id);
        let at_cdn = path.starts_with("/cdn/");
        let name = path.strip_prefix(&resolve).or(path.strip_prefix("/cdn/"));
        let Some((name, file)) = name.and_then(|name| self.files.get_key_value(name)) else {
            return reply(stream, "404 Not Found", "", b"not found", head);
        };
        let etag: String = Sha256::digest(file).iter().map(|b| format!("{b:02x}")).collect();
        let linked =
            format!("X-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {}\r\nX-Repo-Commit: {COMMIT}\r\n", file.len());
        if self.redirects.load(Ordering::SeqCst) && !at_cdn {
            let host = stream.local_addr()?;
            let headers = format!("{linked}Location: http://{host}/cdn/{name}\r\n");
            return reply(stream, "302 Found", &headers, b"", head);
        }
        // The etag of the other host is its own affair, and it knows no commits.
        let headers = match at_cdn {
            true => "ETag: \"cdn\"\r\n".to_string(),
            false => format!("ETag: \"{etag}\"\r\n{linked}"),
        };
        if head {
            return reply(stream, "200 OK", &headers, file, true);
        }
        match self.take_fault() {
            None => reply(stream, "200 OK", &headers, file, false),
            Some(Fault::Deny) => reply(stream, "403 Forbidden", "", b"denied", false),
            Some(Fault::Error) => reply(stream, "500 Internal Server Error", "", b"internal error", false),
            Some(Fault::Corrupt) => {
                let mut file = file.clone();
                let middle = file.len() / 2;
                file[middle] ^= 0xff;
                reply(stream, "200 OK", &headers, &file, false)
            }
            Some(fault) => {
                let length = file.len();
                write!(stream, "HTTP/1.1 200 OK\r\n{headers}Content-Length: {length}\r\n\r\n")?;
                stream.write_all(&file[..length / 2])?;
                while fault == Fault::Stall && !self.stopped() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            }
        }
    }

    fn take_fault(&self) -> Option<Fault> {
        let mut slot = self.fault.lock().unwrap();
        let (fault, left) = slot.take()?;
        if left > 1 {
            *slot = Some((fault, left - 1));
        }
        Some(fault)
    }
}

fn reply(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8], head: bool) -> std::io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(if head { b"" } else { body })
}
