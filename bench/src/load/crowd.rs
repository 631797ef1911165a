//! A large room beside the one that is measured: everybody in it takes everybody else's camera and
//! microphone, and nobody sends. What its making and its end cost is seen in the other room's delay.
//! Called by [`super::api`] for the scenario `control`; speaks to the control API alone.

use anyhow::{Context, Result, ensure};
use ironcast_load::{AudioOptions, Control, VideoOptions, http::PlainHttp, ortc::Device};
use serde_json::{Value, json};

/// The rank of the thread that speaks for the crowd: the camera beside it goes on in time.
const NICE: i32 = 19;
/// Calls of one batch: half of what the server allows.
const BATCH_CALLS: usize = 150;

/// Makes a room with so many people; gives the number of consumers. The id of one that has ended
/// stays taken for a while. Runs on a thread of its own: its answers are megabytes of JSON.
pub(super) async fn gather(api: &PlainHttp, crowd: &str, people: usize) -> Result<usize> {
    let (api, crowd) = (api.clone(), crowd.to_owned());
    let made = tokio::task::spawn_blocking(move || {
        rustix::process::setpriority_process(None, NICE)?;
        crate::runtime()?.block_on(make(&api, &crowd, people))
    });
    made.await?
}

async fn make(api: &PlainHttp, crowd: &str, people: usize) -> Result<usize> {
    let room = api.call("POST", "/v1/routers", Some(json!({ "id": crowd }))).await?;
    let device = Device::load(&room["rtpCapabilities"])?;
    let transport = |at: usize| {
        let person = format!("crowd-{}", at / 2);
        call("/transports", json!({ "routerId": crowd, "type": "webrtc", "participantId": person }))
    };
    let transports = batches(api, (0..2 * people).map(transport).collect()).await?;
    let mut produce = Vec::new();
    for pair in transports.chunks(2) {
        let mut camera = VideoOptions::default();
        let mut microphone = AudioOptions::default();
        for (kind, parameters) in [
            ("video", device.video_parameters(&mut camera)?),
            ("audio", device.audio_parameters(&mut microphone)?),
        ] {
            let body = json!({ "transportId": pair[0], "kind": kind, "rtpParameters": parameters });
            produce.push(call("/producers", body));
        }
    }
    let producers = batches(api, produce).await?;
    let capabilities = device.rtp_capabilities();
    let mut consume = Vec::new();
    for viewer in 0..people {
        for other in (0..people).filter(|&other| other != viewer) {
            for producer in &producers[2 * other..2 * other + 2] {
                consume.push(call(
                    "/consumers",
                    json!({
                        "transportId": transports[2 * viewer + 1],
                        "producerId": producer,
                        "rtpCapabilities": capabilities,
                    }),
                ));
            }
        }
    }
    Ok(batches(api, consume).await?.len())
}

/// Ends it; returns when the server has answered.
pub(super) async fn end(api: &PlainHttp, crowd: &str) -> Result<()> {
    api.call("DELETE", &format!("/v1/routers/{crowd}"), None).await?;
    Ok(())
}

fn call(path: &str, body: Value) -> Value {
    json!({ "method": "POST", "path": path, "body": body })
}

/// The ids of what the calls made, in order.
async fn batches(api: &PlainHttp, calls: Vec<Value>) -> Result<Vec<String>> {
    let mut ids = Vec::with_capacity(calls.len());
    for some in calls.chunks(BATCH_CALLS) {
        let body = json!({ "calls": some });
        let answer = api.call("POST", "/v1/batch", Some(body)).await?;
        let answers = answer["answers"].as_array().context("a batch without answers")?;
        for one in answers {
            ensure!(one["status"] == 201, "a call of a batch failed: {one}");
            ids.push(one["body"]["id"].as_str().context("an answer without id")?.to_owned());
        }
        ensure!(answers.len() == some.len(), "a batch with {} answers", answers.len());
    }
    Ok(ids)
}
