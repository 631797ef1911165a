//! The smallest HTTP/1.1 client that serves the control API's plain door: one connection a request,
//! bodies by length or in chunks. Also reads the event stream. Tests and benches use it where the
//! transport of the API is not what they are about.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpStream, UnixStream},
};

use crate::call::{Control, ControlError};

const TIMEOUT: Duration = Duration::from_secs(15);

/// A server's plain door.
#[derive(Debug, Clone)]
pub struct PlainHttp {
    door: Door,
}

#[derive(Debug, Clone)]
enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
type Connection = BufReader<Box<dyn Stream>>;

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl PlainHttp {
    /// On a TCP port. Nothing is connected yet.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { door: Door::Tcp(address) }
    }

    /// On a unix socket, which also reaches into other network namespaces.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { door: Door::Unix(path.into()) }
    }

    /// One request with any body and headers.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, ControlError> {
        let exchange = async {
            let mut stream = self.open(method, path, headers, body, "close").await?;
            let (status, headers) = read_head(&mut stream).await?;
            let body = read_body(&mut stream, status, &headers).await?;
            Ok::<_, std::io::Error>(Response { status, headers, body })
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(unreachable(method, path, &error.to_string())),
            Err(_) => Err(unreachable(method, path, "no answer in time")),
        }
    }

    /// Opens the event stream, after an event if one is named.
    pub async fn events(&self, after: Option<&str>) -> Result<EventStream, ControlError> {
        let path = match after {
            Some(after) => format!("/v1/events?after={after}"),
            None => "/v1/events".to_owned(),
        };
        let failed = |reason: &str| unreachable("GET", &path, reason);
        let mut stream = self
            .open("GET", &path, &[("accept", "text/event-stream")], &[], "keep-alive")
            .await
            .map_err(|error| failed(&error.to_string()))?;
        let (status, headers) =
            read_head(&mut stream).await.map_err(|error| failed(&error.to_string()))?;
        if status != 200 {
            let body = read_body(&mut stream, status, &headers).await.unwrap_or_default();
            return Err(ControlError::Refused {
                method: "GET".to_owned(),
                path,
                status,
                problem: serde_json::from_slice(&body).unwrap_or(Value::Null),
            });
        }
        let chunked = is_chunked(&headers);
        Ok(EventStream { stream, chunked, text: String::new() })
    }

    async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        connection: &str,
    ) -> std::io::Result<Connection> {
        let host = match &self.door {
            Door::Tcp(address) => address.to_string(),
            Door::Unix(_) => "localhost".to_owned(),
        };
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: {connection}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" || method == "PATCH" || method == "PUT" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut stream: Box<dyn Stream> = match &self.door {
            Door::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Door::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        stream.write_all(head.as_bytes()).await?;
        // A server that refuses early closes while a large body is still on its way.
        let _ = stream.write_all(body).await;
        Ok(BufReader::new(stream))
    }
}

impl Control for PlainHttp {
    async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value), ControlError> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let json = [("content-type", "application/json")];
        let headers = if body.is_empty() { &[][..] } else { &json[..] };
        let response = self.send(method, path, headers, body.as_bytes()).await?;
        Ok((response.status, response.json()))
    }
}

/// One event of the control API.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `EPOCH-N`.
    pub id: String,
    /// Its type.
    pub event: String,
    /// Its data.
    pub data: Value,
}

/// An open event stream.
pub struct EventStream {
    stream: Connection,
    chunked: bool,
    text: String,
}

impl EventStream {
    /// The next event; `None` when the stream ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                match parse_event(&block) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let more = self.more().await?;
            self.text.push_str(&String::from_utf8_lossy(&more).replace('\r', ""));
        }
    }

    async fn more(&mut self) -> Option<Vec<u8>> {
        if self.chunked {
            return read_chunk(&mut self.stream).await.ok().filter(|chunk| !chunk.is_empty());
        }
        let available = self.stream.fill_buf().await.ok()?.to_vec();
        self.stream.consume(available.len());
        (!available.is_empty()).then_some(available)
    }
}

fn parse_event(block: &str) -> Option<Event> {
    let field = |name: &str| {
        block.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(':')?;
            Some(value.strip_prefix(' ').unwrap_or(value).to_owned())
        })
    };
    let data = field("data")?;
    Some(Event {
        id: field("id").unwrap_or_default(),
        event: field("event").unwrap_or_default(),
        data: serde_json::from_str(&data).unwrap_or(Value::Null),
    })
}

fn unreachable(method: &str, path: &str, reason: &str) -> ControlError {
    ControlError::Unreachable {
        method: method.to_owned(),
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

fn wrong(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned())
}

type Headers = Vec<(String, String)>;

async fn read_head(stream: &mut Connection) -> std::io::Result<(u16, Headers)> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.trim().parse().ok())
        .ok_or_else(|| wrong("no status line"))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok((status, headers))
}

fn is_chunked(headers: &[(String, String)]) -> bool {
    headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked")
}

async fn read_body(
    stream: &mut Connection,
    status: u16,
    headers: &[(String, String)],
) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if status == 204 || status == 304 {
        return Ok(body);
    }
    if is_chunked(headers) {
        loop {
            let chunk = read_chunk(stream).await?;
            if chunk.is_empty() {
                return Ok(body);
            }
            body.extend_from_slice(&chunk);
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    match length.and_then(|(_, value)| value.parse::<usize>().ok()) {
        Some(length) => {
            body.resize(length, 0);
            stream.read_exact(&mut body).await?;
        }
        None => {
            stream.read_to_end(&mut body).await?;
        }
    }
    Ok(body)
}

/// One chunk; empty at the end.
async fn read_chunk(stream: &mut Connection) -> std::io::Result<Vec<u8>> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let size = line.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(size, 16).map_err(|_| wrong("no size of a chunk"))?;
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).await?;
    chunk.truncate(size);
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_parts_and_a_comment_is_none() {
        let event = parse_event("id: a-1\nevent: router.created\ndata: {\"seq\":\"a-1\"}\n\n");
        let event = event.expect("an event");
        assert_eq!((event.id.as_str(), event.event.as_str()), ("a-1", "router.created"));
        assert_eq!(event.data["seq"], "a-1");
        assert_eq!(parse_event(": keep-alive\n\n"), None);
    }
}
