//! A Redis Cluster of three primaries and three replicas: which node has a slot, moving a slot with its keys, and killing
//! members.

use super::Server;
use crate::clock;
use anyhow::{Context, ensure};
use std::{process::Command, time::Duration};
use voice_agent::config::redis::RedisConfig;

/// Long enough for two busy cores, short enough for a test: a dead primary is replaced after it.
const NODE_TIMEOUT_MS: &str = "3000";
const AGREED_WITHIN: Duration = Duration::from_secs(60);

/// Six servers, three of them primaries.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
}

/// A line of CLUSTER NODES.
#[derive(Debug, Clone)]
struct Line {
    port: u16,
    primary: bool,
    failed: bool,
    slots: Vec<(u16, u16)>,
}

impl Cluster {
    /// Starts and joins them; returns once every node sees all slots served.
    pub fn start() -> anyhow::Result<Cluster> {
        let mut nodes = Vec::new();
        for _ in 0..6 {
            let bus = super::free_port()?.to_string();
            nodes.push(Server::with(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                NODE_TIMEOUT_MS,
                "--cluster-replica-validity-factor",
                "0",
                "--appendonly",
                "no",
                "--repl-diskless-sync-delay",
                "0",
            ])?);
        }
        let cluster = Cluster { nodes };
        let mut create = Command::new("redis-cli");
        create
            .args(["--cluster", "create"])
            .args(cluster.nodes.iter().map(Server::address));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let out = create.output().context("run redis-cli --cluster create")?;
        ensure!(
            out.status.success(),
            "redis-cli --cluster create: {}",
            String::from_utf8_lossy(&out.stdout)
        );
        cluster.wait_whole()?;
        Ok(cluster)
    }

    /// Waits until every running node sees all slots served, and every replica follows its primary.
    pub fn wait_whole(&self) -> anyhow::Result<()> {
        let whole = |node: &Server| {
            let info = node.ask(&["CLUSTER", "INFO"]).unwrap_or_default();
            let role = node.ask(&["INFO", "replication"]).unwrap_or_default();
            info.contains("cluster_state:ok") && !role.contains("master_link_status:down")
        };
        let all = clock::poll(AGREED_WITHIN, || {
            let running = self.nodes.iter().filter(|n| n.child().is_some());
            running.clone().all(whole).then_some(())
        });
        all.context("the cluster is not whole in time")
    }

    /// Every node, as `store.redis.addresses` has them.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Server::address).collect()
    }

    /// The store's configuration for it.
    pub fn config(&self) -> RedisConfig {
        super::config(&self.addresses(), true)
    }

    /// Removes every key.
    pub fn empty(&self) -> anyhow::Result<()> {
        for node in self.primaries()? {
            node.ask(&["FLUSHALL"])?;
        }
        Ok(())
    }

    /// Every node.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The slot of a key, as Redis says.
    pub fn slot(&self, key: &str) -> anyhow::Result<u16> {
        Ok(self.any()?.ask(&["CLUSTER", "KEYSLOT", key])?.trim().parse()?)
    }

    /// The primary that has a slot.
    pub fn primary(&self, slot: u16) -> anyhow::Result<&Server> {
        let lines = self.lines()?;
        let has = |line: &&Line| {
            let holds = line.slots.iter().any(|(from, to)| (*from..=*to).contains(&slot));
            line.primary && !line.failed && holds
        };
        let line = lines.iter().find(has);
        self.node(
            line.with_context(|| format!("nobody has slot {slot}: {lines:?}"))?
                .port,
        )
    }

    /// The primaries that have slots.
    pub fn primaries(&self) -> anyhow::Result<Vec<&Server>> {
        let lines = self.lines()?;
        let own = lines
            .iter()
            .filter(|l| l.primary && !l.failed && !l.slots.is_empty());
        own.map(|line| self.node(line.port)).collect()
    }

    /// The replica of a primary.
    pub fn replica_of(&self, primary: &Server) -> anyhow::Result<&Server> {
        let id = primary.ask(&["CLUSTER", "MYID"])?;
        let follows = |node: &&Server| {
            let of = node.ask(&["CLUSTER", "NODES"]).unwrap_or_default();
            let own = of
                .lines()
                .find(|line| line.contains("myself"))
                .unwrap_or_default();
            own.split_whitespace().nth(3) == Some(id.trim())
        };
        self.nodes
            .iter()
            .find(follows)
            .context("the primary has no replica")
    }

    /// Moves a slot with its keys from one primary to another, as an operator does: IMPORTING, MIGRATING, the keys a few at a
    /// time with `between` after each step, NODE. How many keys were moved.
    pub fn migrate(&self, slot: u16, to: &Server, between: impl FnMut()) -> anyhow::Result<usize> {
        self.migrate_by(slot, to, 3, between)
    }

    /// The same, so many keys at a time.
    pub fn migrate_by(
        &self,
        slot: u16,
        to: &Server,
        at_once: usize,
        mut between: impl FnMut(),
    ) -> anyhow::Result<usize> {
        let from = self.primary(slot)?;
        let id = |server: &Server| -> anyhow::Result<String> {
            Ok(server.ask(&["CLUSTER", "MYID"])?.trim().to_owned())
        };
        let (source, target, number) = (id(from)?, id(to)?, slot.to_string());
        to.ask(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &source])?;
        from.ask(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &target])?;
        between();
        let (mut moved, port, at_once) = (0, to.port().to_string(), at_once.to_string());
        loop {
            let keys = from.ask(&["CLUSTER", "GETKEYSINSLOT", &number, &at_once])?;
            let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
            if keys.is_empty() {
                break;
            }
            let head = ["MIGRATE", "127.0.0.1", &port, "", "0", "10000", "KEYS"];
            from.ask(&[&head[..], &keys].concat())?;
            moved += keys.len();
            between();
        }
        let others = self
            .primaries()?
            .into_iter()
            .filter(|n| n.port() != to.port() && n.port() != from.port());
        for node in [to, from].into_iter().chain(others) {
            node.ask(&["CLUSTER", "SETSLOT", &number, "NODE", &target])?;
        }
        Ok(moved)
    }

    fn node(&self, port: u16) -> anyhow::Result<&Server> {
        let found = self.nodes.iter().find(|node| node.port() == port);
        found.with_context(|| format!("no node of ours has port {port}"))
    }

    /// A node that runs.
    fn any(&self) -> anyhow::Result<&Server> {
        let running = self.nodes.iter().find(|node| node.child().is_some());
        running.context("no node runs")
    }

    fn lines(&self) -> anyhow::Result<Vec<Line>> {
        let text = self.any()?.ask(&["CLUSTER", "NODES"])?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines
            .map(|text| line(text).with_context(|| format!("not a line of CLUSTER NODES: {text}")))
            .collect()
    }
}

