//! Pages for people, and the description of the API.

use std::{
    io::{self, Write},
    sync::Arc,
};

use aide::{openapi::OpenApi, redoc::Redoc, swagger::Swagger};
use axum::{
    Router,
    body::Bytes,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
            CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, LOCATION, VARY,
        },
    },
    response::{IntoResponse, Response},
    routing::get,
};
use flate2::{Compression, write::GzEncoder};
use ring::digest::{SHA256, digest};
use tokio::{sync::OnceCell, task::spawn_blocking};

const TITLE: &str = "Rate limiter";

/// The place of the description for the pages: beside them, also behind a proxy with a prefix.
const DESCRIPTION: &str = "openapi.json";

/// The policy of the pages: they load their own parts and the description, nothing from other hosts.
const SELF_CONTAINED: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src 'self' data:; font-src data:; connect-src 'self'; \
    worker-src blob:";

/// The service to which Swagger UI would send the description for a badge.
const SWAGGER_VALIDATOR: &str = "\"https://validator.swagger.io/validator\"";

/// The image that ReDoc would load for its footer.
const REDOC_LOGO: &str = "https://cdn.redoc.ly/redoc/logo-mini.svg";

/// An addition to the head of Swagger UI and ReDoc: the width of phones, and inverted colours for
/// readers who prefer dark ones, which both pages lack.
const HEAD: &str = "<head>
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<style>
@media (prefers-color-scheme: dark) {
  html { background: #fff; filter: invert(0.9) hue-rotate(180deg); }
}
</style>";

/// Returns the routes of the pages, which never change while the service runs.
pub(super) fn router<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    let swagger = Swagger::new(DESCRIPTION).with_title(TITLE).html();
    let redoc = Redoc::new(DESCRIPTION).with_title(TITLE).html();
    let description = serde_json::to_vec(document).unwrap_or_default();
    let page = |html: String| Page::new("text/html; charset=utf-8", html.into_bytes());
    let pages = [
        ("docs", page(with_head(&swagger.replace(SWAGGER_VALIDATOR, "null")))),
        ("redoc", page(with_head(&redoc.replace(REDOC_LOGO, "data:,")))),
        (DESCRIPTION, Page::new("application/json", description)),
    ];
    let landing = page(include_str!("landing.html").to_owned());
    let mut router =
        Router::new().route("/", get(async move |headers| landing.answer(headers).await));
    for (name, page) in pages {
        // A page with a slash at its end would request the description below itself.
        let target = [(LOCATION, format!("../{name}"))];
        let redirect = (StatusCode::TEMPORARY_REDIRECT, target);
        router = router
            .route(&format!("/{name}"), get(async move |headers| page.answer(headers).await))
            .route(&format!("/{name}/"), get(async || redirect));
    }
    router
}

fn with_head(html: &str) -> String {
    html.replacen("<head>", HEAD, 1)
}

/// A page, which never changes.
#[derive(Debug, Clone)]
struct Page(Arc<Content>);

#[derive(Debug)]
struct Content {
    media_type: &'static str,
    plain: Bytes,
    /// The tag of both encodings, and weak for that reason.
    tag: HeaderValue,
    /// Empty until a browser requests it: the compression takes as long as thousands of checks.
    compressed: OnceCell<Bytes>,
}

impl Page {
    fn new(media_type: &'static str, content: Vec<u8>) -> Self {
        let hash = digest(&SHA256, &content);
        let digits: String =
            hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        // Hexadecimal digits are always a header.
        let tag = HeaderValue::try_from(format!("W/\"{digits}\""))
            .unwrap_or(HeaderValue::from_static("W/\"\""));
        let plain = Bytes::from(content);
        Self(Arc::new(Content { media_type, plain, tag, compressed: OnceCell::new() }))
    }

    async fn answer(&self, request: HeaderMap) -> Response {
        let Content { media_type, plain, tag, compressed } = &*self.0;
        let caching = [
            (ETAG, tag.clone()),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (VARY, HeaderValue::from_static("accept-encoding")),
        ];
        if is_known(&request, tag) {
            return (StatusCode::NOT_MODIFIED, caching).into_response();
        }
        let headers = [(CONTENT_TYPE, *media_type), (CONTENT_SECURITY_POLICY, SELF_CONTAINED)];
        if accepts_gzip(&request) {
            let plain = plain.clone();
            let compress = async || spawn_blocking(move || compress(&plain)).await?;
            if let Ok(compressed) = compressed.get_or_try_init(compress).await {
                let encoding = [(CONTENT_ENCODING, "gzip")];
                return (headers, caching, encoding, compressed.clone()).into_response();
            }
        }
        (headers, caching, plain.clone()).into_response()
    }
}

fn compress(plain: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain)?;
    Ok(encoder.finish()?.into())
}

/// Returns true when the client has the page with this tag (RFC 9110, 13.1.2).
fn is_known(request: &HeaderMap, tag: &HeaderValue) -> bool {
    let own = tag.to_str().unwrap_or_default().trim_start_matches("W/");
    let is_own = |known: &str| known == "*" || known.trim_start_matches("W/") == own;
    elements(request, IF_NONE_MATCH).any(is_own)
}

/// Returns true when the client accepts gzip by name (RFC 9110, 12.5.3).
fn accepts_gzip(request: &HeaderMap) -> bool {
    elements(request, ACCEPT_ENCODING).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().trim_start_matches("q=");
        let refused = !weight.is_empty() && weight.trim_matches(['0', '.']).is_empty();
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// Returns the elements of a header that is a list.
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use axum::http::{HeaderMap, HeaderValue, header::ACCEPT_ENCODING};
    use flate2::read::GzDecoder;

    use super::{HEAD, accepts_gzip, compress, with_head};

    #[test]
    fn a_page_is_the_same_after_compression() {
        let page = "<p>a page</p>\n".repeat(1_000);
        let compressed = compress(page.as_bytes()).unwrap();
        assert!(compressed.len() < page.len() / 10);
        let mut read = String::new();
        GzDecoder::new(&*compressed).read_to_string(&mut read).unwrap();
        assert_eq!(read, page);
    }

    #[test]
    fn gzip_is_sent_to_clients_that_accept_it() {
        for (values, expected) in [
            (&["gzip"][..], true),
            (&["deflate, gzip"], true),
            (&["deflate", "br , Gzip ; q=0.001"], true),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000"], false),
            (&["x-gzip", "*"], false),
            (&["\u{e9}"], false),
            (&[], false),
        ] {
            let values = values.iter().map(|value| HeaderValue::from_bytes(value.as_bytes()));
            let headers = values.map(|value| (ACCEPT_ENCODING, value.unwrap()));
            assert_eq!(accepts_gzip(&headers.collect::<HeaderMap>()), expected);
        }
    }

    #[test]
    fn the_head_is_added_to_both_pages() {
        let swagger = aide::swagger::Swagger::new("").html();
        let redoc = aide::redoc::Redoc::new("").html();
        for page in [swagger, redoc] {
            assert!(with_head(&page).contains(HEAD));
        }
    }
}
