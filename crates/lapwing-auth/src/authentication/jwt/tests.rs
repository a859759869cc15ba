use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use serde_json::json;

use super::*;
use crate::permission::Subject;

const SECRET: &[u8; 32] = b"a secret of thirty-two bytes ...";
const NOW: u64 = 1_000_000;

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", base64(signature))
}

fn with_secret(secret: &[u8], header: &Value, claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    signed(header, claims, |message| hmac::sign(&key, message).as_ref().to_vec())
}

fn token(claims: &Value) -> String {
    with_secret(SECRET, &json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

/// A set of keys in a file of its own.
fn tokens_of(set: &Value, config: Jwt) -> Tokens {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    std::fs::write(&path, set.to_string()).unwrap();
    Tokens::read(&Jwt { jwks_file: Some(path), ..config }).unwrap().unwrap()
}

fn tokens(config: Jwt) -> Tokens {
    tokens_of(&json!({ "keys": [{ "kty": "oct", "k": base64(SECRET) }] }), config)
}

fn refusal(tokens: &Tokens, token: &str) -> &'static str {
    match tokens.judge(token.as_bytes(), now()) {
        Opinion::Refuse(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn accepted(tokens: &Tokens, token: &str) -> Proven {
    match tokens.judge(token.as_bytes(), now()) {
        Opinion::Accept(proven) => proven,
        other => panic!("{other:?} of {token}"),
    }
}

#[test]
fn a_token_says_whose_it_is_and_what_is_known_of_him() {
    let config = Jwt { attribute_claims: vec!["site".into()], ..Jwt::default() };
    let claims = json!({
        "sub": "anna", "exp": NOW + 60, "groups": ["a", "b", 7], "site": "north", "room": "x",
        "acl": [{ "allow": "publish", "topics": ["door/%u/#"], "qos_maximum": 1 }],
    });
    let proven = accepted(&tokens(config), &token(&claims));
    let attributes: Vec<_> =
        proven.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!((&*proven.user, attributes.join(" ").as_str()), ("anna", "group=a group=b site=north"));
    assert_eq!(proven.expires, Some(now() + Duration::from_secs(90)), "with the leeway");
    let rules: Vec<_> = proven.rules.unwrap().rules().iter().map(ToString::to_string).collect();
    assert_eq!(rules, ["allow publish door/%u/# up to QoS 1 for everybody"]);
}

#[test]
fn permissions_may_be_written_by_action() {
    let acl = |acl: Value| token(&json!({ "sub": "anna", "exp": NOW + 60, "acl": acl }));
    let short = acl(json!({ "publish": ["a/#"], "subscribe": "b/%u", "receive": [] }));
    let rules = accepted(&tokens(Jwt::default()), &short).rules.unwrap();
    let texts: Vec<_> = rules.rules().iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["allow publish a/# for everybody", "allow subscribe b/%u for everybody"]);
    let none = accepted(&tokens(Jwt::default()), &acl(json!([]))).rules.unwrap();
    let subject =
        Subject { client_id: "c", user: None, attributes: &[], listener: "", address: [0; 4].into() };
    let topic = lapwing_proto::topic::TopicName::new("a").unwrap();
    assert!(!none.compile(&subject).receive(topic).is_allowed, "an empty list allows nothing");
    for wrong in
        [json!("all"), json!({ "write": ["a"] }), json!([{ "allow": "publish" }]), json!([null]), json!(null)]
    {
        assert!(refusal(&tokens(Jwt::default()), &acl(wrong.clone())).contains("permissions"), "{wrong}");
    }
}

// [attack: expired-token]
#[test]
fn a_token_holds_for_its_time_its_issuer_and_its_audience() {
    let config = Jwt { issuer: Some("us".into()), audience: Some("broker".into()), ..Jwt::default() };
    let tokens = tokens(config);
    let good = json!({ "sub": "anna", "exp": NOW + 60, "nbf": NOW, "iss": "us", "aud": ["x", "broker"] });
    accepted(&tokens, &token(&good));
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        token(&claims)
    };
    accepted(&tokens, &with("aud", json!("broker")));
    accepted(&tokens, &with("exp", json!(NOW - 29)));
    accepted(&tokens, &with("nbf", json!(NOW + 30)));
    for (name, value, expected) in [
        ("exp", json!(NOW - 30), "expired"),
        ("exp", json!(0), "expired"),
        ("exp", json!(-5), "expired"),
        ("exp", json!("never"), "malformed"),
        ("exp", json!(1e300), "malformed"),
        ("exp", Value::Null, "malformed"),
        ("nbf", json!(NOW + 31), "not hold yet"),
        ("nbf", json!([]), "malformed"),
        ("iss", json!("them"), "issuer"),
        ("iss", json!(["us"]), "issuer"),
        ("aud", json!(["x"]), "audience"),
        ("aud", json!(7), "audience"),
        ("sub", json!(""), "whose"),
        ("sub", json!(7), "whose"),
        ("sub", json!("a\u{0}"), "whose"),
    ] {
        let reason = refusal(&tokens, &with(name, value.clone()));
        assert!(reason.contains(expected), "{name} {value}: {reason}");
    }
    for name in ["exp", "iss", "aud", "sub"] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        refusal(&tokens, &token(&claims));
    }
    let endless = self::tokens(Jwt { expiry_required: false, ..Jwt::default() });
    assert_eq!(accepted(&endless, &token(&json!({ "sub": "anna" }))).expires, None);
}

/// A token cannot choose how it is verified.
// [attack: forged-token]
#[test]
fn what_a_token_says_of_its_signature_is_not_believed() {
    let tokens = tokens(Jwt::default());
    let claims = json!({ "sub": "anna", "exp": NOW + 60 });
    let head_of = |alg: &str| base64(json!({ "alg": alg }).to_string());
    let body = base64(claims.to_string());
    for alg in ["none", "None", "NONE", "", "HS256"] {
        refusal(&tokens, &format!("{}.{body}.", head_of(alg)));
    }
    for alg in ["HS384", "HS512", "RS256", "ES256", "EdDSA"] {
        refusal(&tokens, &with_secret(SECRET, &json!({ "alg": alg }), &claims));
    }
    refusal(&tokens, &with_secret(b"another secret of as many bytes.", &json!({ "alg": "HS256" }), &claims));
    refusal(
        &tokens,
        &with_secret(SECRET, &json!({ "alg": "HS256", "crit": ["b64"], "b64": false }), &claims),
    );
    let good = token(&claims);
    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let other = base64(json!({ "sub": "root", "exp": NOW + 60 }).to_string());
    assert!(refusal(&tokens, &format!("{head}.{other}.{signature}")).contains("not signed"));
    // The public key is no secret: a token that was signed with it as one is not accepted.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    std::fs::write(&path, RSA).unwrap();
    let rsa = Tokens::read(&Jwt { key_file: Some(path.clone()), ..Jwt::default() }).unwrap().unwrap();
    refusal(&rsa, &with_secret(RSA.as_bytes(), &json!({ "alg": "HS256" }), &claims));
    let error = Tokens::read(&Jwt { secret_file: Some(path), ..Jwt::default() }).unwrap_err().to_string();
    assert!(error.contains("authentication.jwt.key_file"), "{error}");
}

// [attack: forged-token]
#[test]
fn signatures_of_all_kinds_are_verified() {
    let random = SystemRandom::new();
    let claims = json!({ "sub": "anna", "exp": NOW + 60 });
    let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, p256.as_ref()).unwrap();
    let p384 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap();
    let p384 = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, p384.as_ref()).unwrap();
    let ed = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
    let point = |bytes: &[u8], at: usize| {
        let size = (bytes.len() - 1) / 2;
        base64(&bytes[1 + at * size..][..size])
    };
    let (q256, q384) = (p256.public_key().as_ref(), p384.public_key().as_ref());
    let set = json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "kid": "one", "x": point(q256, 0), "y": point(q256, 1) },
        { "kty": "EC", "crv": "P-384", "kid": "two", "alg": "ES384", "x": point(q384, 0), "y": point(q384, 1) },
        { "kty": "OKP", "crv": "Ed25519", "use": "sig", "x": base64(ed.public_key().as_ref()) },
        { "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB" },
        { "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA" },
    ] });
    let tokens = tokens_of(&set, Jwt::default());
    assert_eq!(tokens.keys.len(), 3);
    let ecdsa = |key: &EcdsaKeyPair, header: Value| {
        signed(&header, &claims, |message| key.sign(&random, message).unwrap().as_ref().to_vec())
    };
    accepted(&tokens, &ecdsa(&p256, json!({ "alg": "ES256" })));
    accepted(&tokens, &ecdsa(&p256, json!({ "alg": "ES256", "kid": "one" })));
    refusal(&tokens, &ecdsa(&p256, json!({ "alg": "ES256", "kid": "two" })));
    refusal(&tokens, &ecdsa(&p256, json!({ "alg": "ES384" })));
    accepted(&tokens, &ecdsa(&p384, json!({ "alg": "ES384", "kid": "two" })));
    let eddsa = signed(&json!({ "alg": "EdDSA" }), &claims, |message| ed.sign(message).as_ref().to_vec());
    accepted(&tokens, &eddsa);
}

