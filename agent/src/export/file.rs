//! Appends requests to a file as OTLP JSON, one `ExportTraceServiceRequest` per line, as the Collector's file exporter
//! writes and its receiver reads them.
//!
//! A line that could not be written whole is taken back. A full disk costs counted spans; the next line is tried again. Where
//! half a line is found, left by an agent that was killed, the first begins behind it.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{debug, info, warn};

use super::batch::Batcher;
use super::{StartError, json};

#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    /// The last write failed; said once, not for each.
    failing: bool,
    /// Half a line stands at the end: it was there before, or could not be taken back, where the file is not a regular one.
    torn: bool,
}

impl Lines {
    pub(super) fn open(path: PathBuf) -> Result<Self, StartError> {
        match OpenOptions::new().append(true).create(true).open(&path) {
            Ok(file) => {
                let torn = is_torn(&file, &path).unwrap_or_else(|error| {
                    debug!("cannot see how {} ends: {error}", path.display());
                    false
                });
                Ok(Self { path, file, failing: false, torn })
            }
            Err(error) => Err(StartError::File { path, error }),
        }
    }

    /// Writes what `batcher` gives until it is closed and empty.
    pub(super) async fn run(mut self, batcher: Arc<Batcher>) {
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
            // Where there is always more to write, the end of the time for it is noticed here: what is written after that would
            // be told to be lost.
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

/// Whether a file that is a regular one ends within a line. That it may be written to doesn't mean that it may be read.
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
    use crate::export::account::{Account, Lane};
    use crate::export::batch::Schedule;
    use crate::export::encode::encode;
    use onlooker_engine::model::counters::Counters;
    use onlooker_engine::testing as sample;

    fn batcher_with_spans(sends: u64, counters: &Arc<Counters>) -> Arc<Batcher> {
        let schedule = Schedule { max_batch_size: 1, ..Schedule::default() };
        let batcher = Batcher::new(Lane::new(0, 100), schedule);
        let account = Account::open(Arc::clone(counters));
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
    async fn it_can_be_stopped_where_there_is_always_more_to_write() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let counters = Arc::new(Counters::default());
        let lines = Lines::open(file.path().to_owned()).unwrap();
        tokio::select! {
            () = lines.run(batcher_with_spans(50, &counters)) => panic!("it was not stopped"),
            () = tokio::task::yield_now() => {}
        }
        let written = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(written.lines().count() as u64, counters.spans_exported.get());
    }

    #[rstest]
    #[case::whole_line("before\n")]
    #[case::half_a_line("before")]
    #[tokio::test]
    async fn each_request_is_a_line_behind_what_is_there(#[case] before: &str) {
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
    async fn a_full_disk_costs_counted_spans() {
        let counters = Arc::new(Counters::default());
        Lines::open("/dev/full".into()).unwrap().run(batcher_with_spans(3, &counters)).await;
        assert_eq!((counters.spans_exported.get(), counters.spans_dropped_export_failed.get()), (0, 3));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = Lines::open("/nowhere/spans".into()).unwrap_err().to_string();
        assert!(error.starts_with("cannot open /nowhere/spans to append spans: No such file"), "{error}");
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut lines = Lines::open(file.path().to_owned()).unwrap();
        lines.file.write_all(b"half").unwrap();
        lines.torn = true;
        lines.append(b"whole\n").unwrap();
        lines.append(b"next\n").unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "half\nwhole\nnext\n");
    }
}
