//! The scripts, each run by its hash; a server that does not have it, after a restart or SCRIPT FLUSH, is sent it whole.

use super::{link::Link, problem::Problem};
use redis::{Cmd, Value};
use std::sync::LazyLock;

/// One script.
pub(super) struct Script {
    body: &'static str,
    hash: String,
}

macro_rules! scripts {
    ($($name:ident $file:literal $doc:literal)*) => {
        $(
            #[doc = $doc]
            pub(super) static $name: LazyLock<Script> =
                LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file))));
        )*
    };
}

scripts! {
    TRANSITION "transition.lua" "One change of a room."
    REFRESH "refresh.lua" "The owner's word that a room is still its."
    READ "read.lua" "A room's record."
    ISOLATION "isolation.lua" "A room's isolation."
    MEMBERS "members.lua" "Clients that joined and left."
    TRIM "trim.lua" "Cuts what is too old of a stream."
}

/// Keys and arguments of a call.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) keys: Vec<String>,
    pub(super) args: Vec<String>,
}

impl Script {
    fn new(body: &'static str) -> Script {
        let hash = redis::Script::new(body).get_hash().to_owned();
        Script { body, hash }
    }

    /// By which it is called.
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// Runs it.
    pub(super) async fn run(&self, link: &Link, call: &Call) -> Result<Value, Problem> {
        match link.call(&command("EVALSHA", &self.hash, call)).await {
            Err(Problem::NoScript) => link.call(&command("EVAL", self.body, call)).await,
            other => other,
        }
    }
}

fn command(name: &str, script: &str, call: &Call) -> Cmd {
    let mut cmd = redis::cmd(name);
    cmd.arg(script)
        .arg(call.keys.len())
        .arg(&call.keys)
        .arg(&call.args);
    cmd
}
