//! Playlists, segments and recordings over HTTP, as files of the shelf. Whoever knows a room's name
//! may watch it, as he may join it; a recording is had by its id, which nobody guesses.

use std::path::PathBuf;

use ironcast_api::Id;
use salvo::fs::NamedFile;
use salvo::http::{HeaderValue, StatusCode, header};
use salvo::{Request, Response};
use uuid::Uuid;

use super::shelf::{self, Shelf};

/// Where they live.
pub const WATCHED: &str = "/hls/";
pub const RECORDED: &str = "/recordings/";

/// A file that may be handed out.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    kind: &'static str,
    caching: &'static str,
}

/// Playlists change.
const NO_CACHE: &str = "no-cache";

/// A segment's name is never used for another.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// A recording is for who has its link.
const PRIVATE: &str = "private, no-cache";

/// One name, of letters, digits and `-`, with one ending.
fn is_plain(name: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    name.split_once('.').is_some_and(|(stem, ending)| {
        !stem.is_empty() && stem.bytes().all(is_sign) && ending.bytes().all(is_sign)
    })
}

/// The only sign of an id that some programs write in hexadecimal.
fn decoded(part: &str) -> String {
    part.replace("%3A", ":").replace("%3a", ":")
}

fn find(shelf: &Shelf, path: &str) -> Option<Found> {
    if let Some(rest) = path.strip_prefix(WATCHED) {
        let (room, name) = rest.split_once('/').filter(|(_, name)| is_plain(name))?;
        let room = Id::new(decoded(room)).ok()?;
        let (kind, caching) = match name.rsplit('.').next()? {
            "m3u8" => ("application/vnd.apple.mpegurl", NO_CACHE),
            "ts" => ("video/mp2t", FOR_EVER),
            _ => return None,
        };
        return Some(Found { path: shelf.of_room(&room).join(name), kind, caching });
    }
    let (id, name) = path.strip_prefix(RECORDED)?.split_once('/')?;
    let id = Uuid::try_parse(id).ok().filter(|_| is_plain(name))?;
    let kind = match name.rsplit('.').next()? {
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mkv" => "video/x-matroska",
        "json" if name == shelf::ABOUT => "application/json",
        _ => return None,
    };
    Some(Found { path: shelf.of_recording(&id).join(name), kind, caching: PRIVATE })
}

/// The room that a path shows; a recording is had by its link alone.
pub fn room_of(path: &str) -> Option<Id> {
    let (room, _) = path.strip_prefix(WATCHED)?.split_once('/')?;
    Id::new(decoded(room)).ok()
}

/// Whether a path is one of ours.
pub fn is_ours(path: &str) -> bool {
    path.starts_with(WATCHED) || path.starts_with(RECORDED)
}

/// Hands out what is there.
pub async fn serve(shelf: &Shelf, path: &str, request: &Request, response: &mut Response) {
    let Some(found) = find(shelf, path) else { return missing(response) };
    let Ok(kind) = found.kind.parse() else { return missing(response) };
    let builder = NamedFile::builder(&found.path).content_type(kind);
    let Ok(mut file) = builder.build().await else { return missing(response) };
    file.disable_content_disposition();
    file.send(request.headers(), response).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(found.caching));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if path.starts_with(WATCHED) {
        // Players of other pages may show it.
        let anybody = HeaderValue::from_static("*");
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anybody);
    }
}

fn missing(response: &mut Response) {
    response.status_code = Some(StatusCode::NOT_FOUND);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response.body("There is nothing here.\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_broadcast_writes_is_handed_out() {
        let shelf = Shelf::new("/shelf".into());
        let path = |path: &str| find(&shelf, path).map(|found| found.path.display().to_string());
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(path("/hls/a/index.m3u8"), is("/shelf/hls/r-a/index.m3u8"));
        assert_eq!(path("/hls/a%3Ab/0a-00001.ts"), is("/shelf/hls/r-a:b/0a-00001.ts"));
        let id = "0b6f0d2e-7d0b-4b43-9d0f-0f8e6c3d8a11";
        let recording = format!("/recordings/{id}/recording.mp4");
        assert_eq!(path(&recording), Some(format!("/shelf{recording}")));
        assert_eq!(path("/hls/../index.m3u8"), is("/shelf/hls/r-../index.m3u8"), "a name like any");
        for bad in [
            "/hls/a/../../x.ts",
            "/hls/a/..%2fx.ts",
            "/hls/a/state.json",
            "/hls/a/input.sdp",
            "/hls/a/.ts",
            "/hls/a/b/c.ts",
            "/hls/a",
            "/hls//index.m3u8",
            "/hls/a b/index.m3u8",
            "/recordings/../x.mp4",
            "/recordings/guess/recording.mp4",
            &format!("/recordings/{id}/../x.mp4"),
            &format!("/recordings/{id}/state.json"),
            &format!("/recordings/{id}/parts.txt"),
        ] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
