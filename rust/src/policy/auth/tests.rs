use super::keys::{verifiers, ArchivedKeySet, Key, KeySet, Verifier};
use super::*;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair};
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::Engine;
use serde_json::{json, Value};
use std::sync::LazyLock;

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret of at least 32 bytes, for HMAC with SHA-256; and on to 64";

static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap());
static EC: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());

fn rsa_pem() -> String {
    let body = STANDARD.encode(RSA.public_key().as_ref());
    format!("-----BEGIN RSA PUBLIC KEY-----\n{body}\n-----END RSA PUBLIC KEY-----\n")
}

fn rsa_jwk(kid: &str) -> Value {
    let key = RSA.public_key();
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (n, e) = (
        key.modulus().big_endian_without_leading_zero().to_vec(),
        key.exponent().big_endian_without_leading_zero().to_vec(),
    );
    json!({"kid": kid, "material": {"rsa": {"n": part(&n), "e": part(&e)}}})
}

fn ec_jwk(kid: &str) -> Value {
    let point = EC.public_key().as_ref();
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({"kid": kid, "material": {"ec": {"x": part(&point[1..33]), "y": part(&point[33..])}}})
}

fn signed(head: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(head), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hmac(secret: &[u8], algorithm: aws_lc_rs::hmac::Algorithm) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(algorithm, secret);
    move |message| aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
}

fn hs256(head: &Value, claims: &Value) -> String {
    signed(
        head,
        claims,
        hmac(SECRET.as_bytes(), aws_lc_rs::hmac::HMAC_SHA256),
    )
}

fn rs256(head: &Value, claims: &Value) -> String {
    signed(head, claims, |message| {
        let mut signature = vec![0; RSA.public_modulus_len()];
        let padding = &signature::RSA_PKCS1_SHA256;
        RSA.sign(padding, &SystemRandom::new(), message, &mut signature)
            .unwrap();
        signature
    })
}

fn es256(head: &Value, claims: &Value) -> String {
    signed(head, claims, |message| {
        EC.sign(&SystemRandom::new(), message)
            .unwrap()
            .as_ref()
            .to_vec()
    })
}

/// A document as the control process writes it, with these fields.
fn rules(more: Value) -> Jwt {
    let mut document = json!({
        "rolesClaim": "roles", "userClaim": "sub", "header": "Authorization",
        "clockSkewS": 30, "requireExpiry": true,
    });
    document
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    serde_json::from_value(document).unwrap()
}

fn problems(more: Value) -> Vec<String> {
    let mut found = Vec::new();
    Auth::Jwt(Box::new(rules(more)))
        .check(&mut |field, message| found.push(format!("{field}: {message}")));
    found
}

fn keys(list: &[Value]) -> Vec<Verifier> {
    let keys: Vec<Key> = list
        .iter()
        .map(|key| serde_json::from_value(key.clone()).unwrap())
        .collect();
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&KeySet::of(keys)).unwrap();
    verifiers(rkyv::access::<ArchivedKeySet, rkyv::rancor::Error>(&bytes).unwrap())
}

/// What these rules make of a token; `set` are the keys of a URL.
fn judged(more: Value, set: &[Value], token: &str) -> Result<Verified, Rejection> {
    let mut auth = Auth::Jwt(Box::new(rules(more)));
    auth.prepare();
    let Auth::Jwt(jwt) = auth else { unreachable!() };
    let own = jwt.own_key().map(|key| serde_json::to_value(key).unwrap());
    let keys = keys(&own.map_or_else(|| set.to_vec(), |key| vec![key]));
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&*jwt).unwrap();
    let rules = rkyv::access::<ArchivedJwt, rkyv::rancor::Error>(&bytes).unwrap();
    verify(token.as_bytes(), rules, &keys, NOW)
}

