//! The threads of sinks: each has a runtime of its own, and all stop at one deadline.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::StartError;

/// How much longer than its time a thread is waited for. An exporter that waits can be stopped at the deadline. One that
/// is stuck in a write to a terminal cannot, and is left behind.
const GRACE: Duration = Duration::from_millis(100);

/// Starts threads.
pub(super) struct Threads {
    deadline: watch::Receiver<Option<Instant>>,
    running: mpsc::Sender<()>,
}

/// Stops the threads.
#[derive(Debug)]
pub(super) struct Stop {
    /// When the threads must stop, once that is known.
    deadline: watch::Sender<Option<Instant>>,
    /// Disconnected when the last thread has ended.
    ended: mpsc::Receiver<()>,
}

/// No threads yet, and the end that stops them.
pub(super) fn threads() -> (Threads, Stop) {
    let (deadline, passed) = watch::channel(None);
    let (running, ended) = mpsc::channel();
    (Threads { deadline: passed, running }, Stop { deadline, ended })
}

impl Threads {
    /// Makes an exporter on a thread of its own, and runs it there until it ends or the deadline has passed. The thread
    /// has its own runtime, because the caller may be in another one.
    ///
    /// # Errors
    /// When the thread cannot be started, or `make` fails.
    pub(super) fn spawn<E: Future<Output = ()>>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<E, StartError> + Send + 'static,
    ) -> Result<(), StartError> {
        let (report, reported) = mpsc::channel();
        let running = self.running.clone();
        let stopped = passed(self.deadline.clone());
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let runtime = match runtime::Builder::new_current_thread().enable_io().enable_time().build() {
                Ok(runtime) => runtime,
                Err(error) => return report.send(Err(error.into())).unwrap_or(()),
            };
            runtime.block_on(async {
                match make() {
                    Ok(exporter) => {
                        // The starter waits for the report.
                        report.send(Ok(())).unwrap_or(());
                        tokio::select! {
                            () = exporter => {}
                            () = stopped => {}
                        }
                    }
                    Err(error) => report.send(Err(error)).unwrap_or(()),
                }
            });
            // Unfinished tasks end here, and their spans are counted as lost. Only then has the exporter ended.
            drop(runtime);
            drop(running);
        })?;
        reported.recv().unwrap_or_else(|_| Err(io::Error::other("it ended at once").into()))
    }
}

impl Stop {
    /// Gives the threads `within` to end.
    pub(super) fn announce(&self, within: Duration) {
        self.deadline.send_replace(Some(Instant::now() + within));
    }

    /// Waits for the end of all threads, for `within` and a moment more.
    pub(super) fn wait(self, within: Duration) {
        let _disconnected = self.ended.recv_timeout(within + GRACE);
    }
}

/// Returns when the deadline has passed, once there is one.
async fn passed(mut deadline: watch::Receiver<Option<Instant>>) {
    let at = deadline.wait_for(Option::is_some).await.map(|at| *at);
    match at {
        Ok(Some(at)) => tokio::time::sleep_until(at).await,
        // The other end was dropped. The exporter ends when its queue is empty.
        _ => std::future::pending().await,
    }
}
