//! A small API server: it lists and watches pods as kube-apiserver does, and can be away for a time.
//!
//! Answers of a watch are chunks of JSON lines. A watch from a version that is forgotten ends with the status 410. Bookmarks say how far
//! a watch has come. What the agent asks for must be what its documentation says: the pods of its own node.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// How often a watch without changes gets a bookmark.
const BOOKMARK_INTERVAL: Duration = Duration::from_millis(500);

/// Serves until it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    pods: BTreeMap<String, Value>,
    /// What has happened, by version.
    history: Vec<(u64, &'static str, Value)>,
    /// Versions before this one are forgotten.
    oldest: u64,
    /// Connections of former starts are closed.
    start: u64,
    is_up: bool,
    /// The paths and queries of all requests.
    requests: Vec<String>,
}

impl ApiServer {
    /// Starts on a port of loopback, without pods.
    pub fn start() -> Result<Self> {
        Self::start_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?)
    }

    /// Starts without pods. The listener may be in another network. From there it cannot be resumed.
    pub fn start_on(listener: TcpListener) -> Result<Self> {
        let address = listener.local_addr()?;
        let server = Self { shared: Arc::default(), address };
        server.serve(listener);
        Ok(server)
    }

    fn serve(&self, listener: TcpListener) {
        let start = {
            let mut state = self.shared.state();
            state.start += 1;
            state.is_up = true;
            state.start
        };
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if !shared.state().serves(start) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&shared);
                // A client that goes away is no error.
                std::thread::spawn(move || drop(shared.connection(stream, start)));
            }
        });
    }

    /// Writes a KUBECONFIG for it, and returns its path.
    pub fn kubeconfig(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        fs::write(&path, config.to_string()).context("cannot write the KUBECONFIG")?;
        Ok(path)
    }

    /// Adds or changes a pod.
    pub fn apply(&self, pod: Value) {
        self.shared.change(pod, false);
    }

    /// Deletes a pod.
    pub fn delete(&self, pod: Value) {
        self.shared.change(pod, true);
    }

    /// Forgets what has happened so far. A watch from an earlier version is refused.
    pub fn forget_history(&self) {
        let mut state = self.shared.state();
        state.history.clear();
        state.oldest = state.version;
    }

    /// Goes away: connections are closed, and new ones are refused.
    pub fn stop(&self) {
        self.shared.state().is_up = false;
        self.shared.changed.notify_all();
        // Lets the thread that accepts see it, which closes the port.
        drop(TcpStream::connect(self.address));
    }

    /// Comes back on the same port.
    pub fn resume(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let listener = loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => break listener,
                Err(error) if Instant::now() > deadline => return Err(error).context("cannot listen again"),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        self.serve(listener);
        Ok(())
    }

    /// The paths and queries of all requests.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, mut pod: Value, is_deleted: bool) {
        let mut state = self.state();
        state.version += 1;
        pod["metadata"]["resourceVersion"] = state.version.to_string().into();
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let kind = match (is_deleted, state.pods.contains_key(&uid)) {
            (true, _) => "DELETED",
            (false, true) => "MODIFIED",
            (false, false) => "ADDED",
        };
        if is_deleted {
            state.pods.remove(&uid);
        } else {
            state.pods.insert(uid, pod.clone());
        }
        let version = state.version;
        state.history.push((version, kind, pod));
        self.changed.notify_all();
    }

    /// Answers the requests of one connection.
    fn connection(&self, mut stream: TcpStream, start: u64) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let target = line.split(' ').nth(1).context("a request line")?.to_owned();
            let mut header = String::new();
            while reader.read_line(&mut header)? > 2 {
                header.clear();
            }
            if !self.state().serves(start) {
                return Ok(());
            }
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let query: BTreeMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
            self.state().requests.push(target.clone());
            let node = query
                .get("fieldSelector")
                .and_then(|selector| selector.replace("%3D", "=").strip_prefix("spec.nodeName=").map(str::to_owned));
            match node {
                Some(node) if path == "/api/v1/pods" => {
                    if query.get("watch").is_some_and(|watch| *watch == "true" || *watch == "1") {
                        let version = query.get("resourceVersion").and_then(|version| version.parse().ok());
                        return self.watch(&mut stream, start, &node, version.unwrap_or(0));
                    }
                    let state = self.state();
                    let items: Vec<_> = state.pods.values().filter(|pod| is_on(pod, &node)).cloned().collect();
                    let version = state.version.to_string();
                    drop(state);
                    let metadata = json!({"resourceVersion": version});
                    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items});
                    respond(&mut stream, "200 OK", &list)?;
                }
                _ => {
                    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
                                        "reason": "Forbidden", "message": "only the pods of a node may be listed"});
                    respond(&mut stream, "403 Forbidden", &status)?;
                }
            }
        }
    }

    /// Sends changes after a version, until the server goes away.
    fn watch(&self, stream: &mut TcpStream, start: u64, node: &str, mut version: u64) -> Result<()> {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")?;
        loop {
            let mut state = self.state();
            if !state.serves(start) {
                return Ok(());
            }
            if version < state.oldest {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
                                    "reason": "Expired", "message": "too old resource version"});
                chunk(stream, &json!({"type": "ERROR", "object": status}))?;
                stream.write_all(b"0\r\n\r\n")?;
                return Ok(());
            }
            let news: Vec<_> = state.history.iter().filter(|(at, _, _)| *at > version).cloned().collect();
            if news.is_empty() {
                let (after, waited) =
                    self.changed.wait_timeout(state, BOOKMARK_INTERVAL).unwrap_or_else(PoisonError::into_inner);
                state = after;
                let bookmark = waited.timed_out().then(|| state.version.to_string());
                drop(state);
                if let Some(version) = bookmark {
                    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": version}});
                    chunk(stream, &json!({"type": "BOOKMARK", "object": pod}))?;
                }
                continue;
            }
            drop(state);
            for (at, kind, pod) in news {
                version = at;
                if is_on(&pod, node) {
                    chunk(stream, &json!({"type": kind, "object": pod}))?;
                }
            }
        }
    }
}

impl State {
    fn serves(&self, start: u64) -> bool {
        self.is_up && self.start == start
    }
}

fn is_on(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"] == node
}

fn respond(stream: &mut TcpStream, status: &str, body: &Value) -> Result<()> {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes())?;
    Ok(())
}

/// One line of a watch, in two chunks: where a chunk ends means nothing.
fn chunk(stream: &mut TcpStream, event: &Value) -> Result<()> {
    let line = format!("{event}\n");
    let (first, second) = line.as_bytes().split_at(line.len() / 2);
    for part in [first, second] {
        stream.write_all(format!("{:x}\r\n", part.len()).as_bytes())?;
        stream.write_all(part)?;
        stream.write_all(b"\r\n")?;
    }
    Ok(())
}
