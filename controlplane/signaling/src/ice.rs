//! Which STUN and TURN servers a browser is told of. TURN servers want a user and a password: each
//! participant gets his own, made of a secret that they share with us, which hold for a while (the
//! "REST API" of TURN servers: draft-uberti-behave-turn-rest-00, as coturn understands it).

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::store::now_ms;

/// TURN servers and what they share with us.
#[derive(Clone)]
pub struct Turn {
    /// `turn:host:port`, with or without `?transport=`.
    pub urls: Vec<String>,
    /// Makes passwords.
    pub secret: String,
    /// How long they hold.
    pub time: Duration,
}

impl fmt::Debug for Turn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Turn {{ urls: {:?}, .. }}", self.urls)
    }
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct IceServers {
    /// `stun:host:port`.
    pub stun: Vec<String>,
    /// None without a secret.
    pub turn: Option<Turn>,
}

impl IceServers {
    /// In the browser's shape, for somebody of this name.
    pub fn of(&self, name: &str) -> Value {
        self.at(name, now_ms() / 1_000)
    }

    fn at(&self, name: &str, now_s: u64) -> Value {
        let stun = self.stun.iter().map(|url| json!({ "urls": url }));
        let turn = self.turn.iter().map(|turn| {
            let user = format!("{}:{name}", now_s + turn.time.as_secs());
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, turn.secret.as_bytes());
            let password = STANDARD.encode(hmac::sign(&key, user.as_bytes()));
            json!({ "urls": turn.urls, "username": user, "credential": password })
        });
        stun.chain(turn).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{IceServers, Turn};

    #[test]
    fn credentials_are_those_of_the_shared_secret() {
        let turn = Turn {
            urls: vec!["turn:turn.example.org:3478".to_owned()],
            secret: "north".to_owned(),
            time: Duration::from_secs(3_600),
        };
        let servers = IceServers { stun: vec!["stun:a.org".to_owned()], turn: Some(turn) };
        let told = servers.at("ada", 1_000_000);
        assert_eq!(told[0], json!({ "urls": "stun:a.org" }));
        assert_eq!(told[1]["urls"], json!(["turn:turn.example.org:3478"]));
        assert_eq!(told[1]["username"], "1003600:ada");
        // printf 1003600:ada | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(told[1]["credential"], "uBp9zd3SgA3XBDMtCRVC7T4C7vg=");
        assert!(!format!("{servers:?}").contains("north"), "logs do not tell it");
        assert_eq!(IceServers::default().of("ada"), json!([]));
    }
}
