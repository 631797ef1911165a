//! How handshakes end that do not go well: what the peer is told, how soon, and that what is cut
//! otherwise than expected does not end them at all.

use super::*;

/// Alerts by number (RFC 8446 section 6.2).
const HANDSHAKE_FAILURE: u8 = 40;
const BAD_CERTIFICATE: u8 = 42;
const PROTOCOL_VERSION: u8 = 70;

/// Runs until nothing happens any more.
fn run_out(pair: &mut Pair) {
    for _ in 0..10_000 {
        if !pair.step() {
            return;
        }
    }
    panic!("it does not end");
}

fn refused(alert: u8) -> [Output; 1] {
    [Output::Failed(Failure::Refused(alert))]
}

#[test]
fn cuts_that_overlap_cost_nothing() {
    for seed in 0..60 {
        for config in [only(Version::Dtls12), Config::default()] {
            let mut pair = Pair::new(&config, &only(Version::Dtls12), seed);
            (pair.cuts, pair.delay_max) = (true, 60 * MS);
            pair.run();
            pair.assert_connected(Version::Dtls12);
        }
    }
}

#[test]
fn repeats_that_are_cut_elsewhere_heal_what_was_lost() {
    for seed in 0..60 {
        for config in [only(Version::Dtls12), Config::default()] {
            let mut pair = Pair::new(&config, &config, seed);
            (pair.cuts, pair.delay_max, pair.loss_percent) = (true, 60 * MS, 10);
            pair.run();
            assert!(pair.keys().is_some(), "{:?}", pair.outputs);
        }
    }
}

#[test]
fn a_wrong_certificate_is_told_to_its_owner_at_once() {
    let [a, b, other] = [(); 3].map(|()| Certificate::generate().unwrap());
    for version in [Version::Dtls12, Version::Dtls13] {
        let only = only(version);
        // The client finds it.
        let client = association(&only, &a, Role::Client, &other);
        let mut pair = Pair::with([client, association(&only, &b, Role::Server, &a)], 5);
        run_out(&mut pair);
        assert_eq!(pair.outputs[0], [Output::Failed(Failure::Fingerprint)]);
        assert_eq!(pair.outputs[1], refused(BAD_CERTIFICATE));
        assert!(pair.now < SECOND);
        // The server finds it: a client of DTLS 1.3 is done by then, and is closed.
        let client = association(&only, &a, Role::Client, &b);
        let mut pair = Pair::with([client, association(&only, &b, Role::Server, &other)], 5);
        run_out(&mut pair);
        assert_eq!(pair.outputs[1], [Output::Failed(Failure::Fingerprint)]);
        match &pair.outputs[0][..] {
            [Output::Connected(_), Output::Closed] if version == Version::Dtls13 => {}
            outputs => assert_eq!(outputs, refused(BAD_CERTIFICATE)),
        }
        assert!(pair.now < SECOND);
    }
}

#[test]
fn nothing_common_is_told_at_once_to_every_kind_of_client() {
    let cm = Config { suites: vec![Suite::AesCm128HmacSha1_80], ..Config::default() };
    for client in [Config::default(), only(Version::Dtls12), only(Version::Dtls13)] {
        let mut pair = Pair::new(&client, &cm, 6);
        run_out(&mut pair);
        assert_eq!(pair.outputs[1], [Output::Failed(Failure::NoCommonSuite)]);
        assert_eq!(pair.outputs[0], refused(HANDSHAKE_FAILURE));
        assert!(pair.now < SECOND);
    }
    for (client, server) in [(Version::Dtls12, Version::Dtls13), (Version::Dtls13, Version::Dtls12)]
    {
        let mut pair = Pair::new(&only(client), &only(server), 6);
        run_out(&mut pair);
        assert_eq!(pair.outputs[1], [Output::Failed(Failure::NoCommonCipher)]);
        assert_eq!(pair.outputs[0], refused(PROTOCOL_VERSION));
        assert!(pair.now < SECOND);
    }
}

/// The datagrams that a side has for the other one now.
fn said(association: &mut DtlsAssociation) -> Vec<Vec<u8>> {
    let outputs = std::iter::from_fn(|| association.poll());
    let datagrams = outputs.filter_map(|output| match output {
        Output::Datagram(bytes) => Some(bytes),
        _ => None,
    });
    datagrams.collect()
}