#[test]
fn rsa_is_verified_by_the_algorithms_that_are_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    std::fs::write(&path, RSA).unwrap();
    let read = |algorithms: &[Algorithm]| {
        Tokens::read(&Jwt { key_file: Some(path.clone()), algorithms: algorithms.to_vec(), ..Jwt::default() })
    };
    let usual = read(&[]).unwrap().unwrap();
    accepted(&usual, RS256);
    refusal(&usual, PS256);
    let pss = read(&[Algorithm::PS256]).unwrap().unwrap();
    accepted(&pss, PS256);
    refusal(&pss, RS256);
    assert!(read(&[Algorithm::HS256]).unwrap_err().to_string().contains("authentication.jwt.algorithms"));
}

// [attack: secret-in-log]
#[test]
fn a_file_that_is_no_key_is_said_without_what_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let error = |config: fn(std::path::PathBuf) -> Jwt, text: &str| {
        std::fs::write(&path, text).unwrap();
        Tokens::read(&config(path.clone())).unwrap_err().to_string()
    };
    let pem = |path| Jwt { key_file: Some(path), ..Jwt::default() };
    let set = |path| Jwt { jwks_file: Some(path), ..Jwt::default() };
    let secret = |path| Jwt { secret_file: Some(path), ..Jwt::default() };
    let short = json!({ "keys": [{ "kty": "oct", "k": base64("SECRET") }] }).to_string();
    for (text, expected) in [
        (error(pem, ""), "no key in it"),
        (error(pem, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "private key"),
        (error(pem, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "cannot be read"),
        (error(set, "{\"keys\":[{\"kty\": 7}]}"), "no JSON Web Key Set"),
        (error(set, "{\"keys\":[]}"), "no key in it"),
        (error(set, &short), "less than 32 bytes"),
        (error(set, "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\"}]}"), "key 1 lacks a part"),
        (error(secret, "SECRET"), "less than 32 bytes"),
    ] {
        assert!(text.contains(expected) && !text.contains("SECRET"), "{text}");
    }
}

#[test]
fn what_is_no_token_is_left_to_others() {
    let tokens = tokens(Jwt::default());
    let long =
        format!("{}.{}.x", base64(json!({ "alg": "HS256" }).to_string()), "A".repeat(TOKEN_BYTES_MAXIMUM));
    for password in ["", "secret", "a.b", "a.b.c", "....", &long, "e30.e30.e30"] {
        assert!(matches!(tokens.judge(password.as_bytes(), now()), Opinion::Unknown), "{password}");
        assert!(!is_token(password.as_bytes()));
    }
    assert!(matches!(tokens.judge(&[0xff, b'.', b'.'], now()), Opinion::Unknown));
    assert!(is_token(RS256.as_bytes()));
}

/// Of a key that was made for this test, and thrown away.
const RSA: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAqvoyazpfsyf5iIS8IWqB\n\
iOvrKQ4ASuV60z5chxKCEe0rBihPFoM71TRsTndsjkXBvv3M6u/H1vaO0WOP/b8r\n\
hFFv26MZ6T8XVosZT1+StMty4HO9B14c5kncb4KvEvJw8SmySTcX7Zf20wE9Z4au\n\
RgAPfsqKM0k+iaD6YT3sG9RTaipO/jMcl/Ycmk1jAL04V/ozuXsPNGLe5NY9iepG\n\
GKfNKpcCjLV7+WQbaDklxBr1IDmOzmke5dEkDy7Vs51CDhpiPik1Q5Cp1JOrLm5Q\n\
tHt6FfrQojQBiJkz1mqTFp48kA15n8rWCvjyQWm1xRSH9kv1MmZXHtFu/HudtE4V\n\
OQIDAQAB\n\
-----END PUBLIC KEY-----\n";
const RS256: &str = "\
    eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm5hIiwiZXhwIjo0MDAwMDAwMDAwfQ.nf2xKIo0TQJ4mdleM0ZVMsLBdetnPKqpN7YQ\
    Ut6eK2HniyJkZUX-_C2umjTWXF-reR3A-R7EM5bro9IyGBdnABZQbRjSm_ZCQ-bLZavkG0O1-qDEEtIPj7CeA_Zx4_emEFddEZ-4\
    IShUMEG2TWqsEdHHIx806fliQBn_DvKm0zwpjfX1cDhxymte4TLBsSNeU-U0gfcxtRlpJtcCVbq6a5ej4vOcJSr9yKJzYX6Vuf3u\
    l4O6d0Gs0FI4SrWDiEa_QhgyLapNP0wdbVxjMbFAEgsURQLZ9ECfTt-LgD6g65d1d-frK8766ZsOCS5VF-B0PY7G49X8cq0taYEo\
    25jpKw";
const PS256: &str = "\
    eyJhbGciOiJQUzI1NiJ9.eyJzdWIiOiJhbm5hIiwiZXhwIjo0MDAwMDAwMDAwfQ.AgYFOaQco8kwjlZdr8aoy5jLLCoNvNAtBE3P\
    Pj1mTDKxYlzUjZYYpIXy9td1fC8StGKsd_1GgUkXE_zqFDyBkhTYPtm39xvRx053lC5cbVorITV5DjqNSCCDxXUjNE2v2SjONtNL\
    AGioYbHImteKhigJi4WgoZgWKJL0mKC1tdOieOAgmZCqqgt0xbUVCcjsyhdBZ2EbiCieyMVQ-wIrnMJc9XoswdvDk-xPAgbw-tr-\
    z0yStMF5yN67iE0wVbcwkGROajLVj55bTewY6I-35SQvpge9y31AKBl5TENOJKj1OWMl8t0_gdZrU26W6QkxsdA6cDpybLP4yS-A\
    0h0s9A";

/// Whether whoever came with a token could come with it again, after the configuration has changed.
#[test]
fn a_token_is_as_good_as_the_keys_and_terms_by_which_it_was_read() {
    let proven = accepted(&tokens(Jwt::default()), &token(&json!({ "sub": "anna", "exp": NOW + 60 })));
    let Proof::Token { key, terms } = proven.proof else { panic!("another proof") };
    assert!(tokens(Jwt::default()).accept(&key, &terms));
    for other in [
        Jwt { issuer: Some("somebody".to_owned()), ..Jwt::default() },
        Jwt { user_claim: "name".to_owned(), ..Jwt::default() },
        Jwt { expiry_required: false, ..Jwt::default() },
    ] {
        assert!(!tokens(other).accept(&key, &terms));
    }
    let set = json!({ "keys": [{ "kty": "oct", "k": base64([1; 32]) }] });
    assert!(!tokens_of(&set, Jwt::default()).accept(&key, &terms));
}
