//! Appends requests to a file as OTLP JSON, one `ExportTraceServiceRequest` per line. This is the format of the Collector's
//! file exporter and receiver.

mod target;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tracing::{info, warn};

use self::target::TargetFile;
use super::batch::Batcher;
use super::error::StartError;
use super::json;
use super::settings::SpanFile;
use super::starter::{BoxedSink, SinkRow, Starter};

pub(super) const FILE: SinkRow = SinkRow {
    name: "file",
    is_listed: false,
    is_implied: |choices, _| choices.file.is_some(),
    configure: |choices, _, config| {
        config.file.clone_from(&choices.file);
        Ok(())
    },
    start,
};

fn start(starter: &mut Starter<'_>) -> Result<Option<BoxedSink>, StartError> {
    let Some(file) = starter.config.file.clone() else { return Ok(None) };
    let (batcher, sink) = starter.batcher();
    let reopen = Arc::clone(&starter.reopen_files);
    starter.threads.spawn("export-file", move || Ok(Lines::open(file, reopen)?.run(batcher)))?;
    Ok(Some(sink))
}

#[derive(Debug)]
struct Lines {
    target: TargetFile,
    /// Set when the file must be opened again.
    reopen: Arc<AtomicBool>,
    /// The last write failed. This is logged once, not for each line.
    failing: bool,
}

impl Lines {
    fn open(file: SpanFile, reopen: Arc<AtomicBool>) -> Result<Self, StartError> {
        let SpanFile { path, max_bytes } = file;
        let target = TargetFile::open(path.clone(), max_bytes).map_err(|error| StartError::File { path, error })?;
        Ok(Self { target, reopen, failing: false })
    }

    /// Writes the requests of `batcher` until it is closed and empty.
    async fn run(mut self, batcher: Arc<Batcher>) {
        while let Some((request, batch)) = batcher.next().await {
            if self.reopen.swap(false, Relaxed) {
                self.target.reopen();
            }
            let mut line = json::from_protobuf(&request);
            line.push(b'\n');
            match self.target.append(&line).await {
                Ok(()) => {
                    if std::mem::take(&mut self.failing) {
                        info!("writing spans to {} again", self.target.path().display());
                    }
                    batch.delivered(0);
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        warn!("cannot write spans to {}: {error}; spans are being lost", self.target.path().display());
                    }
                }
            }
            // The deadline is noticed here, also when there is always more to write. What is written later would be
            // counted as lost.
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use rstest::rstest;

    use super::*;
    use crate::export::account::Account;
    use crate::export::encode::encode;
    use crate::export::settings::Schedule;
    use onlooker_engine::model::counters::Counters;
    use onlooker_engine::testing as sample;

    fn lines(path: &Path) -> Lines {
        Lines::open(SpanFile { path: path.to_owned(), max_bytes: None }, Arc::default()).unwrap()
    }

    fn batcher_with_spans(sends: u64, counters: &Arc<Counters>) -> Arc<Batcher> {
        let schedule = Schedule { max_batch_size: 1, ..Schedule::default() };
        let mut account = Account::new(Arc::clone(counters));
        let batcher = Batcher::new(account.open_queue(100), schedule);
        let account = Arc::new(account);
        let service = sample::service("shop");
        for id in 0..sends {
            let ticket = account.ticket();
            batcher.put(&ticket, &sample::span(id + 1, &service));
            ticket.enter(1);
        }
        batcher.close();
        batcher
    }

    #[tokio::test]
    async fn writing_stops_at_the_deadline_although_there_is_more() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let counters = Arc::new(Counters::default());
        let lines = lines(file.path());
        tokio::select! {
            () = lines.run(batcher_with_spans(50, &counters)) => panic!("writing was not stopped"),
            () = tokio::task::yield_now() => {}
        }
        let written = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(written.lines().count() as u64, counters.spans_exported.get());
    }

    #[rstest]
    #[case::whole_line("before\n")]
    #[case::within_a_line("before")]
    #[tokio::test]
    async fn each_request_is_appended_as_a_line(#[case] before: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), before).unwrap();
        let counters = Arc::new(Counters::default());
        lines(file.path()).run(batcher_with_spans(2, &counters)).await;
        let written = std::fs::read_to_string(file.path()).unwrap();
        let mut lines = written.lines();
        assert_eq!(lines.next(), Some("before"));
        for id in [1, 2] {
            let request: ExportTraceServiceRequest = serde_json::from_str(lines.next().unwrap()).unwrap();
            assert_eq!(prost::Message::encode_to_vec(&request), encode(&[sample::span(id, &sample::service("shop"))]));
        }
        assert_eq!((lines.next(), written.ends_with('\n')), (None, true));
        assert_eq!(counters.spans_exported.get(), 2);
    }

    #[tokio::test]
    async fn spans_for_a_full_disk_are_counted_as_failed() {
        let counters = Arc::new(Counters::default());
        lines("/dev/full".as_ref()).run(batcher_with_spans(3, &counters)).await;
        assert_eq!((counters.spans_exported.get(), counters.spans_dropped_export_failed.get()), (0, 3));
    }

    #[test]
    fn the_error_names_a_file_that_cannot_be_opened() {
        let error = Lines::open("/nowhere/spans".into(), Arc::default()).unwrap_err().to_string();
        assert!(error.starts_with("cannot open /nowhere/spans to append spans: No such file"), "{error}");
    }
}
