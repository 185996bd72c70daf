//! `token check`: what the agent would say of a host device token.

use super::{Code, Failure, args::TokenCommand, output::Output};
use crate::tokens::{MAX_TOKEN, Tokens, Verified};
use humantime::format_duration;
use std::{
    io::{self, Read},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use voice_room::{RoomId, Wall};

pub(super) fn token(tokens: &Tokens, out: Output, command: &TokenCommand) -> Result<String, Failure> {
    let TokenCommand::Check { room } = command;
    let given = read(io::stdin().lock())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Wall(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    check(tokens, out, room, given.trim(), now)
}

fn read(stdin: impl Read) -> Result<String, Failure> {
    // A newline more than the longest token.
    let mut given = String::new();
    let most = MAX_TOKEN as u64 + 2;
    stdin
        .take(most)
        .read_to_string(&mut given)
        .map_err(|e| Failure::new(Code::Failed, format!("reading the token from stdin: {e}")))?;
    Ok(given)
}

fn check(tokens: &Tokens, out: Output, room: &RoomId, given: &str, now: Wall) -> Result<String, Failure> {
    let given = Some(given).filter(|given| !given.is_empty());
    match tokens.verify(given, room, now) {
        Ok(verified) => {
            let left = verified.expires.0.saturating_sub(now.0);
            let report = serde_json::json!({
                "room": room,
                "host": verified.host,
                "key": verified.key,
                "algorithm": verified.algorithm.name(),
                "left_ms": left,
            });
            out.print(&report, |_, _| said(&verified, room, left))
        }
        Err(refused) => Err(Failure {
            reason: Some(refused.code().into()),
            ..Failure::new(Code::Failed, format!("host device token: {refused}"))
        }),
    }
}

fn said(verified: &Verified, room: &RoomId, left_ms: u64) -> String {
    let Verified {
        host, key, algorithm, ..
    } = verified;
    let left = match left_ms / 1000 {
        0 => "it has expired, and holds for tokens.leeway only".into(),
        left => format!("it expires in {}", format_duration(Duration::from_secs(left))),
    };
    format!("The token holds: {host} is the host of {room}, by key {key} ({algorithm}); {left}.\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tests::{NOW, hs256, room, token_of};

    #[test]
    fn a_token_that_holds_is_told_with_its_host_its_key_and_its_time() {
        let tokens = hs256();
        let given = token_of("r-1", "alice", 91);
        let said = check(&tokens, Output::plain(), &room("r-1"), &given, NOW).unwrap();
        assert_eq!(
            said,
            "The token holds: alice is the host of r-1, by key main (HS256); it expires in 1m 30s.\n"
        );
    }

    #[test]
    fn one_that_does_not_is_told_with_its_reason_and_fails() {
        let tokens = hs256();
        let given = token_of("r-2", "alice", 90);
        let failure = check(&tokens, Output::plain(), &room("r-1"), &given, NOW).unwrap_err();
        assert_eq!(failure.code, Code::Failed);
        assert_eq!(failure.reason.as_deref(), Some("wrong_room"));
        let nothing = check(&tokens, Output::plain(), &room("r-1"), "", NOW).unwrap_err();
        assert_eq!(nothing.reason.as_deref(), Some("not_given"));
    }

    #[test]
    fn no_more_is_read_than_the_longest_token() {
        let endless = io::repeat(b'x');
        let failure = check(
            &hs256(),
            Output::plain(),
            &room("r-1"),
            &read(endless).unwrap(),
            NOW,
        );
        assert!(failure.unwrap_err().message.contains("at most 8192 bytes"));
    }
}
