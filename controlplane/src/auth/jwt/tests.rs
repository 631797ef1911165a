//! Tokens of each kind of key, and everything that can be wrong with one.

use ironcast_tokens::{KEYS_MAX, read_pem_key};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::*;
use crate::auth::{hash_of, principal::Scope, unix_s};

struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
    public_pem: String,
}

impl Signer {
    fn new(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::EdDSA => &rcgen::PKCS_ED25519,
            Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            _ => &rcgen::PKCS_RSA_SHA256,
        };
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        Self { algorithm, key: key.unwrap(), public_pem: pair.public_key_pem() }
    }

    fn jwk(&self, id: &str) -> Value {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(self.public_pem.as_bytes()).unwrap();
        let (_, key) = read_pem_key(&der).unwrap();
        let mut jwk = Jwk::from_decoding_key(&key, Some(self.algorithm)).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    fn sign(&self, id: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: id.map(str::to_owned), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).unwrap()
    }
}

fn expected() -> Expected {
    Expected { audience: "ironcast".into(), issuer: None, remembered_max: 16 }
}

fn claims() -> Value {
    json!({ "sub": "ada", "aud": "ironcast", "exp": unix_s() + 600, "scope": "openid control" })
}

fn verify(jwt: &Jwt, token: &str) -> Result<Principal, &'static str> {
    jwt.verify(token, &hash_of(token.as_bytes()), unix_s())
}

#[test]
fn keys_of_each_kind_are_taken_from_pem_and_from_a_set() {
    let signers = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256].map(Signer::new);
    let pem: String = signers.iter().map(|one| one.public_pem.as_str()).collect();
    let jwks: Vec<Value> =
        signers.iter().enumerate().map(|(number, one)| one.jwk(&format!("key-{number}"))).collect();
    let set = json!({ "keys": jwks }).to_string();
    let (pem, set) = (Jwt::parse(&pem, expected()).unwrap(), Jwt::parse(&set, expected()).unwrap());
    assert_eq!((pem.keys.len(), set.keys.len()), (3, 3));
    let stranger = Signer::new(Algorithm::EdDSA);
    for (number, signer) in signers.iter().enumerate() {
        let id = format!("key-{number}");
        for id in [None, Some(id.as_str())] {
            let token = signer.sign(id, &claims());
            for jwt in [&pem, &set] {
                let principal = verify(jwt, &token).unwrap();
                assert_eq!(&*principal.name, "jwt:ada");
                assert!(principal.scopes.has(Scope::Control) && !principal.is_admin());
            }
        }
        let other = signer.sign(Some("key-9"), &claims());
        assert!(verify(&set, &other).unwrap_err().starts_with("no key here"));
        assert!(verify(&pem, &other).is_ok(), "a key without an id may be any");
        // Another's signature under this token's head and claims.
        let (signed, _) = other.rsplit_once('.').unwrap();
        let foreign = stranger.sign(None, &claims());
        let (_, signature) = foreign.rsplit_once('.').unwrap();
        assert!(verify(&pem, &format!("{signed}.{signature}")).is_err());
    }
    assert_eq!(
        verify(&pem, &stranger.sign(None, &claims())).unwrap_err(),
        "this token is signed by another key"
    );
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let signer = Signer::new(Algorithm::ES256);
    let expected = Expected { issuer: Some("login".into()), ..expected() };
    let jwt = Jwt::parse(&signer.public_pem, expected).unwrap();
    let now = unix_s();
    let with = |change: Value| {
        let mut claims = claims();
        claims["iss"] = "login".into();
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        verify(&jwt, &signer.sign(None, &claims))
    };
    for (change, what) in [
        (json!({ "exp": now - 60 }), "has expired"),
        (json!({ "exp": null }), "cannot be read"),
        (json!({ "exp": "soon" }), "cannot be read"),
        (json!({ "nbf": now + 60 }), "not valid yet"),
        (json!({ "aud": "elsewhere" }), "another audience"),
        (json!({ "aud": null }), "lacks one of"),
        (json!({ "iss": "other" }), "another issuer"),
        (json!({ "iss": null }), "lacks one of"),
        (json!({ "sub": null }), "lacks one of"),
        (json!({ "sub": "" }), "no name"),
        (json!({ "sub": "a\nb" }), "no name"),
    ] {
        let error = with(change.clone()).unwrap_err();
        assert!(error.contains(what), "{change}: {error}");
    }
    for good in [
        json!({}),
        json!({ "nbf": now - 1, "aud": ["x", "ironcast"] }),
        json!({ "exp": now as f64 + 60.5 }),
    ] {
        assert!(with(good.clone()).is_ok(), "{good}");
    }
    let scopes = |scope: Value| with(json!({ "scope": scope })).unwrap().scopes;
    assert_eq!(scopes(Value::Null), Scopes::NONE);
    assert_eq!(scopes(json!("")), Scopes::NONE);
    assert_eq!(scopes(json!("read admin")), Scopes::ADMIN);
    assert_eq!(scopes(json!(["read"])), Scopes::READ);
    let long = "x".repeat(9_000);
    for nonsense in ["", ".", "..", "a.b.c", "eyJ.eyJ.x", long.as_str()] {
        assert!(verify(&jwt, nonsense).is_err(), "{nonsense}");
    }
}

