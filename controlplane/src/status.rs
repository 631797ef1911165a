//! The status page: three files that ask the API like every other caller. The files hold nothing of
//! this host, so everybody may have them; what they show is told to who may read.

use salvo::http::Method;

/// A file of the page.
#[derive(Debug)]
pub struct File {
    pub media_type: &'static str,
    pub text: &'static str,
}

/// The page may load its own two files, ask this server, and nothing else.
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
];

/// The file at a path, if there is one.
#[must_use]
pub fn file(method: &Method, path: &str) -> Option<&'static File> {
    let is_read = method == Method::GET || method == Method::HEAD;
    let found = FILES.iter().find(|(at, _)| *at == path).map(|(_, file)| file);
    found.filter(|_| is_read)
}