/// `ID 127.0.0.1:PORT@BUS FLAGS PRIMARY PING PONG EPOCH LINK SLOT…`; slots on their way stand in brackets.
fn line(text: &str) -> Option<Line> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let address = words.get(1)?.split('@').next()?;
    let flags: Vec<&str> = words.get(2)?.split(',').collect();
    let slots = words.iter().skip(8).filter(|word| !word.starts_with('['));
    let range = |word: &&str| {
        let (from, to) = word.split_once('-').unwrap_or((word, word));
        Some((from.parse().ok()?, to.parse().ok()?))
    };
    Some(Line {
        port: address.rsplit(':').next()?.parse().ok()?,
        primary: flags.contains(&"master"),
        failed: flags.iter().any(|flag| flag.starts_with("fail")),
        slots: slots.map(range).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_cluster_is_understood_also_while_slots_move() {
        let text = "07c3 127.0.0.1:30004@31004 myself,master - 0 1426238317239 4 connected 0-5 7 [93-<-292f]";
        let read = line(text).unwrap();
        assert_eq!(
            (read.port, read.primary, read.failed, read.slots),
            (30004, true, false, vec![(0, 5), (7, 7)])
        );
        assert!(line("nonsense").is_none());
    }

    #[test]
    fn a_cluster_of_six_serves_every_slot_and_moves_one_with_its_keys() {
        let cluster = Cluster::start().unwrap();
        assert_eq!(cluster.primaries().unwrap().len(), 3);
        let slot = cluster.slot("{v07}:a").unwrap();
        let from = cluster.primary(slot).unwrap();
        from.ask(&["SET", "{v07}:a", "1"]).unwrap();
        let all = cluster.primaries().unwrap();
        let to = all.into_iter().find(|n| n.port() != from.port()).unwrap();
        assert_eq!(cluster.migrate(slot, to, || {}).unwrap(), 1);
        assert_eq!(to.ask(&["GET", "{v07}:a"]).unwrap().trim(), "1");
    }
}
