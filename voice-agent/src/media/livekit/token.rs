//! The JWTs between LiveKit and us: those that its webhooks bring, and those that we ask its server API with. Both are signed with
//! the API secret (HS256). Pure: time is an argument. The secret is never shown.

use crate::config::read_secret;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{digest, hmac};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{fmt, path::Path};
use voice_room::Wall;

/// The longest token taken; LiveKit's have about 300 bytes.
const MAX_TOKEN: usize = 8192;
/// How far clocks may be apart, in seconds: what LiveKit's own receivers grant.
const LEEWAY: u64 = 60;
/// How long a token of ours is good for, in seconds: for one question, and clocks that are apart.
const LASTS: u64 = 60;
/// RFC 7518, 3.2: a key of HS256 has at least the 256 bits of its hash.
const MIN_SECRET: usize = 32;

/// An API key of LiveKit's configuration and its secret.
pub struct Credentials {
    key: String,
    secret: hmac::Key,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Why a webhook's token does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not three parts of base64 with JSON in two of them, or too long.
    #[error("the token is no JWT of at most {MAX_TOKEN} bytes: {0}")]
    Malformed(&'static str),
    /// Another algorithm than LiveKit signs with.
    #[error("the token's algorithm is not HS256")]
    Algorithm,
    /// Signed with another secret.
    #[error("the token's signature is not of livekit.api_secret_file")]
    Signature,
    /// The API key is not ours.
    #[error("the token's `iss` is not livekit.api_key")]
    Key,
    /// Over.
    #[error("the token has expired; clocks may be {LEEWAY} s apart")]
    Expired,
    /// Not begun.
    #[error("the token's `nbf` lies ahead; clocks may be {LEEWAY} s apart")]
    NotYet,
    /// Signed for other bytes, or for none.
    #[error("the token's `sha256` is not that of the body")]
    Body,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    sha256: Option<String>,
}

impl Credentials {
    /// From a key and the file of its secret: one line of visible ASCII, which others than owner and group cannot read.
    ///
    /// # Errors
    /// What is wrong with the file, and what is allowed.
    pub fn read(key: &str, file: &Path) -> Result<Credentials, String> {
        let wrong = |problem: String| format!("{}: {problem}", file.display());
        let bytes = read_secret(file).map_err(|error| wrong(error.to_string()))?;
        let line = bytes.trim_ascii_end();
        if line.len() < MIN_SECRET || !line.iter().all(u8::is_ascii_graphic) {
            let allowed = format!("allowed is one line of at least {MIN_SECRET} visible ASCII characters");
            return Err(wrong(allowed));
        }
        Ok(Credentials::new(key, line))
    }

    /// From a key and its secret.
    pub fn new(key: &str, secret: &[u8]) -> Credentials {
        Credentials {
            key: key.to_owned(),
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// A token that allows what `video` grants.
    pub fn grant(&self, video: &Value, now: Wall) -> String {
        let now = now.0 / 1000;
        let claims =
            json!({ "iss": self.key, "nbf": now.saturating_sub(LEEWAY), "exp": now + LASTS, "video": video });
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = hmac::sign(&self.secret, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Whether `token` says, now, that LiveKit posts this body.
    ///
    /// # Errors
    /// The first thing that is wrong with it. Nothing of what it says is looked at before its signature holds.
    pub fn verify(&self, token: &str, body: &[u8], now: Wall) -> Result<(), Refused> {
        if token.len() > MAX_TOKEN {
            return Err(Refused::Malformed("it is longer"));
        }
        let (signed, signature) = token
            .rsplit_once('.')
            .ok_or(Refused::Malformed("it has no parts"))?;
        let (header, claims) = signed
            .split_once('.')
            .ok_or(Refused::Malformed("it has two parts"))?;
        let header: Header = part(header)?;
        if header.alg != "HS256" {
            return Err(Refused::Algorithm);
        }
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| Refused::Signature)?;
        // In constant time.
        hmac::verify(&self.secret, signed.as_bytes(), &signature).map_err(|_| Refused::Signature)?;
        self.holds(&part(claims)?, body, now.0 / 1000)
    }

    fn holds(&self, claims: &Claims, body: &[u8], now: u64) -> Result<(), Refused> {
        if claims.iss != self.key {
            return Err(Refused::Key);
        }
        if claims.exp.saturating_add(LEEWAY) <= now {
            return Err(Refused::Expired);
        }
        if claims.nbf > now.saturating_add(LEEWAY) {
            return Err(Refused::NotYet);
        }
        let hash = digest::digest(&digest::SHA256, body);
        match &claims.sha256 {
            Some(claimed) if *claimed == STANDARD.encode(hash) => Ok(()),
            _ => Err(Refused::Body),
        }
    }
}

/// A part of a token as JSON.
fn part<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, Refused> {
    let bytes = URL_SAFE_NO_PAD.decode(text);
    let bytes = bytes.map_err(|_| Refused::Malformed("a part is no base64 for URLs without padding"))?;
    serde_json::from_slice(&bytes).map_err(|_| Refused::Malformed("a part is not the JSON it has to be"))
}

#[cfg(test)]
mod tests;
