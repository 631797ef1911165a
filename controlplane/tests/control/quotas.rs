//! What one principal may have, and who has done what.

use ironcast_client::Client;
use serde_json::{Value, json};

use crate::{
    http,
    stage::{self, Stage, call, produce},
};

const TOKENS: &str = "alice control alice-secret\nbob control bob-secret\nops admin ops-secret\n";

async fn transport(client: &Client, id: &str, router: &str, participant: &str) -> u16 {
    let body = json!({
        "id": id, "routerId": router, "type": "webrtc", "participantId": participant,
        "rtpCapabilities": stage::chromium("rtpCapabilities"),
    });
    call(client, "POST", "/v1/transports", body).await.0
}

async fn router(client: &Client, id: &str) -> u16 {
    call(client, "POST", "/v1/routers", json!({ "id": id })).await.0
}

#[tokio::test]
async fn each_principal_has_its_own_quotas() {
    let mut stage = Stage::with_tokens_and(TOKENS, "alice-secret", |config| {
        config.limits.routers_per_principal_max = 2;
        config.limits.transports_per_principal_max = 4;
        config.limits.participants_per_principal_max = 2;
    })
    .await;
    for restarts in 0..2 {
        let (alice, bob) = (stage.client.clone(), stage.client_of("bob-secret"));
        if restarts == 0 {
            assert_eq!(router(&alice, "a1").await, 201);
            assert_eq!(router(&alice, "a2").await, 201);
            assert_eq!(router(&bob, "b1").await, 201);
            assert_eq!(transport(&alice, "t1", "a1", "x").await, 201);
            assert_eq!(transport(&alice, "t2", "a2", "y").await, 201);
        }
        // Routers.
        assert_eq!(router(&alice, "a3").await, 503);
        // Participants; those who are there already may have one more.
        assert_eq!(transport(&alice, "t3", "a1", "z").await, 503);
        assert_eq!(transport(&alice, "t3", "a1", "x").await, 201);
        assert_eq!(transport(&alice, "t4", "a2", "y").await, 201);
        // Transports.
        assert_eq!(transport(&alice, "t5", "a1", "x").await, 503);
        assert_eq!(transport(&bob, &format!("of-bob-{restarts}"), "b1", "z").await, 201);
        // A repeat takes nothing.
        assert_eq!(transport(&alice, "t1", "a1", "x").await, 200);
        for id in ["t3", "t4"] {
            stage.ok("DELETE", &format!("/v1/transports/{id}"), Value::Null).await;
        }
        // The ids that were deleted cannot be made again at once, but others can.
        stage.replace_server().await;
    }
    // What is given back can be had again.
    stage.ok("DELETE", "/v1/routers/a2", Value::Null).await;
    assert_eq!(router(&stage.client, "a4").await, 201);
    assert_eq!(transport(&stage.client, "t6", "a4", "z").await, 201);
    assert_eq!(transport(&stage.client, "t7", "a4", "zz").await, 503);
    let ops = stage.server().ops.unwrap();
    let metrics =
        http::send(http::Way::Plain, ops, &[], http::request("GET", "/metrics", "")).await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(!text.contains("ironcast_control_quota_refusals_total 0\n"), "{text}");
}

