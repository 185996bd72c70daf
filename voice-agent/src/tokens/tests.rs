//! Every token that must not hold, and those that must. Tests sign; the agent never does.

use super::*;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// 2026-11-22, in the middle of a second.
pub(crate) const NOW: Wall = Wall(1_795_363_200_500);
const SECRET: &str = "a-secret-of-more-than-thirty-two-characters";
const OTHER_SECRET: &str = "another-secret-of-more-than-32-characters";

pub(crate) fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let body = format!("{}.{}", encoded(header), encoded(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(body.as_bytes()));
    format!("{body}.{signature}")
}

fn by_secret(secret: &'static str) -> impl Fn(&[u8]) -> Vec<u8> {
    move |message| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::sign(&key, message).as_ref().to_vec()
    }
}

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn by_pair(message: &[u8]) -> Vec<u8> {
    pair().sign(message).as_ref().to_vec()
}

fn public_pem() -> String {
    let mut der = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    der.extend(pair().public_key().as_ref());
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}

fn seconds(from_now: i64) -> i64 {
    i64::try_from(NOW.0 / 1000).unwrap() + from_now
}

fn claims() -> Value {
    json!({ "room": "r-1", "sub": "alice", "exp": seconds(90) })
}

fn hs(header: &Value, claims: &Value) -> String {
    signed(header, claims, by_secret(SECRET))
}

/// What [`hs256`] takes.
pub(crate) fn token_of(room: &str, host: &str, lasts: i64) -> String {
    let claims = json!({ "room": room, "sub": host, "exp": seconds(lasts) });
    hs(&json!({ "alg": "HS256", "kid": "main" }), &claims)
}

/// As [`token_of`], from the real clock on. `ZERO`: it expired an hour ago.
pub(crate) fn token_lasting(room: &str, host: &str, lasts: Duration) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let exp = match lasts {
        Duration::ZERO => now.as_secs() - 3600,
        lasts => (now + lasts).as_secs(),
    };
    let claims = json!({ "room": room, "sub": host, "exp": exp });
    hs(&json!({ "alg": "HS256", "kid": "main" }), &claims)
}

fn config(dir: &Path, keys: &[(&str, &str, &str)]) -> TokensConfig {
    let file = |(id, algorithm, content): &(&str, &str, &str)| {
        let path = dir.join(id);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        format!("{id}:{algorithm}:{}", path.display()).parse().unwrap()
    };
    TokensConfig {
        keys: keys.iter().map(file).collect(),
        issuer: None,
        audience: None,
        leeway: Duration::from_secs(60),
    }
}

fn with(keys: &[(&str, &str, &str)], change: impl Fn(&mut TokensConfig)) -> Tokens {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), keys);
    change(&mut config);
    Tokens::load(&config).unwrap()
}

/// One key of HS256, `main`.
pub(crate) fn hs256() -> Tokens {
    with(&[("main", "HS256", SECRET)], |_| {})
}

fn both() -> Tokens {
    let keys = [
        ("main", "HS256", SECRET),
        ("old", "HS256", OTHER_SECRET),
        ("ed", "EdDSA", &public_pem()),
    ];
    with(&keys, |_| {})
}

fn verify(tokens: &Tokens, token: &str) -> Result<Verified, Refused> {
    tokens.verify(Some(token), &room("r-1"), NOW)
}

fn refused(token: &str) -> Refused {
    verify(&both(), token).unwrap_err()
}

#[test]
fn a_token_of_each_algorithm_holds_and_says_who_the_host_is_and_until_when() {
    let tokens = both();
    let hs = verify(&tokens, &token_of("r-1", "alice", 90)).unwrap();
    assert_eq!((hs.host.as_str(), hs.key.as_str()), ("alice", "main"));
    assert_eq!(hs.expires, Wall(NOW.0 - 500 + 90_000));
    let header = json!({ "alg": "EdDSA", "kid": "ed", "typ": "JWT" });
    let ed = verify(&tokens, &signed(&header, &claims(), by_pair)).unwrap();
    assert_eq!((ed.key.as_str(), ed.algorithm), ("ed", Algorithm::EdDsa));
}

