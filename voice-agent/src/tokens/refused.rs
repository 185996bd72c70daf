//! Why a token does not hold, in words for the one who sent it and for the one who is called at night.

use crate::telemetry::Counter;
use jsonwebtoken::errors::{Error, ErrorKind};
use voice_room::RoomId;

/// What is wrong with a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There are no keys.
    #[error("no host-token keys are configured (tokens.keys); only trusted sources may start rooms")]
    NoKeys,
    /// There is no token.
    #[error("none was given: START_LIVE and HOST_RETURN need `token`, except from a media server")]
    NotGiven,
    /// It is not a JWT.
    #[error("it is not a token that can be read: {0}")]
    Malformed(String),
    /// Its algorithm is not that of a key.
    #[error("its algorithm is {given}: {problem}; allowed are HS256 and EdDSA, as the key says")]
    Algorithm {
        /// As it says.
        given: String,
        /// What does not fit.
        problem: String,
    },
    /// It names a key that is not there.
    #[error("its key `kid` {0:?} is not among the configured ones")]
    UnknownKey(String),
    /// It was changed, or signed with another key.
    #[error("its signature is wrong: it was changed on the way, or signed with another key")]
    Signature,
    /// It does not say what it must.
    #[error("its claim `{0}` is missing")]
    MissingClaim(&'static str),
    /// It says something that cannot be understood.
    #[error("{0}")]
    Claim(String),
    /// It is over.
    #[error("it expired {0}")]
    Expired(String),
    /// It does not hold yet.
    #[error("it does not hold yet: {0}")]
    NotYet(String),
    /// It is for another room than this.
    #[error("it was issued for another room than {0}")]
    WrongRoom(RoomId),
    /// It is of another issuer.
    #[error("its issuer `iss` is not the one in tokens.issuer")]
    Issuer,
    /// It is for others.
    #[error("its audience `aud` does not have the one in tokens.audience")]
    Audience,
}

/// What was given is cut to so many characters.
const GIVEN_MAX: usize = 64;

impl Refused {
    pub(super) fn algorithm(given: impl std::fmt::Debug, problem: &str) -> Refused {
        Refused::Algorithm {
            given: format!("{given:?}").chars().take(GIVEN_MAX).collect(),
            problem: problem.into(),
        }
    }

    pub(super) fn unknown_key(kid: &str) -> Refused {
        Refused::UnknownKey(kid.chars().take(GIVEN_MAX).collect())
    }

    /// A stable name, for programs.
    pub fn code(&self) -> &'static str {
        self.told().0
    }

    /// What counts it.
    pub fn counter(&self) -> Counter {
        self.told().1
    }

    fn told(&self) -> (&'static str, Counter) {
        match self {
            Refused::NoKeys => ("no_keys", Counter::TokenNoKeys),
            Refused::NotGiven => ("not_given", Counter::TokenNotGiven),
            Refused::Malformed(_) => ("malformed", Counter::TokenMalformed),
            Refused::Algorithm { .. } => ("algorithm", Counter::TokenAlgorithm),
            Refused::UnknownKey(_) => ("unknown_key", Counter::TokenUnknownKey),
            Refused::Signature => ("signature", Counter::TokenSignature),
            Refused::MissingClaim(_) | Refused::Claim(_) => ("claims", Counter::TokenClaims),
            Refused::Expired(_) => ("expired", Counter::TokenExpired),
            Refused::NotYet(_) => ("not_yet", Counter::TokenNotYet),
            Refused::WrongRoom(_) => ("wrong_room", Counter::TokenWrongRoom),
            Refused::Issuer | Refused::Audience => ("issuer_or_audience", Counter::TokenIssuerOrAudience),
        }
    }
}

/// A header that cannot be read; most often it names an algorithm, like `none`, that is none of ours.
pub(super) fn of_header(token: &str, error: &Error) -> Refused {
    match error.kind() {
        ErrorKind::Json(e) if e.to_string().starts_with("unknown variant") => {
            Refused::algorithm(algorithm_of(token), "that is none for tokens here")
        }
        ErrorKind::Json(e) => Refused::Malformed(format!("its header: {e}")),
        ErrorKind::Base64(e) => Refused::Malformed(format!("its header is not base64url: {e}")),
        _ => Refused::Malformed("a JWT has three parts with dots between them".into()),
    }
}

/// Signed or not: what the signature covers is told only in kinds, never in values.
pub(super) fn of_body(error: &Error) -> Refused {
    match error.kind() {
        ErrorKind::Base64(e) => Refused::Malformed(format!("it is not base64url: {e}")),
        ErrorKind::Json(e) if e.is_data() => Refused::Claim(
            "its claims are of the wrong kind: `exp`, `nbf` and `iat` are numbers, `room`, `sub` and `iss` texts, `aud` a text \
             or a list of texts, each once"
                .into(),
        ),
        ErrorKind::Json(e) => Refused::Malformed(format!("its claims are not JSON: line {}", e.line())),
        other => Refused::Malformed(format!("{other:?}")),
    }
}

/// What an unreadable header says of its algorithm, for the message only.
fn algorithm_of(token: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap_or_default();
    header["alg"].as_str().unwrap_or("of another kind").to_owned()
}
