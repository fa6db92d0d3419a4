//! The kinds of calls, by their content type.

/// A way to send calls in HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    Grpc,
    GrpcWeb,
    /// gRPC-Web in base64.
    GrpcWebText,
    ConnectUnary,
    ConnectStreaming,
}

impl Flavor {
    /// The flavor of a content type. `is_connect`: the request names Connect's version, as its unary calls do.
    pub(crate) fn of(content_type: &[u8], is_connect: bool) -> Option<Self> {
        const PREFIXES: [(&[u8], Flavor); 4] = [
            (b"application/grpc-web-text", Flavor::GrpcWebText),
            (b"application/grpc-web", Flavor::GrpcWeb),
            (b"application/grpc", Flavor::Grpc),
            (b"application/connect", Flavor::ConnectStreaming),
        ];
        // Most content types are none of these by one letter.
        if !matches!(content_type.get(b"application/".len()), Some(b'g' | b'G' | b'c' | b'C')) {
            return is_connect.then_some(Self::ConnectUnary);
        }
        let ends = |rest: &[u8]| matches!(rest.first(), None | Some(b'+' | b';' | b' '));
        let (_, flavor) = PREFIXES
            .into_iter()
            .find(|(prefix, _)| {
                let (begin, rest) = content_type.split_at_checked(prefix.len()).unwrap_or_default();
                begin.eq_ignore_ascii_case(prefix) && ends(rest)
            })
            .unzip();
        flavor.or(is_connect.then_some(Self::ConnectUnary))
    }

    /// The value of `rpc.system.name`.
    pub(crate) fn system(self) -> &'static str {
        if self.is_connect() { "connectrpc" } else { "grpc" }
    }

    pub(crate) fn is_connect(self) -> bool {
        matches!(self, Self::ConnectUnary | Self::ConnectStreaming)
    }

    /// Whether each message is preceded by its length.
    pub(super) fn has_prefixes(self) -> bool {
        self != Self::ConnectUnary
    }

    /// The flag of a message that ends the response and holds its status.
    pub(super) fn end_flag(self) -> Option<u8> {
        match self {
            Self::GrpcWeb | Self::GrpcWebText => Some(0x80),
            Self::ConnectStreaming => Some(0x02),
            Self::Grpc | Self::ConnectUnary => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("application/grpc", false, Some(Flavor::Grpc))]
    #[case("application/grpc+proto", false, Some(Flavor::Grpc))]
    #[case("application/grpc;charset=utf-8", false, Some(Flavor::Grpc))]
    #[case("Application/gRPC", false, Some(Flavor::Grpc))]
    #[case("application/grpc-web+proto", false, Some(Flavor::GrpcWeb))]
    #[case("application/grpc-web-text", false, Some(Flavor::GrpcWebText))]
    #[case("application/connect+json", false, Some(Flavor::ConnectStreaming))]
    #[case("application/proto", true, Some(Flavor::ConnectUnary))]
    #[case("application/proto", false, None)]
    #[case("application/grpcx", false, None)]
    #[case("application/json", false, None)]
    fn a_content_type_shows_the_flavor(#[case] kind: &str, #[case] is_connect: bool, #[case] flavor: Option<Flavor>) {
        assert_eq!(Flavor::of(kind.as_bytes(), is_connect), flavor);
    }
}
