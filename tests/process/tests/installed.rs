//! A call through a service that runs already, joined as browsers do: by the signaling service at
//! IRONCAST_SIGNALING. `tests/package/run` takes this into the machines where it installs Ironcast.

use std::{net::SocketAddr, sync::Arc};

use ironcast_load::{
    AudioOptions, Participant, VideoOptions,
    call::{ConsumeOptions, JoinOptions, Subscribed},
};
use ironcast_process_tests::{LIMIT, Member};

async fn join(address: SocketAddr, room: &str, name: &str) -> (Arc<Member>, Participant<Member>) {
    let member = Arc::new(Member::join(address, room, name).await);
    match Participant::join(&member, room, name, &JoinOptions::default()).await {
        Ok(participant) => (member, participant),
        Err(error) => panic!("{name} cannot join: {error}"),
    }
}

/// Waits for packets of a track that were whole.
async fn sees(one: &Participant<Member>, track: &Subscribed, packets: u64) {
    let came = one.receive.session.wait_for(track.ssrc, LIMIT, |stats| stats.verified >= packets);
    let stats = came.await.unwrap_or_else(|stats| panic!("only {} packets", stats.verified));
    assert_eq!((stats.corrupt, stats.foreign), (0, 0));
}

#[tokio::test]
async fn two_people_see_and_hear_each_other() {
    let address = std::env::var("IRONCAST_SIGNALING").expect("IRONCAST_SIGNALING names a service");
    let address = address.parse().expect("an address and a port");
    let room = format!("call-{}", std::process::id());
    let (_alice, alice) = join(address, &room, "alice").await;
    let (_bob, bob) = join(address, &room, "bob").await;
    for (one, other) in [(&alice, &bob), (&bob, &alice)] {
        let camera = one.publish_video(VideoOptions::single(300_000)).await.expect("a camera");
        let voice = one.publish_audio(AudioOptions::default()).await.expect("a microphone");
        for track in [camera, voice] {
            let seen = other.consume(&track.id, &ConsumeOptions::default()).await;
            sees(other, &seen.expect("consumed"), 30).await;
        }
    }
}
