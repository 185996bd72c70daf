//! Identifiers as types: made valid once, at the edge, and cheap to clone ever after.

use alloc::{string::String, sync::Arc};
use core::{fmt, ops::Deref};
use serde::{Deserialize, Serialize};

/// Why a text is not an identifier. Says what was given and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {given:?} is not valid: allowed are {allowed}")]
pub struct IdError {
    /// The kind of identifier, as a person calls it ("room id").
    pub kind: &'static str,
    /// The offending text, cut to 80 characters.
    pub given: String,
    /// The allowed form.
    pub allowed: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $allowed:literal, $ok:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest identifier of this kind, in bytes.
            pub const MAX_LEN: usize = $max;

            /// Checks `text`; the only way to make one.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let ok: fn(u8) -> bool = $ok;
                if text.is_empty() || text.len() > $max || !text.bytes().all(ok) {
                    let given = text.chars().take(80).collect();
                    return Err(IdError { kind: $kind, given, allowed: $allowed });
                }
                Ok(Self(text.into()))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl core::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                (*id.0).into()
            }
        }
    };
}

id!(
    /// A room, over all its lives.
    RoomId, "room id", 64, "1 to 64 characters of A-Z a-z 0-9 . _ -",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
);
id!(
    /// A member of a room, host or audience.
    ClientId, "client id", 128, "1 to 128 visible ASCII characters", |b| b.is_ascii_graphic()
);
id!(
    /// A peer process on the session stream: a gateway, signalling or media server.
    PeerId, "peer id", 128, "1 to 128 visible ASCII characters", |b| b.is_ascii_graphic()
);
id!(
    /// A source of media facts: `janus` for the adapter, `peer/PEER-ID` for a media server on the session stream.
    SourceId, "source id", 160, "1 to 160 visible ASCII characters", |b| b.is_ascii_graphic()
);
id!(
    /// An agent's node.
    NodeName, "node name", 128, "1 to 128 visible ASCII characters", |b| b.is_ascii_graphic()
);
id!(
    /// One intended change, for idempotence: the same op_id is applied once.
    OpId, "op_id", 128, "1 to 128 visible ASCII characters", |b| b.is_ascii_graphic()
);
impl OpId {
    /// The `n`th change the owner under `epoch` decided by itself. Epochs are never reused, so neither are these.
    pub fn generated(epoch: crate::Epoch, n: u64) -> OpId {
        OpId::made(format_args!("agent/{epoch}/{n}"))
    }

    /// The same where others write to the same store: `run` is that of one start of one agent.
    pub fn of_run(run: u64, n: u64) -> OpId {
        OpId::made(format_args!("agent/{run:016x}/{n}"))
    }

    /// In one piece of memory, that is not moved while it grows: a storm makes thousands.
    fn made(name: fmt::Arguments<'_>) -> OpId {
        let mut text = String::with_capacity(OpId::MAX_LEN);
        // Writing to a text never fails.
        let _ = fmt::Write::write_fmt(&mut text, name);
        OpId(text.into())
    }
}

id!(
    /// A W3C trace id (32 hexadecimal digits).
    TraceId, "trace id", 32, "1 to 32 hexadecimal digits", |b| b.is_ascii_hexdigit()
);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn a_room_id_of_64_allowed_characters_is_taken_and_65_or_a_slash_is_refused_with_the_rule() {
        assert!(RoomId::new(&"a".repeat(64)).is_ok());
        assert!(RoomId::new(&"a".repeat(65)).is_err());
        let said = format!("{}", RoomId::new("a/b").unwrap_err());
        assert_eq!(
            said,
            "room id \"a/b\" is not valid: allowed are 1 to 64 characters of A-Z a-z 0-9 . _ -"
        );
    }

    #[test]
    fn an_invalid_id_in_json_does_not_become_a_value() {
        assert!(serde_json::from_str::<RoomId>("\"a b\"").is_err());
        assert_eq!(serde_json::from_str::<RoomId>("\"a-b\"").unwrap().as_str(), "a-b");
    }
}