#[test]
fn the_token_that_the_protocol_document_shows_holds() {
    let document = include_str!("../../../docs/PROTOCOL.md");
    let shown = document.split("```json\n").nth(1).unwrap();
    let mut lines = shown
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (header, claims) = (lines.next().unwrap(), lines.next().unwrap());
    let tokens = with(&[("2026-11", "EdDSA", &public_pem())], |_| {});
    let verified = verify(&tokens, &signed(&header, &claims, by_pair)).unwrap();
    assert_eq!(
        (verified.host.as_str(), verified.key.as_str()),
        ("alice", "2026-11")
    );
    for language in ["go", "java"] {
        let fence = format!("```{language}\n");
        assert!(!document.contains(&fence), "nothing here compiles {language}");
    }
}

#[test]
fn a_token_without_a_kid_is_tried_with_every_key_of_its_algorithm() {
    let old = signed(&json!({ "alg": "HS256" }), &claims(), by_secret(OTHER_SECRET));
    assert_eq!(verify(&both(), &old).unwrap().key, "old");
    let ed = signed(&json!({ "alg": "EdDSA" }), &claims(), by_pair);
    assert_eq!(verify(&both(), &ed).unwrap().key, "ed");
    let said = verify(&hs256(), &ed).unwrap_err();
    assert_eq!(said.code(), "algorithm", "{said}");
}

#[test]
fn without_keys_no_token_holds_and_with_keys_none_is_not_enough() {
    let nobody = Tokens::default().verify(Some(&token_of("r-1", "a", 9)), &room("r-1"), NOW);
    assert!(
        nobody
            .unwrap_err()
            .to_string()
            .contains("only trusted sources may start rooms")
    );
    assert_eq!(both().verify(None, &room("r-1"), NOW), Err(Refused::NotGiven));
}

#[test]
fn a_token_for_another_room_is_refused_without_naming_that_room() {
    let said = refused(&token_of("secret-room", "alice", 90));
    assert_eq!(said, Refused::WrongRoom(room("r-1")));
    assert_eq!(said.to_string(), "it was issued for another room than r-1");
}

#[test]
fn an_expired_token_is_refused_and_told_by_how_much_and_the_leeway_counts() {
    let said = refused(&token_of("r-1", "alice", -73)).to_string();
    assert!(said.starts_with("it expired 1m 13s ago"), "{said}");
    assert!(verify(&both(), &token_of("r-1", "alice", -59)).is_ok());
    assert_eq!(refused(&token_of("r-1", "alice", -60)).code(), "expired");
    let strict = with(&[("main", "HS256", SECRET)], |c| c.leeway = Duration::ZERO);
    assert!(verify(&strict, &token_of("r-1", "alice", 1)).is_ok());
    assert_eq!(
        verify(&strict, &token_of("r-1", "alice", 0)).unwrap_err().code(),
        "expired"
    );
}

#[test]
fn a_token_that_holds_only_later_is_refused_and_one_that_holds_for_ages_is_not() {
    for claim in ["nbf", "iat"] {
        let mut early = claims();
        early[claim] = json!(seconds(62));
        let said = refused(&hs(&json!({ "alg": "HS256" }), &early)).to_string();
        assert!(said.contains(claim) && said.contains("1m 1s ahead"), "{said}");
        early[claim] = json!(seconds(59));
        assert!(verify(&both(), &hs(&json!({ "alg": "HS256" }), &early)).is_ok());
    }
    let mut ages = claims();
    for exp in [json!(1e18), json!(u64::MAX), json!(seconds(90) as f64 + 0.25)] {
        ages["exp"] = exp;
        assert!(verify(&both(), &hs(&json!({ "alg": "HS256" }), &ages)).is_ok());
    }
}

