use super::*;
use std::{fs, os::unix::fs::PermissionsExt as _};

const SECRET: &[u8] = b"a-secret-of-more-than-thirty-two-characters";
const NOW: Wall = Wall(1_800_000_000_000);
const BODY: &[u8] = br#"{"event":"room_started"}"#;

fn ours() -> Credentials {
    Credentials::new("APIkey", SECRET)
}

/// A token of these claims, signed by `credentials` under this header.
fn token(credentials: &Credentials, header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signature = hmac::sign(&credentials.secret, format!("{header}.{claims}").as_bytes());
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn claims() -> Value {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, BODY));
    json!({ "iss": "APIkey", "nbf": 1_799_999_990, "exp": 1_800_000_300, "sha256": hash })
}

fn hs256() -> Value {
    json!({ "alg": "HS256", "typ": "JWT" })
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn verify(claims: &Value) -> Result<(), Refused> {
    ours().verify(&token(&ours(), &hs256(), claims), BODY, NOW)
}

#[test]
fn a_token_for_this_body_holds_and_for_any_other_body_does_not() {
    assert_eq!(verify(&claims()), Ok(()));
    let good = token(&ours(), &hs256(), &claims());
    assert_eq!(
        ours().verify(&good, br#"{"event":"room_finished"}"#, NOW),
        Err(Refused::Body)
    );
    assert_eq!(verify(&with("sha256", Value::Null)), Err(Refused::Body));
}

#[test]
fn a_signature_of_another_secret_or_over_other_claims_does_not_hold() {
    let other = Credentials::new("APIkey", b"another-secret-of-more-than-thirty-two-chars");
    let forged = token(&other, &hs256(), &claims());
    assert_eq!(ours().verify(&forged, BODY, NOW), Err(Refused::Signature));
    let good = token(&ours(), &hs256(), &claims());
    let later = URL_SAFE_NO_PAD.encode(with("exp", json!(9_999_999_999_u64)).to_string());
    let parts: Vec<&str> = good.split('.').collect();
    let changed = format!("{}.{later}.{}", parts[0], parts[2]);
    assert_eq!(ours().verify(&changed, BODY, NOW), Err(Refused::Signature));
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    assert_eq!(ours().verify(&unsigned, BODY, NOW), Err(Refused::Signature));
}

#[test]
fn another_algorithm_does_not_hold_whatever_its_signature() {
    for alg in ["none", "HS512", "RS256", "hs256"] {
        let other = token(&ours(), &json!({ "alg": alg }), &claims());
        assert_eq!(ours().verify(&other, BODY, NOW), Err(Refused::Algorithm), "{alg}");
    }
}

#[test]
fn a_token_of_another_key_does_not_hold_although_the_secret_is_the_same() {
    assert_eq!(verify(&with("iss", json!("APIother"))), Err(Refused::Key));
}

#[test]
fn a_token_holds_until_a_minute_after_its_end_and_from_a_minute_before_its_begin() {
    let seconds = NOW.0 / 1000;
    assert_eq!(verify(&with("exp", json!(seconds - 59))), Ok(()));
    assert_eq!(verify(&with("exp", json!(seconds - 60))), Err(Refused::Expired));
    assert_eq!(verify(&with("nbf", json!(seconds + 60))), Ok(()));
    assert_eq!(verify(&with("nbf", json!(seconds + 61))), Err(Refused::NotYet));
}

#[test]
fn what_is_no_token_is_refused_and_never_panics() {
    let long = "a".repeat(MAX_TOKEN + 1);
    for text in ["", ".", "..", "...", "a.b.c", "é.é.é", "e30.e30.e30", &long] {
        let refused = ours().verify(text, BODY, NOW).unwrap_err();
        assert!(matches!(refused, Refused::Malformed(_)), "{text:?}: {refused}");
    }
    let no_claims = token(&ours(), &hs256(), &json!([]));
    assert!(matches!(
        ours().verify(&no_claims, BODY, NOW),
        Err(Refused::Malformed(_))
    ));
}

#[test]
fn a_grant_is_signed_for_a_minute_and_says_what_is_allowed() {
    let granted = ours().grant(&json!({ "roomList": true }), NOW);
    let parts: Vec<&str> = granted.split('.').collect();
    let claims: Value = part(parts[1]).unwrap();
    assert_eq!(claims["iss"], "APIkey");
    assert_eq!(claims["exp"], 1_800_000_060);
    assert_eq!(claims["video"]["roomList"], true);
    // It is signed: only the body's hash is missing.
    assert_eq!(ours().verify(&granted, BODY, NOW), Err(Refused::Body));
}

#[test]
fn the_secret_is_never_shown() {
    let shown = format!("{:?}", ours());
    assert!(shown.contains("APIkey") && !shown.contains("a-secret"), "{shown}");
}

#[test]
fn a_secret_is_read_from_a_file_that_others_cannot_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mode = |mode| fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
    fs::write(file.path(), [SECRET, b"\n"].concat()).unwrap();
    mode(0o640);
    let read = Credentials::read("APIkey", file.path()).unwrap();
    assert_eq!(
        read.verify(&token(&ours(), &hs256(), &claims()), BODY, NOW),
        Ok(())
    );
    mode(0o644);
    let open = Credentials::read("APIkey", file.path()).unwrap_err();
    assert!(open.contains("chmod o="), "{open}");
    mode(0o600);
    fs::write(file.path(), "short\n").unwrap();
    let short = Credentials::read("APIkey", file.path()).unwrap_err();
    assert!(
        short.contains("at least 32") && !short.contains("short"),
        "{short}"
    );
}
