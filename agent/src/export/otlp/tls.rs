//! Reads the PEM files of the TLS settings.

use std::path::Path;

use super::answer::with_causes;
use crate::export::error::StartError;

/// Reads a PEM file of the TLS settings. One without `label` is the wrong file, and no later step would report that.
pub(super) fn read_pem(path: &Path, label: &str) -> Result<Vec<u8>, StartError> {
    let pem =
        std::fs::read(path).map_err(|error| StartError::Tls(format!("cannot read {}: {error}", path.display())))?;
    let text = String::from_utf8_lossy(&pem);
    if text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(label)) {
        return Ok(pem);
    }
    Err(StartError::Tls(format!("{} has no {label} in PEM form", path.display())))
}

pub(super) const CERTIFICATE: &str = "CERTIFICATE";
/// Also part of the older labels `EC PRIVATE KEY` and `RSA PRIVATE KEY`.
pub(super) const PRIVATE_KEY: &str = "PRIVATE KEY";

/// TLS that cannot be set up although its files can be read: the system's CAs are missing, or the key does not belong to
/// the certificate.
pub(super) fn setup_error(error: impl std::error::Error) -> StartError {
    StartError::Tls(format!(
        "{} (install the package ca-certificates for the system's CAs, or name others with OTEL_EXPORTER_OTLP_CERTIFICATE)",
        with_causes(&error)
    ))
}