#[tokio::test]
async fn single_principals_may_have_more_or_less_than_others() {
    let stage = Stage::with_tokens_and(TOKENS, "alice-secret", |config| {
        config.limits.routers_per_principal_max = 2;
        let file = config.state_dir.join("quotas.toml");
        let text = "[[quota]]\nprincipal = \"token:alice\"\nrouters = 3\ntransports = 1\n\
                    [[quota]]\nprincipal = \"token:bob\"\nrequests_per_s = 4\n";
        std::fs::write(&file, text).unwrap();
        config.quotas = Some(file);
    })
    .await;
    let (alice, bob) = (stage.client.clone(), stage.client_of("bob-secret"));
    for (number, status) in [201, 201, 201, 503].into_iter().enumerate() {
        assert_eq!(router(&alice, &format!("a{number}")).await, status, "{number}");
    }
    assert_eq!(transport(&alice, "t0", "a0", "x").await, 201);
    assert_eq!(transport(&alice, "t1", "a0", "x").await, 503);
    // What is not said of bob is as for everybody.
    for (number, status) in [201, 201, 503].into_iter().enumerate() {
        assert_eq!(router(&bob, &format!("b{number}")).await, status, "{number}");
    }
    let calls = vec![json!({ "method": "GET", "path": "/routers/b0" }); 20];
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(call(&bob, "POST", "/v1/batch", json!({ "calls": calls })).await.0);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    let ops = stage.server().ops.unwrap();
    let metrics =
        http::send(http::Way::Plain, ops, &[], http::request("GET", "/metrics", "")).await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in [
        "ironcast_control_principal_has{principal=\"token:alice\",kind=\"router\"} 3\n",
        "ironcast_control_principal_may_have{principal=\"token:alice\",kind=\"router\"} 3\n",
        "ironcast_control_principal_has{principal=\"token:alice\",kind=\"transport\"} 1\n",
        "ironcast_control_principal_may_have{principal=\"token:bob\",kind=\"router\"} 2\n",
    ] {
        assert!(text.contains(line), "no {line} in {text}");
    }
    // Who asks in his own name is told of no other's; who asks as an admin is.
    let of = async |token: &str| {
        let mut request = http::request("GET", "/v1/metrics", "");
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
        let plain = stage.server().plain.unwrap();
        let answer = http::send(http::Way::Plain, plain, &[], request).await;
        String::from_utf8(answer.body.to_vec()).unwrap()
    };
    // Bob has had enough calls for this second.
    let (of_alice, of_ops) = (of("alice-secret").await, of("ops-secret").await);
    assert!(of_alice.contains("token:alice") && !of_alice.contains("token:bob"), "{of_alice}");
    assert!(of_ops.contains("token:alice") && of_ops.contains("token:bob"), "{of_ops}");
}

