//! What a peer process is. What each role may say is the agent's to judge.

use std::{fmt, str::FromStr};

/// What a peer process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes clients in.
    Gateway,
    /// Carries the clients' signalling.
    Signalling,
    /// Serves rooms. Trusted: it may start rooms without a token and list what it serves.
    Media,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 3] = [Role::Gateway, Role::Signalling, Role::Media];

    /// The wire name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Gateway => "gateway",
            Role::Signalling => "signalling",
            Role::Media => "media",
        }
    }

    /// Whether it lets clients in, and so must know of every expired room.
    pub fn lets_clients_in(self) -> bool {
        matches!(self, Role::Gateway | Role::Signalling)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Role, String> {
        match text {
            "gateway" => Ok(Role::Gateway),
            "signalling" => Ok(Role::Signalling),
            "media" => Ok(Role::Media),
            _ => {
                let given: String = text.chars().take(80).collect();
                Err(format!(
                    "peer-role {given:?} is not valid: allowed are gateway, signalling, media"
                ))
            }
        }
    }
}
