//! Sends what waits for one receiver, one delivery after the other, each until it was taken: signed as
//! the Standard Webhooks specification says, with longer and longer pauses between attempts.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{Shared, file::Hook, http::Connection};
use crate::auth::unix_s;

/// First pause; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(500);

/// Names of the headers, as in the specification.
const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";

/// Lives until it is aborted.
pub async fn deliver(shared: Arc<Shared>, mut hook: watch::Receiver<Hook>) {
    let mut connection = Connection::default();
    loop {
        let news = shared.news.notified();
        let Some(body) = shared.next() else {
            news.await;
            continue;
        };
        // Of the delivery: all its attempts have it, so that the receiver knows a repetition.
        let id = format!("msg_{}", Uuid::new_v4().simple());
        let mut attempts = 0;
        loop {
            let to = hook.borrow_and_update().clone();
            let Err(why) = attempt(&shared, &mut connection, &to, &id, &body).await else { break };
            connection = Connection::default();
            shared.count_failure();
            let pause = pause(attempts, shared.settings.pause_max, rand::random());
            if attempts == 0 {
                tracing::warn!(webhook = %to.name, why, "a delivery failed and is tried again");
            }
            attempts += 1;
            tokio::select! {
                () = sleep(pause) => {}
                // Another address or secret may be what was missing.
                changed = hook.changed() => if changed.is_err() { return },
            }
        }
        if attempts > 0 {
            tracing::info!(webhook = %hook.borrow().name, attempts, "deliveries succeed again");
        }
        shared.delivered();
    }
}

/// Once; why not, otherwise.
async fn attempt(
    shared: &Shared,
    connection: &mut Connection,
    to: &Hook,
    id: &str,
    body: &str,
) -> Result<(), String> {
    let timestamp = unix_s();
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("user-agent", concat!("ironcast/", env!("CARGO_PKG_VERSION")).to_owned()),
        (ID, id.to_owned()),
        (TIMESTAMP, timestamp.to_string()),
        (SIGNATURE, sign(&to.secret, id, timestamp, body)),
    ];
    let limit = shared.settings.answer_within;
    let answer = connection.post(&to.endpoint, &headers, body.to_owned());
    match timeout(limit, answer).await {
        Ok(Ok(status)) if status.is_success() => Ok(()),
        Ok(Ok(status)) => Err(format!("the receiver answered {status}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the receiver did not answer within {} s", limit.as_secs())),
    }
}

/// `v1,` and the signature of `ID.TIMESTAMP.BODY` in base64.
fn sign(secret: &[u8], id: &str, timestamp: u64, body: &str) -> String {
    // A key of HMAC may have any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body.as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

/// Before the next attempt: between one and two times what is due, so that many receivers that came
/// back together are not called together. `chance` is any number.
fn pause(attempts: u32, pause_max: Duration, chance: u32) -> Duration {
    let due = PAUSE.saturating_mul(2_u32.saturating_pow(attempts)).min(pause_max / 2);
    due + due.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification() {
        // The example of the specification's own libraries.
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn pauses_grow_and_end_growing() {
        let max = Duration::from_secs(60);
        assert_eq!(pause(0, max, 0), PAUSE);
        assert_eq!(pause(1, max, u32::MAX), 4 * PAUSE);
        for attempts in [20, 200] {
            assert_eq!((pause(attempts, max, 0), pause(attempts, max, u32::MAX)), (max / 2, max));
        }
    }
}