/// RFC 8725 section 2.1: neither no algorithm nor our public key as a shared secret.
#[test]
fn a_token_cannot_choose_its_algorithm() {
    let signer = Signer::new(Algorithm::RS256);
    let jwt = Jwt::parse(&signer.public_pem, expected()).unwrap();
    let secret = EncodingKey::from_secret(signer.public_pem.as_bytes()).unwrap();
    let by_secret = encode(&Header::new(Algorithm::HS256), &claims(), &secret).unwrap();
    assert!(verify(&jwt, &by_secret).is_err());
    let good = signer.sign(None, &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (_, body) = signed.split_once('.').unwrap();
    // {"alg":"none"}
    for head in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIn0"] {
        for signature in ["", signature] {
            assert!(verify(&jwt, &format!("{head}.{body}.{signature}")).is_err());
        }
    }
    // A key of a shared secret is not taken from a set at all.
    let set = json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }] }).to_string();
    assert!(Jwt::parse(&set, expected()).is_err());
}

#[test]
fn a_verified_token_is_remembered_until_it_expires_and_only_so_many() {
    let signer = Signer::new(Algorithm::EdDSA);
    let jwt = Jwt::parse(&signer.public_pem, expected()).unwrap();
    let now = unix_s();
    let token = |number: u64| {
        let mut claims = claims();
        claims["exp"] = json!(now + 100 + number);
        signer.sign(None, &claims)
    };
    let first = token(0);
    let hash = hash_of(first.as_bytes());
    assert!(jwt.find(&hash, now).is_none());
    jwt.verify(&first, &hash, now).unwrap();
    assert!(jwt.find(&hash, now + 99).is_some());
    assert!(jwt.find(&hash, now + 100 + LEEWAY_S).is_none(), "its time is over");
    for number in 1..100 {
        verify(&jwt, &token(number)).unwrap();
        assert!(jwt.verified().len() <= 16);
    }
    assert_eq!(jwt.verified().len(), 16);
}

#[test]
fn a_file_without_keys_is_refused() {
    let own = Signer::new(Algorithm::ES256).jwk("1");
    let mut for_secrets = own.clone();
    for_secrets["use"] = json!("enc");
    let mut for_others = own.clone();
    for_others["alg"] = json!("ES384");
    let many: String = (0..=KEYS_MAX).map(|_| Signer::new(Algorithm::EdDSA).public_pem).collect();
    for text in [
        String::new(),
        "nonsense".into(),
        "{".into(),
        "{}".into(),
        json!({ "keys": [] }).to_string(),
        json!({ "keys": [for_secrets, for_others, { "kty": "new" }] }).to_string(),
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".into(),
        many,
    ] {
        assert!(Jwt::parse(&text, expected()).is_err(), "{text}");
    }
    let jwt = Jwt::parse(&json!({ "keys": [own] }).to_string(), expected()).unwrap();
    assert!(jwt.is_as(&Jwt::parse(&json!({ "keys": [own] }).to_string(), expected()).unwrap()));
    let elsewhere = Expected { audience: "elsewhere".into(), ..expected() };
    assert!(!jwt.is_as(&Jwt::parse(&json!({ "keys": [own] }).to_string(), elsewhere).unwrap()));
}