fn invalid(result: Result<Verified, Rejection>) -> &'static str {
    match result {
        Err(Rejection::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn claims(more: Value) -> Value {
    let mut claims = json!({"sub": "ann", "exp": NOW + 60});
    let given = more.as_object().unwrap().clone();
    claims.as_object_mut().unwrap().extend(given);
    claims
}

fn by_secret() -> Value {
    json!({"secret": SECRET})
}

fn head() -> Value {
    json!({"alg": "HS256", "typ": "JWT"})
}

#[test]
fn each_algorithm_verifies_what_its_key_signed() {
    let all = json!({"secret": SECRET, "algorithms": ["HS256", "HS384", "HS512"]});
    for (name, algorithm) in [
        ("HS256", aws_lc_rs::hmac::HMAC_SHA256),
        ("HS384", aws_lc_rs::hmac::HMAC_SHA384),
        ("HS512", aws_lc_rs::hmac::HMAC_SHA512),
    ] {
        let sign = hmac(SECRET.as_bytes(), algorithm);
        let token = signed(&json!({"alg": name}), &claims(json!({})), sign);
        let found = judged(all.clone(), &[], &token).unwrap();
        assert_eq!(found.identity.id, "ann");
        assert_eq!(found.until, NOW + 90);
    }
    let token = rs256(&json!({"alg": "RS256"}), &claims(json!({})));
    assert!(judged(json!({"publicKey": rsa_pem()}), &[], &token).is_ok());
    let url = json!({"jwksUrl": "https://a.example/keys"});
    assert!(judged(url.clone(), &[rsa_jwk("1")], &token).is_ok());
    let token = es256(&json!({"alg": "ES256", "kid": "2"}), &claims(json!({})));
    assert!(judged(url, &[rsa_jwk("1"), ec_jwk("2")], &token).is_ok());
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let token = hs256(&head(), &claims(json!({})));
    assert!(judged(by_secret(), &[], &token).is_ok());
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = match bytes[at] {
            b'.' => b'A',
            b'A' => b'Q', // with another high bit: the last digit has spare low bits
            _ => b'A',
        };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(judged(by_secret(), &[], &changed).is_err(), "{at}");
    }
    for short in ["", ".", "..", "a.b", "a.b.c.d", &token[..token.len() - 1]] {
        assert!(judged(by_secret(), &[], short).is_err(), "{short}");
    }
    let unsigned = &token[..=token.rfind('.').unwrap()];
    assert!(judged(by_secret(), &[], unsigned).is_err());
}

#[test]
fn a_token_cannot_choose_its_algorithm() {
    let claims = claims(json!({}));
    for none in ["none", "None", "NONE", "", "hs256", "PS256", "RS512"] {
        let token = signed(&json!({"alg": none}), &claims, |_| Vec::new());
        assert_eq!(invalid(judged(by_secret(), &[], &token)), "algorithm");
    }
    // The public key, which everybody has, used as a secret.
    let rsa = json!({"publicKey": rsa_pem()});
    let der = RSA.public_key().as_ref().to_vec();
    for secret in [rsa_pem().into_bytes(), rsa_pem().trim().into(), der] {
        let forged = signed(
            &head(),
            &claims,
            hmac(&secret, aws_lc_rs::hmac::HMAC_SHA256),
        );
        assert_eq!(invalid(judged(rsa.clone(), &[], &forged)), "algorithm");
    }
    // Even where a route were to list both, the kind of the key decides.
    let both = json!({"jwksUrl": "https://a.example/k", "algorithms": ["RS256", "HS256"]});
    let forged = signed(
        &head(),
        &claims,
        hmac(&rsa_pem().into_bytes(), aws_lc_rs::hmac::HMAC_SHA256),
    );
    assert_eq!(
        judged(both, &[rsa_jwk("1")], &forged).unwrap_err(),
        Rejection::UnknownKey
    );
    // A key that is for another algorithm by its own word.
    let mut key = ec_jwk("1");
    key["algorithm"] = json!("RS256");
    let token = es256(&json!({"alg": "ES256"}), &claims);
    let url = json!({"jwksUrl": "https://a.example/k"});
    assert_eq!(
        judged(url, &[key], &token).unwrap_err(),
        Rejection::UnknownKey
    );
    let token = hs256(
        &json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
        &claims,
    );
    assert_eq!(invalid(judged(by_secret(), &[], &token)), "crit");
}

#[test]
fn keys_are_chosen_by_their_id() {
    let url = json!({"jwksUrl": "https://a.example/k"});
    let set = [ec_jwk("1"), rsa_jwk("2")];
    let token = |kid: Value| rs256(&json!({"alg": "RS256", "kid": kid}), &claims(json!({})));
    assert!(judged(url.clone(), &set, &token(json!("2"))).is_ok());
    assert!(judged(url.clone(), &set, &token(json!(null))).is_ok());
    for unknown in ["1", "3", ""] {
        assert_eq!(
            judged(url.clone(), &set, &token(json!(unknown))).unwrap_err(),
            Rejection::UnknownKey
        );
    }
    assert!(judged(url, &set, &token(json!(2))).is_err(), "no string");
    assert!(judged(json!({"publicKey": rsa_pem()}), &[], &token(json!("x"))).is_ok());
    // Keys that cannot be used are as good as absent.
    let bad = json!({"kid": "2", "material": {"rsa": {"n": "AQAB", "e": "AQAB"}}});
    let worse = json!({"kid": "2", "material": {"ec": {"x": "!", "y": ""}}});
    assert!(keys(&[bad, worse]).is_empty());
}

#[test]
fn times_are_kept_with_some_skew() {
    let at = |more: Value| judged(by_secret(), &[], &hs256(&head(), &claims(more)));
    for good in [
        json!({"exp": NOW - 29}),
        json!({"exp": NOW as f64 + 0.5}),
        json!({"nbf": NOW + 30}),
        json!({"iat": NOW + 30}),
        json!({"iat": 0, "nbf": 0}),
    ] {
        assert!(at(good.clone()).is_ok(), "{good}");
    }
    assert_eq!(invalid(at(json!({"exp": NOW - 30}))), "exp");
    assert_eq!(invalid(at(json!({"exp": -5}))), "exp");
    assert_eq!(invalid(at(json!({"nbf": NOW + 31}))), "nbf");
    assert_eq!(invalid(at(json!({"iat": NOW + 31}))), "iat");
    for odd in [
        json!({"exp": "soon"}),
        json!({"exp": null}),
        json!({"nbf": {}}),
    ] {
        assert_eq!(invalid(at(odd)), "a time is no number");
    }
    let endless = hs256(&head(), &json!({"sub": "ann"}));
    assert_eq!(
        invalid(judged(by_secret(), &[], &endless)),
        "exp is missing"
    );
    let lax = json!({"secret": SECRET, "requireExpiry": false});
    assert_eq!(judged(lax, &[], &endless).unwrap().until, u64::MAX);
}

#[test]
fn issuer_and_audience_must_be_ours() {
    let strict = json!({"secret": SECRET, "issuer": "https://a", "audience": ["x", "y"]});
    let with = |more: Value| judged(strict.clone(), &[], &hs256(&head(), &claims(more)));
    assert!(with(json!({"iss": "https://a", "aud": "y"})).is_ok());
    assert!(with(json!({"iss": "https://a", "aud": ["z", "x"]})).is_ok());
    assert_eq!(invalid(with(json!({"aud": "x"}))), "iss");
    assert_eq!(
        invalid(with(json!({"iss": ["https://a"], "aud": "x"}))),
        "iss"
    );
    assert_eq!(
        invalid(with(json!({"iss": "https://a/", "aud": "x"}))),
        "iss"
    );
    for aud in [
        json!("z"),
        json!([]),
        json!(["X"]),
        json!(null),
        json!({"x": 1}),
    ] {
        assert_eq!(
            invalid(with(json!({"iss": "https://a", "aud": aud}))),
            "aud"
        );
    }
    assert_eq!(invalid(with(json!({"iss": "https://a"}))), "aud");
}

#[test]
fn roles_and_claims_decide_what_a_good_token_may() {
    let allowed = |rules: Value, more: Value| {
        let mut document = rules;
        document["secret"] = json!(SECRET);
        judged(document, &[], &hs256(&head(), &claims(more)))
            .unwrap()
            .allowed
    };
    let roles = json!({"roles": ["admin", "ops"]});
    assert!(allowed(roles.clone(), json!({"roles": ["dev", "ops"]})));
    assert!(allowed(roles.clone(), json!({"roles": "dev admin"})));
    assert!(!allowed(
        roles.clone(),
        json!({"roles": ["administrator", 7, null]})
    ));
    assert!(!allowed(roles.clone(), json!({"roles": {"admin": true}})));
    assert!(!allowed(roles, json!({})));
    let nested = json!({"roles": ["a"], "rolesClaim": "realm_access.roles"});
    assert!(allowed(
        nested.clone(),
        json!({"realm_access": {"roles": ["a"]}})
    ));
    assert!(allowed(
        nested.clone(),
        json!({"realm_access.roles": ["a"]})
    ));
    assert!(!allowed(
        nested,
        json!({"realm_access": ["a"], "roles": ["a"]})
    ));
    let url = json!({"roles": ["a"], "rolesClaim": "https://x.example/app.roles"});
    assert!(allowed(
        url,
        json!({"https://x.example/app": {"roles": ["a"]}})
    ));
    let needed = json!({"requiredClaims": [
        {"name": "tenant", "values": ["t1", "t2"]}, {"name": "org.level", "values": ["3", "true"]},
    ]});
    assert!(allowed(
        needed.clone(),
        json!({"tenant": "t2", "org": {"level": 3}})
    ));
    assert!(allowed(
        needed.clone(),
        json!({"tenant": ["x", "t1"], "org": {"level": true}})
    ));
    assert!(!allowed(needed.clone(), json!({"tenant": "t2"})));
    assert!(!allowed(
        needed,
        json!({"tenant": "t3", "org": {"level": 3}})
    ));
}

#[test]
fn a_user_is_somebody_that_fits_in_a_field() {
    let rules = json!({"secret": SECRET, "userClaim": "uid", "identityHeader": "X-User-Id"});
    let with = |uid: Value| {
        judged(
            rules.clone(),
            &[],
            &hs256(&head(), &claims(json!({"uid": uid}))),
        )
    };
    let ann = with(json!("ann@x.example")).unwrap().identity;
    assert_eq!(ann.field, b"X-User-Id: ann@x.example\r\n");
    assert_eq!(with(json!(42)).unwrap().identity.id, "42");
    let nobody = with(json!(["a"])).unwrap().identity;
    assert!(nobody.id.is_empty() && nobody.field.is_empty());
    for bad in ["a\r\nX-Admin: 1", "a\nb", " a", "a ", "a\u{0}", "\u{7f}"] {
        assert_eq!(invalid(with(json!(bad))), "user", "{bad:?}");
    }
    assert_eq!(invalid(with(json!("a".repeat(257)))), "user");
}

#[test]
fn rules_are_checked() {
    assert!(problems(by_secret()).is_empty());
    assert!(problems(json!({"publicKey": rsa_pem()})).is_empty());
    assert!(problems(json!({"jwksUrl": "https://a", "algorithms": ["ES256"]})).is_empty());
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----";
    for (bad, field) in [
        (json!({}), "auth: give exactly one"),
        (
            json!({"secret": SECRET, "jwksUrl": "https://a"}),
            "auth: give exactly one",
        ),
        (
            json!({"secret": "short"}),
            "auth.secret: must have at least 32",
        ),
        (
            json!({"secret": &SECRET[..63], "algorithms": ["HS512"]}),
            "auth.secret: must have at least 64",
        ),
        (
            json!({"secret": SECRET, "algorithms": ["RS256"]}),
            "auth.algorithms: RS256",
        ),
        (
            json!({"publicKey": rsa_pem(), "algorithms": ["HS256"]}),
            "auth.algorithms: HS256",
        ),
        (
            json!({"publicKey": rsa_pem(), "algorithms": ["ES256"]}),
            "auth.algorithms: ES256",
        ),
        (
            json!({"jwksUrl": "https://a", "algorithms": ["HS256"]}),
            "auth.algorithms: HS256",
        ),
        (
            json!({"publicKey": "nonsense"}),
            "auth.publicKey: must be a public key",
        ),
        (
            json!({"publicKey": private}),
            "auth.publicKey: must be a public key",
        ),
        (
            json!({"secret": SECRET, "clockSkewS": 601}),
            "auth.clockSkew",
        ),
        (json!({"secret": SECRET, "userClaim": ""}), "auth.userClaim"),
        (json!({"secret": SECRET, "header": "a b"}), "auth.header"),
        (
            json!({"secret": SECRET, "identityHeader": "Host"}),
            "auth.identityHeader",
        ),
        (
            json!({"secret": SECRET, "identityHeader": "x-forwarded_for"}),
            "auth.identityHeader",
        ),
        (
            json!({"secret": SECRET, "identityHeader": "AUTHORIZATION"}),
            "auth.identityHeader",
        ),
    ] {
        let found = problems(bad.clone());
        assert!(
            found.first().is_some_and(|one| one.starts_with(field)),
            "{bad}: {found:?}"
        );
        assert!(!found.concat().contains(SECRET));
    }
    assert!(!format!("{:?}", rules(by_secret())).contains(SECRET));
}

fn api_keys(list: Value) -> Result<ApiKeys, String> {
    let document = json!({"header": "X-API-Key", "apiKeys": list, "roles": ["ops"],
        "identityHeader": "X-User_Id", "stripCredentials": true});
    serde_json::from_value(document).map_err(|error| error.to_string())
}

#[test]
fn api_keys_are_found_by_their_hash() {
    let hash = |key: &str| {
        let sum = sha256(&[key.as_bytes()]);
        sum.map(|byte| format!("{byte:02X}")).concat()
    };
    let list: Vec<Value> = (0..1000)
        .map(|n| {
            let roles = if n % 2 == 0 { vec!["ops"] } else { vec![] };
            json!({"name": format!("k{n}"), "keyHash": hash(&format!("key {n}")), "roles": roles})
        })
        .collect();
    let mut auth = Auth::ApiKey(Box::new(api_keys(json!(list)).unwrap()));
    let mut found = Vec::new();
    auth.check(&mut |field, message| found.push(format!("{field}: {message}")));
    assert!(found.is_empty(), "{found:?}");
    auth.prepare();
    let Auth::ApiKey(keys) = auth else {
        unreachable!()
    };
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&keys.compiled()).unwrap();
    let keys = rkyv::access::<ArchivedApiKeys, rkyv::rancor::Error>(&bytes).unwrap();
    assert_eq!(keys.withheld, "x-user-id,x-api-key");
    for n in 0..1000 {
        let key = keys
            .find(&sha256(&[format!("key {n}").as_bytes()]))
            .unwrap();
        assert_eq!(key.name, format!("k{n}"));
        assert_eq!(keys.allows(key), n % 2 == 0);
    }
    assert!(keys.find(&sha256(&[b"key 1000"])).is_none());
}

#[test]
fn api_keys_are_checked() {
    let hash = "ab".repeat(32);
    assert!(api_keys(json!([{"name": "a", "keyHash": "ab"}])).is_err());
    assert!(api_keys(json!([{"name": "a", "keyHash": "+b".repeat(32)}])).is_err());
    assert!(api_keys(json!([{"name": "a", "keyHash": "zz".repeat(32)}])).is_err());
    let list = json!([{"name": "a", "keyHash": hash}, {"name": "a", "keyHash": hash},
        {"name": " b", "keyHash": "cd".repeat(32)}]);
    let auth = Auth::ApiKey(Box::new(api_keys(list).unwrap()));
    let mut found = Vec::new();
    auth.check(&mut |field, _| found.push(field.to_owned()));
    let wanted = [
        "auth.apiKeys[1]",
        "auth.apiKeys[1].name",
        "auth.apiKeys[2].name",
    ];
    assert_eq!(found, wanted);
}
