//! What a client of the protocols below the events may count on, at the wire. The suites of those
//! protocols ask for much more: `tests/socketio`.

use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use ironcast_signaling::echo::{self, Echo};
use ironcast_signaling::server;
use ironcast_signaling::settings::Settings;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::fake_media::FakeMedia;
use crate::pages::http;
use crate::stage::{Stage, quick};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(port: u16, path: &str) -> Socket {
    let url = format!("ws://127.0.0.1:{port}/{path}/?EIO=4&transport=websocket");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert!(next(&mut socket).await.to_text().unwrap().starts_with("0{"));
    socket
}

async fn next(socket: &mut Socket) -> Message {
    let next = tokio::time::timeout(Duration::from_secs(10), socket.next()).await;
    next.expect("something is said").expect("the socket is open").unwrap()
}

/// The next that is no ping.
async fn said(socket: &mut Socket) -> Message {
    loop {
        let message = next(socket).await;
        if message != Message::text("2") {
            return message;
        }
        socket.send(Message::text("3")).await.unwrap();
    }
}

async fn send(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text.to_owned())).await.unwrap();
}

async fn echo() -> u16 {
    let settings = echo::settings();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let no_tls = None::<futures::stream::Pending<_>>;
    let serving = server::serve_any(Echo::new(&settings), &settings, listener, no_tls).await;
    serving.unwrap().address.port()
}

#[tokio::test]
async fn the_first_ping_comes_after_the_interval() {
    let interval = Duration::from_millis(300);
    let settings = Settings { ping_interval: interval, ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let began = Instant::now();
    let mut socket = connect(stage.port, "socket.io").await;
    assert_eq!(next(&mut socket).await, Message::text("2"));
    assert!(began.elapsed() >= interval, "after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_session_is_upgraded_once() {
    let stage = Stage::new().await;
    let polling = "/socket.io/?EIO=4&transport=polling";
    let (_, opened) = http(stage.port, "GET", polling, "").await;
    let opened: serde_json::Value = serde_json::from_str(&opened[1..]).unwrap();
    let sid = opened["sid"].as_str().unwrap();
    let url =
        format!("ws://127.0.0.1:{}/socket.io/?EIO=4&transport=websocket&sid={sid}", stage.port);
    let (mut first, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    // It is in the middle of it, and afterwards it is there: others are refused at once.
    send(&mut first, "2probe").await;
    assert_eq!(next(&mut first).await, Message::text("3probe"));
    for step in ["5", "40"] {
        let (mut second, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(5), second.next()).await;
        assert!(!matches!(ended.expect("it is closed"), Some(Ok(Message::Text(_)))));
        send(&mut first, step).await;
    }
    assert!(said(&mut first).await.to_text().unwrap().starts_with("40{"));
}

#[tokio::test]
async fn who_left_the_last_namespace_may_enter_one_again() {
    let stage = Stage::new().await;
    let mut socket = connect(stage.port, "socket.io").await;
    for _ in 0..2 {
        send(&mut socket, "40").await;
        assert!(said(&mut socket).await.to_text().unwrap().starts_with("40{"));
        send(&mut socket, "41").await;
    }
    send(&mut socket, "40/other").await;
    let refused = r#"44/other,{"message":"Invalid namespace"}"#;
    assert_eq!(said(&mut socket).await, Message::text(refused));
}

#[tokio::test]
async fn the_echo_says_back_all_that_an_event_carries() {
    let port = echo().await;
    let mut socket = connect(port, "socket.io").await;
    for (namespace, comma) in [("", ""), ("/custom", ",")] {
        send(&mut socket, &format!(r#"40{namespace}{comma}{{"token":"t"}}"#)).await;
        let hello = format!("40{namespace}{comma}{{");
        assert!(said(&mut socket).await.to_text().unwrap().starts_with(&hello));
        let auth = format!(r#"42{namespace}{comma}["auth",{{"token":"t"}}]"#);
        assert_eq!(said(&mut socket).await, Message::text(auth));
    }
    for arguments in ["", r#",1,"2",{"3":[true]}"#, ",[],null"] {
        send(&mut socket, &format!(r#"42["message"{arguments}]"#)).await;
        let back = format!(r#"42["message-back"{arguments}]"#);
        assert_eq!(said(&mut socket).await, Message::text(back));
    }
    let placed = r#"[{"_placeholder":true,"num":0},{"a":{"_placeholder":true,"num":1}}]"#;
    let event = placed.replacen('[', r#"["message-with-ack","#, 1);
    send(&mut socket, &format!("452-7{event}")).await;
    for binary in [vec![1, 2], vec![3]] {
        socket.send(Message::binary(binary)).await.unwrap();
    }
    assert_eq!(said(&mut socket).await, Message::text(format!("462-7{placed}")));
    assert_eq!(said(&mut socket).await, Message::binary(vec![1, 2]));
    assert_eq!(said(&mut socket).await, Message::binary(vec![3]));
}

#[tokio::test]
async fn only_the_echo_serves_bare_engine_io() {
    let port = echo().await;
    let mut socket = connect(port, "engine.io").await;
    send(&mut socket, "4hello").await;
    assert_eq!(said(&mut socket).await, Message::text("4hello"));
    socket.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(said(&mut socket).await, Message::binary(vec![1, 2]));
    assert_eq!(http(port, "GET", "/", "").await.0, 404);
    let stage = Stage::new().await;
    let path = "/engine.io/?EIO=4&transport=polling";
    assert_eq!(http(stage.port, "GET", path, "").await.0, 404);
}
