//! Appends requests to a file as OTLP JSON, one `ExportTraceServiceRequest` per line, as the Collector's file exporter
//! writes and its receiver reads them.
//!
//! A line that could not be written whole is taken back. A full disk costs counted spans; the next line is tried again.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};

use super::batch::Batcher;
use super::{StartError, json};

#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    /// The last write failed; said once, not for each.
    failing: bool,
    /// Half a line stands at the end, and could not be taken back: the file is not a regular one.
    torn: bool,
}

impl Lines {
    pub(super) fn open(path: PathBuf) -> Result<Self, StartError> {
        match OpenOptions::new().append(true).create(true).open(&path) {
            Ok(file) => Ok(Self { path, file, failing: false, torn: false }),
            Err(error) => Err(StartError::File { path, error }),
        }
    }

    /// Writes what `batcher` gives until it is closed and empty.
    pub(super) async fn run(mut self, batcher: Arc<Batcher>) {
        while let Some(mut batch) = batcher.next().await {
            let mut line = json::from_protobuf(&batch.request());
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
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let regular = self.file.metadata()?.is_file();
        let end = if regular { self.file.seek(SeekFrom::End(0))? } else { 0 };
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let written = self.file.write_all(line);
        if written.is_err() {
            self.torn = !(regular && self.file.set_len(end).is_ok());
        }
        written
    }
}
