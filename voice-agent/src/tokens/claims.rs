//! What a token whose signature holds must say. Time is an argument.

use super::{Refused, Tokens};
use humantime::format_duration;
use serde::Deserialize;
use std::time::Duration;
use voice_room::{ClientId, RoomId, Wall};

/// The claims that are looked at; others are ignored, as RFC 7519 says. A claim that is null counts as missing.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    /// The room.
    room: Option<String>,
    /// The host's client id.
    sub: Option<String>,
    /// NumericDate: seconds since the Unix epoch, a fraction is allowed.
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
}

/// RFC 7519, 4.1.3: one, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn has(&self, name: &str) -> bool {
        match self {
            Audience::One(one) => one == name,
            Audience::Several(all) => all.iter().any(|one| one == name),
        }
    }
}

impl Tokens {
    /// The host, and until when.
    pub(super) fn holds(
        &self,
        claims: &Claims,
        room: &RoomId,
        now: Wall,
    ) -> Result<(ClientId, Wall), Refused> {
        let of_room = claims.room.as_deref().ok_or(Refused::MissingClaim("room"))?;
        let host = claims.sub.as_deref().ok_or(Refused::MissingClaim("sub"))?;
        let expires = claims.exp.ok_or(Refused::MissingClaim("exp"))?;
        self.parties_agree(claims)?;
        self.in_time(claims, expires, now)?;
        if of_room != room.as_str() {
            return Err(Refused::WrongRoom(room.clone()));
        }
        let host = ClientId::new(host).map_err(|e| Refused::Claim(format!("`sub` is the host: {e}")))?;
        Ok((host, Wall(millis(expires))))
    }

    /// RFC 7519: who is not among the audience must refuse; without a configured audience, every one is taken.
    fn parties_agree(&self, claims: &Claims) -> Result<(), Refused> {
        if let Some(issuer) = &self.issuer {
            match &claims.iss {
                None => return Err(Refused::MissingClaim("iss")),
                Some(iss) if iss != issuer => return Err(Refused::Issuer),
                Some(_) => {}
            }
        }
        if let Some(audience) = &self.audience {
            match &claims.aud {
                None => return Err(Refused::MissingClaim("aud")),
                Some(aud) if !aud.has(audience) => return Err(Refused::Audience),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn in_time(&self, claims: &Claims, expires: f64, now: Wall) -> Result<(), Refused> {
        let (now_s, leeway) = (now.0 as f64 / 1000.0, self.leeway.as_secs_f64());
        if expires + leeway <= now_s {
            return Err(Refused::Expired(format!(
                "{} ago (`exp` {expires}, this node's clock {}, tokens.leeway {})",
                for_people(now_s - expires),
                now_s as u64,
                format_duration(self.leeway),
            )));
        }
        for (claim, from) in [("nbf", claims.nbf), ("iat", claims.iat)] {
            if let Some(from) = from.filter(|from| *from > now_s + leeway) {
                return Err(Refused::NotYet(format!(
                    "`{claim}` lies {} ahead of this node's clock, tokens.leeway is {}: is a clock wrong?",
                    for_people(from - now_s),
                    format_duration(self.leeway),
                )));
            }
        }
        Ok(())
    }
}

/// Milliseconds since the Unix epoch. Casting saturates, so that the far future is the end of time.
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

fn for_people(seconds: f64) -> String {
    format_duration(Duration::from_secs(seconds as u64)).to_string()
}
