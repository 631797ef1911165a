//! The status page and the page of the API: files that ask the API like every other caller. They hold
//! nothing of this host, so everybody may have them; what they show is told to who may read.
//!
//! The page of the API is our own, made in the browser of `/openapi.json`: a bundle of others would
//! make this crate's build depend on npm, weigh megabytes, and want a weaker policy.

use salvo::http::Method;

/// A file of a page.
#[derive(Debug)]
pub struct File {
    pub media_type: &'static str,
    pub text: &'static str,
}

/// A page may load files of this server, ask it, and nothing else.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const FILES: &[(&str, File)] = &[
    (
        "/status",
        File { media_type: "text/html; charset=utf-8", text: include_str!("status/page.html") },
    ),
    (
        "/status.css",
        File { media_type: "text/css; charset=utf-8", text: include_str!("status/page.css") },
    ),
    (
        "/status.js",
        File { media_type: "text/javascript; charset=utf-8", text: include_str!("status/page.js") },
    ),
    (
        "/docs",
        File { media_type: "text/html; charset=utf-8", text: include_str!("docs/page.html") },
    ),
    (
        "/docs.css",
        File { media_type: "text/css; charset=utf-8", text: include_str!("docs/page.css") },
    ),
    (
        "/docs.js",
        File { media_type: "text/javascript; charset=utf-8", text: include_str!("docs/page.js") },
    ),
];

/// The file at a path, if there is one.
#[must_use]
pub fn file(method: &Method, path: &str) -> Option<&'static File> {
    let is_read = method == Method::GET || method == Method::HEAD;
    let found = FILES.iter().find(|(at, _)| *at == path).map(|(_, file)| file);
    found.filter(|_| is_read)
}
