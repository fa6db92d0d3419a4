//! Names of images: `registry:port/path:tag@digest`.

/// The parts of an image's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Image<'a> {
    /// With the registry, if it is given.
    pub(super) name: &'a str,
    pub(super) tag: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
}

impl<'a> Image<'a> {
    /// None if there is no name.
    pub(super) fn parse(reference: &'a str) -> Option<Self> {
        let (named, digest) =
            reference.split_once('@').map_or((reference, None), |(name, digest)| (name, Some(digest)));
        // A colon before the last slash belongs to the registry's port.
        let (name, tag) = match named.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (named, None),
        };
        let given = |part: &&str| !part.is_empty();
        let image = Self { name, tag: tag.filter(given), digest: digest.filter(given) };
        (!name.is_empty()).then_some(image)
    }

    /// The version of the service in it, as the semantic conventions derive it: tag and digest.
    pub(super) fn version(self) -> Option<String> {
        match (self.tag, self.digest) {
            (Some(tag), Some(digest)) => Some(format!("{tag}@{digest}")),
            (part, None) | (None, part) => part.map(str::to_owned),
        }
    }

    /// The tag. The runtime pulls `latest` if there is neither a tag nor a digest.
    pub(super) fn effective_tag(self) -> Option<&'a str> {
        self.tag.or_else(|| self.digest.is_none().then_some("latest"))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("nginx", "nginx", Some("latest"), None)]
    #[case::tagged("nginx:1.27", "nginx", Some("1.27"), Some("1.27"))]
    #[case::registry("registry.example:5000/shop/api:v2", "registry.example:5000/shop/api", Some("v2"), Some("v2"))]
    #[case::port_and_no_tag("registry.example:5000/api", "registry.example:5000/api", Some("latest"), None)]
    #[case::digest("ghcr.io/shop/api@sha256:ab12", "ghcr.io/shop/api", None, Some("sha256:ab12"))]
    #[case::both("shop/api:v2@sha256:ab12", "shop/api", Some("v2"), Some("v2@sha256:ab12"))]
    #[case::empty_tag("shop/api:", "shop/api", Some("latest"), None)]
    fn an_image_has_a_name_a_tag_and_a_version(
        #[case] reference: &str,
        #[case] name: &str,
        #[case] tag: Option<&str>,
        #[case] version: Option<&str>,
    ) {
        let image = Image::parse(reference).unwrap();
        assert_eq!((image.name, image.effective_tag(), image.version().as_deref()), (name, tag, version));
    }

    #[test]
    fn nothing_is_no_image() {
        assert_eq!([Image::parse(""), Image::parse(":tag"), Image::parse("@sha256:ab12")], [None; 3]);
    }
}
