//! Host device tokens: JWTs that say which client is the host of which room, verified against the configured keys. Pure
//! but for reading the key files at a start and a reload; minting them is the business's (docs/PROTOCOL.md has the claims).

mod claims;
mod key;
mod provider;
mod refused;

pub use key::{Algorithm, KeyFile, KeyMistake};
pub use refused::Refused;

use crate::config::TokensConfig;
use jsonwebtoken::{Header, decode, decode_header, errors::ErrorKind};
use key::Key;
use std::time::Duration;
use voice_room::{ClientId, RoomId, Wall};

/// The longest token, in bytes. A JWT with our claims has about 300; the bound keeps what a peer makes us parse small.
pub const MAX_TOKEN: usize = 8192;

/// The keys, and what a token must say besides. Without keys (the default) no token holds. A changed file
/// counts from the next start or reload on, which makes this anew.
#[derive(Debug, Default)]
pub struct Tokens {
    keys: Vec<Key>,
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Duration,
}

/// What a token that holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The host, claim `sub`.
    pub host: ClientId,
    /// Until when, claim `exp`, without the leeway.
    pub expires: Wall,
    /// The id of the key that signed it.
    pub key: String,
    /// The key's algorithm.
    pub algorithm: Algorithm,
}

impl Tokens {
    /// Reads every key file.
    ///
    /// # Errors
    /// Every key that cannot be used.
    pub fn load(config: &TokensConfig) -> Result<Tokens, Vec<KeyMistake>> {
        provider::install();
        let (mut keys, mut mistakes) = (Vec::new(), Vec::new());
        for file in &config.keys {
            match key::read(file) {
                Ok(key) => keys.push(key),
                Err(problem) => mistakes.push(KeyMistake {
                    key: file.to_string(),
                    problem,
                }),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Tokens {
            keys,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: config.leeway,
        })
    }

    /// The keys' ids and algorithms.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = (&str, Algorithm)> {
        self.keys.iter().map(|key| (key.id.as_str(), key.algorithm))
    }

    /// Whether `token` says, now, who the host of `room` is. The algorithm is the key's: what the token says of it must
    /// agree.
    ///
    /// # Errors
    /// The first thing that is wrong with it. Of what it says, nothing is told before its signature holds.
    pub fn verify(&self, token: Option<&str>, room: &RoomId, now: Wall) -> Result<Verified, Refused> {
        if self.keys.is_empty() {
            return Err(Refused::NoKeys);
        }
        let token = token.ok_or(Refused::NotGiven)?;
        if token.len() > MAX_TOKEN {
            return Err(Refused::Malformed(format!(
                "at most {MAX_TOKEN} bytes are allowed"
            )));
        }
        let header = decode_header(token).map_err(|e| refused::of_header(token, &e))?;
        for key in self.candidates(&header)? {
            match decode(token, &key.secret, &key.validation) {
                Ok(data) => {
                    let (host, expires) = self.holds(&data.claims, room, now)?;
                    return Ok(Verified {
                        host,
                        expires,
                        key: key.id.clone(),
                        algorithm: key.algorithm,
                    });
                }
                Err(e) if *e.kind() == ErrorKind::InvalidSignature => {}
                Err(e) => return Err(refused::of_body(&e)),
            }
        }
        Err(Refused::Signature)
    }

    /// The key the token names; if it names none, every key of its algorithm. Never empty.
    fn candidates(&self, header: &Header) -> Result<Vec<&Key>, Refused> {
        // RFC 7515, 4.1.11: who does not understand what is critical must refuse it. We understand none.
        if header.crit.is_some() {
            return Err(Refused::Malformed(
                "its header has `crit`; no extension is known here".into(),
            ));
        }
        let fits = |key: &&Key| header.alg == key.algorithm.of_jwt();
        let Some(kid) = &header.kid else {
            let all: Vec<&Key> = self.keys.iter().filter(fits).collect();
            if all.is_empty() {
                return Err(Refused::algorithm(header.alg, "no key for it is configured"));
            }
            return Ok(all);
        };
        let named = self.keys.iter().find(|key| key.id == *kid);
        let named = named.ok_or_else(|| Refused::unknown_key(kid))?;
        if !fits(&named) {
            let is_for = format!("the key its `kid` names is for {}", named.algorithm);
            return Err(Refused::algorithm(header.alg, &is_for));
        }
        Ok(vec![named])
    }
}

#[cfg(test)]
pub(crate) mod tests;