#[test]
fn a_wrong_signature_is_refused_with_and_without_a_kid() {
    for header in [
        json!({ "alg": "HS256" }),
        json!({ "alg": "HS256", "kid": "main" }),
    ] {
        let forged = signed(
            &header,
            &claims(),
            by_secret("not-a-secret-that-is-configured-anywhere"),
        );
        assert_eq!(refused(&forged), Refused::Signature);
    }
    // Signed well, but by the other key than its kid says.
    let kid = json!({ "alg": "HS256", "kid": "main" });
    assert_eq!(
        refused(&signed(&kid, &claims(), by_secret(OTHER_SECRET))),
        Refused::Signature
    );
    let good = token_of("r-1", "alice", 90);
    let (body, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = body.split_once('.').unwrap();
    let others = encoded(&json!({ "room": "r-1", "sub": "mallory", "exp": seconds(90) }));
    assert_eq!(
        refused(&format!("{header}.{others}.{signature}")),
        Refused::Signature
    );
    assert_eq!(refused(&format!("{body}.")), Refused::Signature);
    let short = &signature[..20];
    assert_eq!(refused(&format!("{body}.{short}")), Refused::Signature);
}

#[test]
fn the_algorithm_is_that_of_the_key_and_none_is_none() {
    for alg in ["none", "None", "NONE", "HS384", "RS256", "ES256", "", "hs256"] {
        for kid in [None, Some("main"), Some("ed")] {
            let header = json!({ "alg": alg, "kid": kid });
            for sign in [
                &by_pair as &dyn Fn(&[u8]) -> Vec<u8>,
                &by_secret(SECRET),
                &|_: &[u8]| vec![],
            ] {
                let said = refused(&signed(&header, &claims(), sign));
                assert_eq!(said.code(), "algorithm", "{alg} {kid:?}: {said}");
            }
        }
    }
    // The public key, which is no secret, taken for one.
    let public = pair().public_key().as_ref().to_vec();
    for secret in [public, public_pem().into_bytes()] {
        let sign = |message: &[u8]| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message)
                .as_ref()
                .to_vec()
        };
        let confused = signed(&json!({ "alg": "HS256", "kid": "ed" }), &claims(), sign);
        assert_eq!(refused(&confused).code(), "algorithm");
        let confused = signed(&json!({ "alg": "HS256" }), &claims(), sign);
        assert_eq!(refused(&confused), Refused::Signature);
    }
    let without = signed(&json!({ "kid": "main" }), &claims(), by_secret(SECRET));
    assert_eq!(refused(&without).code(), "malformed");
}

#[test]
fn an_unknown_kid_is_refused_and_named_cut() {
    let kid = "k".repeat(1000);
    let said = refused(&hs(&json!({ "alg": "HS256", "kid": kid }), &claims()));
    assert_eq!(said, Refused::UnknownKey("k".repeat(64)));
}

#[test]
fn a_missing_claim_is_named_and_one_of_the_wrong_kind_told_without_its_value() {
    for claim in ["exp", "room", "sub"] {
        for nothing in [false, true] {
            let mut without = claims();
            without[claim] = Value::Null;
            if nothing {
                without.as_object_mut().unwrap().remove(claim);
            }
            let said = refused(&hs(&json!({ "alg": "HS256" }), &without));
            assert_eq!(said, Refused::MissingClaim(claim));
        }
        let mut wrong = claims();
        wrong[claim] = json!({ "hidden": 1 });
        let said = refused(&hs(&json!({ "alg": "HS256" }), &wrong));
        assert_eq!(said.code(), "claims");
        assert!(!said.to_string().contains("hidden"));
    }
    for (claim, value) in [
        ("exp", json!("99999999999")),
        ("nbf", json!("0")),
        ("iat", json!(true)),
    ] {
        let mut wrong = claims();
        wrong[claim] = value;
        assert_eq!(
            refused(&hs(&json!({ "alg": "HS256" }), &wrong)).code(),
            "claims",
            "{claim}"
        );
    }
    let mut nobody = claims();
    nobody["sub"] = json!("a b");
    assert!(
        refused(&hs(&json!({ "alg": "HS256" }), &nobody))
            .to_string()
            .contains("client id")
    );
}

#[test]
fn issuer_and_audience_are_looked_at_when_they_are_configured() {
    let tokens = with(&[("main", "HS256", SECRET)], |c| {
        c.issuer = Some("shop".into());
        c.audience = Some("voice".into());
    });
    let with = |iss: Value, aud: Value| {
        let mut claims = claims();
        claims["iss"] = iss;
        claims["aud"] = aud;
        let token = hs(&json!({ "alg": "HS256" }), &claims);
        assert!(verify(&hs256(), &token).is_ok(), "not configured, not looked at");
        verify(&tokens, &token).map(|_| ())
    };
    assert_eq!(with(json!("shop"), json!("voice")), Ok(()));
    assert_eq!(with(json!("shop"), json!(["a", "voice"])), Ok(()));
    assert_eq!(with(json!("other"), json!("voice")), Err(Refused::Issuer));
    assert_eq!(with(json!("shop"), json!(["a"])), Err(Refused::Audience));
    assert_eq!(
        with(Value::Null, json!("voice")),
        Err(Refused::MissingClaim("iss"))
    );
    assert_eq!(
        with(json!("shop"), Value::Null),
        Err(Refused::MissingClaim("aud"))
    );
}

