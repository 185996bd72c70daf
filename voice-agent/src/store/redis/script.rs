//! The scripts, each run by its hash; a server that does not have it, after a restart or SCRIPT FLUSH, is sent it whole.

use super::{link::Link, problem::Problem};
use redis::{Cmd, Value};
use std::sync::LazyLock;

/// Most calls have not more arguments, and not more bytes: then their memory is taken once.
const ARGS: usize = 40;
const BYTES: usize = 1024;

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
    SERVED "served.lua" "The word of an agent without a lease that it serves a room."
    READ "read.lua" "A room's record."
    SURVEY "survey.lua" "All that is stored of a room."
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
        let fill = |cmd: &mut Cmd| {
            cmd.arg(&call.keys).arg(&call.args);
        };
        self.send(link, call.keys.len(), fill).await
    }

    /// Runs it with so many keys; `fill` writes these and then the arguments.
    pub(super) async fn send(
        &self,
        link: &Link,
        keys: usize,
        fill: impl Fn(&mut Cmd),
    ) -> Result<Value, Problem> {
        match link.call(&self.call(keys, &fill)).await {
            Err(Problem::NoScript) => link.call(&command("EVAL", self.body, keys, &fill)).await,
            other => other,
        }
    }

    /// The call by its hash.
    pub(super) fn call(&self, keys: usize, fill: impl Fn(&mut Cmd)) -> Cmd {
        command("EVALSHA", &self.hash, keys, fill)
    }
}

fn command(name: &str, script: &str, keys: usize, fill: impl Fn(&mut Cmd)) -> Cmd {
    let mut cmd = Cmd::with_capacity(ARGS, BYTES + script.len());
    cmd.arg(name).arg(script).arg(keys);
    fill(&mut cmd);
    cmd
}