/// The alert is lost: the peer repeats its first message, and is told again, the same and not for ever.
#[test]
fn an_alert_that_was_lost_is_repeated_when_the_peer_repeats_itself() {
    let cm = Config { suites: vec![Suite::AesCm128HmacSha1_80], ..Config::default() };
    for config in [only(Version::Dtls12), only(Version::Dtls13)] {
        let mut pair = Pair::new(&config, &cm, 6);
        let hello = said(&mut pair.sides[0]);
        let mut tell = |now| {
            hello.iter().for_each(|datagram| pair.sides[1].handle_datagram(datagram, now));
            said(&mut pair.sides[1])
        };
        let told = tell(0);
        assert_eq!((told.len(), &told[0][13..]), (1, &[2, HANDSHAKE_FAILURE][..]));
        let again: Vec<_> =
            (1..20).map(|nth| tell(nth * SECOND)).filter(|told| !told.is_empty()).collect();
        assert!((2..=8).contains(&again.len()), "{}", again.len());
        assert!(again.iter().flatten().all(|alert| *alert == told[0]));
        // Neither an alert nor noise is answered.
        let mut other = Pair::new(&config, &cm, 7);
        let hello = said(&mut other.sides[0]);
        let server = &mut other.sides[1];
        hello.iter().for_each(|datagram| server.handle_datagram(datagram, 0));
        assert_eq!(said(server).len(), 1);
        for datagram in [&again[0][0][..], &[23; 60], &[0; 60], &[]] {
            server.handle_datagram(datagram, SECOND);
            assert_eq!(said(server), [] as [Vec<u8>; 0]);
        }
        let client = &mut pair.sides[0];
        client.handle_datagram(&again[0][0], SECOND);
        assert_eq!(client.poll(), Some(refused(HANDSHAKE_FAILURE)[0].clone()));
    }
}

/// The same where it is encrypted: a client that has lost the alert repeats its last flight.
#[test]
fn an_alert_that_is_encrypted_is_repeated_too() {
    for version in [Version::Dtls12, Version::Dtls13] {
        let [a, b, other] = [(); 3].map(|()| Certificate::generate().unwrap());
        let only = only(version);
        let client = association(&only, &a, Role::Client, &b);
        let mut pair = Pair::with([client, association(&only, &b, Role::Server, &other)], 5);
        while pair.outputs[1].is_empty() && pair.step() {}
        assert_eq!(pair.outputs[1], [Output::Failed(Failure::Fingerprint)]);
        pair.flying.clear();
        run_out(&mut pair);
        match &pair.outputs[0][..] {
            // It is done, and repeats its flight until it is acknowledged.
            [Output::Connected(_), Output::Closed] if version == Version::Dtls13 => {}
            outputs => assert_eq!(outputs, refused(BAD_CERTIFICATE)),
        }
    }
}

#[test]
fn a_peer_that_is_given_up_is_told() {
    for seed in 0..4 {
        let mut pair = Pair::new(&only(Version::Dtls12), &Config::default(), seed);
        // The server's flight never arrives.
        while pair.outputs[1].is_empty() && pair.step() {
            pair.flying.retain(|_, (side, _)| *side == 1);
        }
        run_out(&mut pair);
        for outputs in &pair.outputs {
            let told = refused(HANDSHAKE_FAILURE);
            assert!(*outputs == [Output::Failed(Failure::Timeout)] || *outputs == told);
        }
    }
}

#[test]
fn a_goodbye_that_was_sealed_in_advance_closes_the_other_side() {
    for version in [Version::Dtls12, Version::Dtls13] {
        for closing in 0..2 {
            let mut pair = Pair::new(&only(version), &Config::default(), 7);
            pair.run();
            let goodbye = pair.keys().unwrap()[closing].goodbye.clone();
            assert!(!goodbye.is_empty() && goodbye.len() < 100);
            // What is still under way does not matter.
            while pair.flying.values().next().is_some() && pair.step() {}
            let now = pair.now + 3_600 * SECOND;
            pair.sides[1 - closing].handle_datagram(&goodbye, now);
            pair.collect();
            assert!(matches!(
                pair.outputs[1 - closing][..],
                [Output::Connected(_), Output::Closed]
            ));
        }
    }
}
