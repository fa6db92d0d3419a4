//! Configurations of rustls that accept every certificate.

use std::sync::Arc;

use anyhow::Result;

#[derive(Debug)]
struct Trusting;

impl rustls_021::client::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &rustls_021::Certificate,
        _: &[rustls_021::Certificate],
        _: &rustls_021::ServerName,
        _: &mut dyn Iterator<Item = &[u8]>,
        _: &[u8],
        _: std::time::SystemTime,
    ) -> Result<rustls_021::client::ServerCertVerified, rustls_021::Error> {
        Ok(rustls_021::client::ServerCertVerified::assertion())
    }
}

impl rustls_022::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &rustls_022::pki_types::CertificateDer<'_>,
        _: &[rustls_022::pki_types::CertificateDer<'_>],
        _: &rustls_022::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_022::pki_types::UnixTime,
    ) -> Result<rustls_022::client::danger::ServerCertVerified, rustls_022::Error> {
        Ok(rustls_022::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_022::pki_types::CertificateDer<'_>,
        _: &rustls_022::DigitallySignedStruct,
    ) -> Result<rustls_022::client::danger::HandshakeSignatureValid, rustls_022::Error> {
        Ok(rustls_022::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_022::pki_types::CertificateDer<'_>,
        _: &rustls_022::DigitallySignedStruct,
    ) -> Result<rustls_022::client::danger::HandshakeSignatureValid, rustls_022::Error> {
        Ok(rustls_022::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls_022::SignatureScheme> {
        use rustls_022::SignatureScheme as Scheme;
        vec![Scheme::ECDSA_NISTP256_SHA256, Scheme::ED25519, Scheme::RSA_PSS_SHA256, Scheme::RSA_PKCS1_SHA256]
    }
}

pub(crate) fn config_021() -> Arc<rustls_021::ClientConfig> {
    let config = rustls_021::ClientConfig::builder().with_safe_defaults();
    Arc::new(config.with_custom_certificate_verifier(Arc::new(Trusting)).with_no_client_auth())
}

pub(crate) fn config_022() -> Result<Arc<rustls_022::ClientConfig>> {
    let config = rustls_022::ClientConfig::builder().dangerous();
    Ok(Arc::new(config.with_custom_certificate_verifier(Arc::new(Trusting)).with_no_client_auth()))
}