#[tokio::test]
async fn one_principal_cannot_take_all_event_streams() {
    let stage = Stage::with_tokens_and(TOKENS, "alice-secret", |config| {
        config.limits.streams_per_principal_max = 1;
    })
    .await;
    let open = async |token: &str| {
        let mut request = http::request("GET", "/v1/events", "");
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
        let plain = stage.server().plain.unwrap();
        http::open(http::Way::Plain, plain, &[], request).await.unwrap()
    };
    let of_alice = open("alice-secret").await;
    assert_eq!(of_alice.status(), 200);
    assert_eq!(open("alice-secret").await.status(), 503);
    assert_eq!(open("bob-secret").await.status(), 200);
    drop(of_alice);
    stage::eventually("the place is free again", || async {
        open("alice-secret").await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn asking_in_parallel_passes_no_quota() {
    let stage = Stage::with_tokens_and(TOKENS, "alice-secret", |config| {
        config.limits.transports_per_principal_max = 5;
        config.limits.participants_per_principal_max = 3;
    })
    .await;
    assert_eq!(router(&stage.client, "room").await, 201);
    let calls: Vec<Value> = (0..20)
        .map(|number| {
            let body = json!({
                "routerId": "room", "type": "webrtc", "participantId": format!("p-{number}"),
            });
            json!({ "method": "POST", "path": "/transports", "body": body })
        })
        .collect();
    let answers = stage.ok("POST", "/v1/batch", json!({ "calls": calls })).await;
    let made = answers["answers"].as_array().unwrap().iter().filter(|one| one["status"] == 201);
    assert_eq!(made.count(), 3);
}

#[tokio::test]
async fn who_sends_too_much_gets_nothing_new() {
    let stage = Stage::with_tokens_and(TOKENS, "alice-secret", |config| {
        config.limits.bits_per_principal_per_s_max = 1_000_000;
    })
    .await;
    let bob = stage.client_of("bob-secret");
    assert_eq!(router(&stage.client, "of-alice").await, 201);
    assert_eq!(router(&bob, "of-bob").await, 201);
    assert_eq!(transport(&stage.client, "a", "of-alice", "x").await, 201);
    assert_eq!(transport(&bob, "b", "of-bob", "x").await, 201);
    let carry = |id: &'static str, bps: u64| {
        stage.fake.turn(|knobs| knobs.bitrates.insert(id.to_owned(), bps));
    };
    carry("a", 2_000_000);
    carry("b", 900_000);
    let mut number = 0;
    stage::eventually("alice has too much", || {
        number += 1;
        let id = format!("a-{number}");
        let client = &stage.client;
        async move { transport(client, &id, "of-alice", "x").await == 503 }
    })
    .await;
    let producer = produce("p", "a", "opus");
    assert_eq!(call(&stage.client, "POST", "/v1/producers", producer).await.0, 503);
    assert_eq!(call(&bob, "POST", "/v1/producers", produce("q", "b", "opus")).await.0, 201);
    carry("a", 1_000);
    let mut number = 0;
    stage::eventually("alice may again", || {
        number += 1;
        let producer = produce(&format!("p-{number}"), "a", "opus");
        let client = &stage.client;
        async move { call(client, "POST", "/v1/producers", producer).await.0 == 201 }
    })
    .await;
}

#[tokio::test]
async fn the_audit_says_who_did_what() {
    let stage = Stage::with_tokens(TOKENS, "alice-secret").await;
    let ops = stage.client_of("ops-secret");
    stage.call_of_two("room").await;
    // Repeats and what is not there are nothing to note, nor is what only looks.
    let repeat = json!({ "id": "room", "appData": { "n": 1 } });
    assert_eq!(stage.call("POST", "/v1/routers", repeat).await.0, 200);
    stage.ok("DELETE", "/v1/consumers/nobody", Value::Null).await;
    stage.ok("GET", "/v1/snapshot", Value::Null).await;
    stage.ok("DELETE", "/v1/consumers/room-bob-mic", Value::Null).await;
    stage.ok("DELETE", "/v1/producers/room-cam", Value::Null).await;
    stage.ok("POST", "/v1/participants/bob/leave?routerId=room", Value::Null).await;
    stage.ok("POST", "/v1/participants/bob/leave?routerId=room", Value::Null).await;
    assert_eq!(call(&ops, "DELETE", "/v1/routers/room", Value::Null).await.0, 204);
    let (status, audit) = call(&ops, "GET", "/v1/audit?limit=1000", Value::Null).await;
    assert_eq!(status, 200);
    let told: Vec<_> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            assert!(one["time"].as_u64().unwrap() > 1_000_000_000_000, "{one}");
            assert_eq!((&one["routerId"], &one["address"]), (&json!("room"), &json!("127.0.0.1")));
            let text = |name: &str| one[name].as_str().unwrap().to_owned();
            format!("{} {} {} {}", text("principal"), text("action"), text("kind"), text("id"))
        })
        .collect();
    assert_eq!(
        told,
        [
            "token:alice create router room",
            "token:alice create transport room-alice-send",
            "token:alice create transport room-alice-recv",
            "token:alice create transport room-bob-send",
            "token:alice create transport room-bob-recv",
            "token:alice create producer room-mic",
            "token:alice create consumer room-bob-mic",
            "token:alice create producer room-cam",
            "token:alice create consumer room-bob-cam",
            "token:alice close consumer room-bob-mic",
            "token:alice close producer room-cam",
            "token:alice close participant bob",
            "token:ops close router room",
        ]
    );
    let numbers = audit["items"].as_array().unwrap().iter().map(|one| one["number"].as_u64());
    assert!(numbers.eq((1..=13).map(Some)));
    let of = async |query: &str| {
        let (_, audit) = call(&ops, "GET", &format!("/v1/audit?{query}"), Value::Null).await;
        audit["items"].as_array().unwrap().len()
    };
    assert_eq!((of("principal=token:ops").await, of("limit=2").await), (1, 2));
    assert_eq!((of("routerId=room").await, of("routerId=other").await), (13, 0));
    assert!(!audit.to_string().contains("secret"));
    assert_eq!(stage.call("GET", "/v1/audit", Value::Null).await.0, 403);
    assert_eq!(call(&ops, "GET", "/v1/audit?limit=0", Value::Null).await.0, 400);
}