#[test]
fn what_is_no_token_is_refused_as_malformed() {
    let good = token_of("r-1", "alice", 90);
    let (body, _) = good.rsplit_once('.').unwrap();
    let no_json = format!("{}.e30.e30", URL_SAFE_NO_PAD.encode("{"));
    let long = "x".repeat(MAX_TOKEN + 1);
    for bad in [
        "",
        "x",
        "..",
        "a.b.c.d",
        body,
        &no_json,
        &long,
        &format!("{good}="),
        &format!("{good}.x"),
    ] {
        assert_eq!(refused(bad).code(), "malformed", "{bad}");
    }
    let critical = hs(
        &json!({ "alg": "HS256", "crit": ["b64"], "b64": false }),
        &claims(),
    );
    assert_eq!(refused(&critical).code(), "malformed");
}

#[test]
fn every_broken_key_is_reported_at_once_and_a_secret_stands_in_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHUSH\n-----END PRIVATE KEY-----\n";
    let rsa = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----\n";
    let mut config = config(
        dir.path(),
        &[
            ("short", "HS256", "hush-31-characters-are-not-enou\n"),
            ("binary", "HS256", "hush hush hush hush hush hush hush hush"),
            ("huge", "HS256", &"hush".repeat(3000)),
            ("open", "HS256", SECRET),
            ("private", "EdDSA", private),
            ("rsa", "EdDSA", rsa),
            ("writable", "EdDSA", &public_pem()),
            ("fine", "HS256", "exactly-32-characters-are-enough\r\n"),
        ],
    );
    fs::set_permissions(dir.path().join("open"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(dir.path().join("writable"), fs::Permissions::from_mode(0o646)).unwrap();
    for (name, at) in [
        ("missing", dir.path().join("missing")),
        ("directory", dir.path().to_owned()),
    ] {
        config
            .keys
            .push(format!("{name}:HS256:{}", at.display()).parse().unwrap());
    }
    nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    config.keys.push(
        format!("pipe:EdDSA:{}/pipe", dir.path().display())
            .parse()
            .unwrap(),
    );
    let mistakes = Tokens::load(&config).unwrap_err();
    let expected = [
        ("short", "at least 32 visible"),
        ("binary", "at least 32 visible"),
        ("huge", "longer than 8192"),
        (
            "open",
            "mode 0644: everybody on this host gets at the secret; chmod o= ",
        ),
        ("private", "holds a private key"),
        ("rsa", "does not hold an Ed25519 public key"),
        (
            "writable",
            "mode 0646: everybody on this host can put another key there",
        ),
        ("missing", "cannot be read"),
        ("directory", "is not a file"),
        ("pipe", "is not a file"),
    ];
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
    for (mistake, (id, problem)) in mistakes.iter().zip(expected) {
        assert!(mistake.key.starts_with(&format!("{id}:")), "{mistake:?}");
        assert!(mistake.problem.contains(problem), "{mistake:?}");
        assert!(
            !mistake.problem.contains("hush") && !mistake.problem.contains("HUSH"),
            "{mistake:?}"
        );
    }
}

#[test]
fn keys_do_not_show_their_secrets() {
    assert!(!format!("{:?}", both()).contains("secret-of"));
    let bytes = format!("{:?}", SECRET.as_bytes());
    assert!(!format!("{:?}", both()).contains(bytes.trim_matches(['[', ']'])));
}

#[test]
fn a_secret_ends_before_the_newline_of_its_line() {
    let tokens = with(&[("main", "HS256", &format!("{SECRET}\n"))], |_| {});
    assert!(verify(&tokens, &token_of("r-1", "alice", 90)).is_ok());
}

proptest! {
    #[test]
    fn garbage_never_panics_and_never_holds(token in "\\PC*|[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}") {
        prop_assert!(verify(&hs256(), &token).is_err());
    }

    #[test]
    fn a_token_with_one_character_changed_never_holds(at in 0usize..200, to in "[A-Za-z0-9_.-]") {
        let good = token_of("r-1", "alice", 90);
        let at = at % good.len();
        let mut changed = good.clone();
        changed.replace_range(at..=at, &to);
        prop_assert!(changed == good || verify(&hs256(), &changed).is_err());
    }

    #[test]
    fn any_claims_are_judged_without_a_panic(exp in any::<f64>(), nbf in any::<f64>(), iat in any::<i64>()) {
        let mut odd = claims();
        (odd["exp"], odd["nbf"], odd["iat"]) = (json!(exp), json!(nbf), json!(iat));
        let _ = verify(&both(), &hs(&json!({ "alg": "HS256" }), &odd));
    }
}
