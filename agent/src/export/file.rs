//! Appends requests to a file as OTLP JSON, one `ExportTraceServiceRequest` per line. This is the format of the Collector's
//! file exporter and receiver.
//!
//! A line that could not be written completely is removed again. So a full disk costs spans, which are counted, and the
//! next line is tried. If the file ends within a line, left by an agent that was killed, a new line is begun first.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{debug, info, warn};

use super::batch::Batcher;
use super::error::StartError;
use super::json;
use super::sink::SpanSink;
use super::starter::{SinkRow, Starter};

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

fn start(starter: &mut Starter<'_>) -> Result<Option<Box<dyn SpanSink>>, StartError> {
    let Some(path) = starter.config.file.clone() else { return Ok(None) };
    let (batcher, sink) = starter.batcher();
    starter.threads.spawn("export-file", move || Ok(Lines::open(path)?.run(batcher)))?;
    Ok(Some(sink))
}

#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: File,
    /// The last write failed. This is logged once, not for each line.
    failing: bool,
    /// The file ends within a line: from before, or because a line could not be removed from a file that is not regular.
    torn: bool,
}

impl Lines {
    fn open(path: PathBuf) -> Result<Self, StartError> {
        match OpenOptions::new().append(true).create(true).open(&path) {
            Ok(file) => {
                let torn = is_torn(&file, &path).unwrap_or_else(|error| {
                    debug!("cannot read the end of {}: {error}", path.display());
                    false
                });
                Ok(Self { path, file, failing: false, torn })
            }
            Err(error) => Err(StartError::File { path, error }),
        }
    }

    /// Writes the requests of `batcher` until it is closed and empty.
    async fn run(mut self, batcher: Arc<Batcher>) {
        while let Some((request, batch)) = batcher.next().await {
            let mut line = json::from_protobuf(&request);
            line.push(b'\n');
            match self.append(&line) {
                Ok(()) => {
                    if std::mem::take(&mut self.failing) {
                        info!("writing spans to {} again", self.path.display());
                    }
                    batch.delivered(0);
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        warn!("cannot write spans to {}: {error}; spans are being lost", self.path.display());
                    }
                }
            }
            // The deadline is noticed here, also when there is always more to write. What is written later would be
            // counted as lost.
            tokio::task::yield_now().await;
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let regular = self.file.metadata()?.is_file();
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let end = if regular { self.file.seek(SeekFrom::End(0))? } else { 0 };
        let written = self.file.write_all(line);
        if written.is_err() {
            self.torn = !(regular && self.file.set_len(end).is_ok());
        }
        written
    }
}

/// Whether a regular file ends within a line. Permission to write it does not imply permission to read it.
fn is_torn(file: &File, path: &Path) -> io::Result<bool> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, metadata.len() - 1)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use rstest::rstest;

    use super::*;
    use crate::export::account::Account;
    use crate::export::encode::encode;
    use crate::export::settings::Schedule;
    use onlooker_engine::model::counters::Counters;
    use onlooker_engine::testing as sample;

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
        let lines = Lines::open(file.path().to_owned()).unwrap();
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
        Lines::open(file.path().to_owned()).unwrap().run(batcher_with_spans(2, &counters)).await;
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
        Lines::open("/dev/full".into()).unwrap().run(batcher_with_spans(3, &counters)).await;
        assert_eq!((counters.spans_exported.get(), counters.spans_dropped_export_failed.get()), (0, 3));
    }

    #[test]
    fn the_error_names_a_file_that_cannot_be_opened() {
        let error = Lines::open("/nowhere/spans".into()).unwrap_err().to_string();
        assert!(error.starts_with("cannot open /nowhere/spans to append spans: No such file"), "{error}");
    }

    #[test]
    fn an_incomplete_line_is_ended_before_the_next() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut lines = Lines::open(file.path().to_owned()).unwrap();
        lines.file.write_all(b"half").unwrap();
        lines.torn = true;
        lines.append(b"whole\n").unwrap();
        lines.append(b"next\n").unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "half\nwhole\nnext\n");
    }
}
