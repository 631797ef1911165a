//! Which proofs are enough, and what stays when they change. Certificates are in the tests of the
//! doors: TLS has to show them.

use super::*;

fn proofs(tokens: Option<&str>) -> Proofs {
    let tokens = tokens.map(|text| Arc::new(Tokens::parse(text).unwrap()));
    Proofs { tokens, ..Proofs::default() }
}

fn shown<'a>(way: Way, authorization: Option<&'a str>) -> Shown<'a> {
    Shown { way, authorization, chain: &[], address: None, may_verify: true }
}

fn gate(tokens: Option<&str>) -> Gate {
    Gate::new(proofs(tokens), None)
}

#[test]
fn where_nothing_can_be_shown_everybody_is_admin() {
    let gate = gate(None);
    assert!(gate.asks_nobody() && !gate.needs_certificate() && gate.verifier().is_none());
    for way in [Way::Tls, Way::Plain, Way::Unix] {
        let principal = gate.authenticate(&shown(way, Some("Bearer anything"))).unwrap();
        assert!(principal.is_admin() && principal.owner().is_none());
        assert!(gate.holds(&principal));
    }
}

#[test]
fn a_token_says_who_calls_whatever_the_way() {
    let gate = gate(Some("ada control one\nwatch read two\n"));
    for way in [Way::Tls, Way::Plain, Way::Unix] {
        for good in ["Bearer one", "bearer one", "BEARER  one "] {
            let principal = gate.authenticate(&shown(way, Some(good))).unwrap();
            assert_eq!(&*principal.name, "token:ada", "{good}");
            assert!(principal.scopes.has(Scope::Control) && !principal.is_admin());
        }
        for bad in ["Bearer on", "Bearer one two", "Basic one", "one", "", "Bearer", "Bearer ada"] {
            let problem = gate.authenticate(&shown(way, Some(bad))).unwrap_err();
            assert_eq!(problem.code, ErrorCode::Unauthenticated, "{bad}");
            assert!(!problem.detail.contains("one"), "{bad}: {}", problem.detail);
        }
        assert!(gate.authenticate(&shown(way, None)).is_err());
    }
}

#[test]
fn who_was_let_in_is_looked_at_again_when_proofs_change() {
    let gate = gate(Some("ada control one\nbob read two\nops admin three\n"));
    let enter = |token: &str| {
        gate.authenticate(&shown(Way::Tls, Some(&format!("Bearer {token}")))).unwrap()
    };
    let (ada, bob, ops) = (enter("one"), enter("two"), enter("three"));
    let local = Principal::local(None);
    assert!([&ada, &bob, &ops].iter().all(|one| gate.holds(one)) && !gate.holds(&local));
    let mut changes = gate.changes();
    gate.replace(proofs(Some("ada control one\nbob control two\nops read three\n")), None);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert!(gate.holds(&ada), "as before");
    assert!(gate.holds(&bob), "may do more now");
    assert!(!gate.holds(&ops), "may do less now");
    gate.replace(proofs(Some("eve control one\n")), None);
    assert!(!gate.holds(&ada), "another's now");
    gate.replace(proofs(None), None);
    assert!(gate.holds(&local));
}

#[test]
fn a_token_file_is_read_again_and_what_cannot_be_read_changes_nothing() {
    let folder = std::env::temp_dir().join(format!("ironcast-tokens-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("tokens");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write("ada control one\n");
    let gate = Gate::new(proofs(Some("ada control one\n")), Some(path.clone()));
    let mut changes = gate.changes();
    assert!(gate.refresh() && !changes.has_changed().unwrap());
    write("ada control two\n");
    assert!(gate.refresh() && changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert!(gate.authenticate(&shown(Way::Tls, Some("Bearer one"))).is_err());
    for wrong in ["", "ada control\n"] {
        write(wrong);
        assert!(!gate.refresh() && !changes.has_changed().unwrap());
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(!gate.refresh());
    assert!(gate.authenticate(&shown(Way::Tls, Some("Bearer two"))).is_ok());
}

/// Who has shown too much that was wrong has no signature checked; what is known is known.
#[test]
fn a_signature_is_not_checked_for_a_stranger_who_guesses() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = jsonwebtoken::EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
    let sign = |subject: &str| {
        let claims = serde_json::json!({
            "sub": subject, "aud": "ironcast", "exp": unix_s() + 600, "scope": "read",
        });
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
        format!("Bearer {}", jsonwebtoken::encode(&header, &claims, &key).unwrap())
    };
    let expected = Expected { audience: "ironcast".into(), issuer: None, remembered_max: 16 };
    let jwt = Arc::new(Jwt::parse(&pair.public_key_pem(), expected).unwrap());
    let all = Proofs { jwt: Some(jwt), ..proofs(Some("ada control one\n")) };
    let gate = Gate::new(all.clone(), None);
    let ask = |authorization: &str, may_verify| {
        let shown = Shown { may_verify, ..shown(Way::Tls, Some(authorization)) };
        gate.authenticate(&shown).map(|principal| principal.name.to_string())
    };
    let (known, other) = (sign("known"), sign("other"));
    assert_eq!(ask(&known, true), Ok("jwt:known".into()));
    assert_eq!(ask(&known, false), Ok("jwt:known".into()));
    assert_eq!(ask("Bearer one", false), Ok("token:ada".into()));
    assert_eq!(ask(&other, false).unwrap_err().code, ErrorCode::RateLimited);
    assert_eq!(ask(&other, true), Ok("jwt:other".into()));
    // The same keys again: what was verified stays, and with it who follows events.
    let principal = gate.authenticate(&shown(Way::Tls, Some(&known))).unwrap();
    let again = Jwt::parse(
        &pair.public_key_pem(),
        Expected { audience: "ironcast".into(), issuer: None, remembered_max: 16 },
    );
    gate.replace(Proofs { jwt: Some(Arc::new(again.unwrap())), ..all.clone() }, None);
    assert!(gate.holds(&principal));
    gate.replace(Proofs { jwt: None, ..all }, None);
    assert!(!gate.holds(&principal));
}
