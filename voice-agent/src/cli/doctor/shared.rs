//! What agents share: whether the store and the registry answer, and whether the two fit together. Neither is needed for a cut.

use super::Finding;
use crate::{
    cli::text,
    config::{Config, RegistryKind, StoreKind},
    proto::admin::StatusResponse,
    registry::etcd,
    store::Redis,
};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn check(config: &Config, agent: Option<&StatusResponse>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.store.kind == StoreKind::Redis {
        findings.push(store(&addresses(config), ping(config).await));
        findings.extend(agent.and_then(|agent| lost(agent.store_lost_records)));
    }
    if config.registry.kind == RegistryKind::Etcd {
        let members = config.registry.etcd.endpoints.join(", ");
        let asked = tokio::time::timeout(PATIENCE, etcd::probe(&config.registry.etcd));
        let answer = asked.await.unwrap_or_else(|_| Err("no answer in time".into()));
        findings.push(registry(&members, answer));
    }
    findings.extend(together(config.store.kind, config.registry.kind));
    findings
}

fn addresses(config: &Config) -> String {
    let all: Vec<String> = config
        .store
        .redis
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    all.join(", ")
}

async fn ping(config: &Config) -> Result<Duration, String> {
    let redis = Redis::open(&config.store.redis).map_err(|error| error.to_string())?;
    match tokio::time::timeout(PATIENCE, redis.ping()).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".into()),
    }
}

fn store(addresses: &str, answer: Result<Duration, String>) -> Finding {
    let check = "shared store";
    match answer {
        Ok(took) => {
            let took = took.as_secs_f64() * 1000.0;
            Finding::ok(check, format!("redis at {addresses} answers in {took:.1} ms"))
        }
        Err(problem) => Finding::fail(
            check,
            format!("redis at {addresses}: {problem}"),
            "bring it back, or mend store.redis.*; meanwhile stuck rooms are cut all the same, and changes wait on this node",
        ),
    }
}

/// What the agent found missing of what Redis had taken.
fn lost(records: u64) -> Option<Finding> {
    let advice = "it was emptied, came back without its data or evicts keys: see that it keeps them (appendonly yes, \
                  maxmemory-policy noeviction)";
    let said = || {
        let records = text::many(records, "record");
        format!("lost {records} of live rooms since the agent started; each was put back")
    };
    (records > 0).then(|| Finding::warn("records in the shared store", said(), advice))
}

fn registry(members: &str, answer: Result<(), String>) -> Finding {
    let check = "registry";
    match answer {
        Ok(()) => Finding::ok(check, format!("etcd at {members} answers")),
        Err(problem) => Finding::fail(
            check,
            format!("etcd at {members}: {problem}"),
            "bring it back, or mend registry.etcd.*; meanwhile stuck rooms are cut all the same, and changes wait on this node",
        ),
    }
}

fn together(store: StoreKind, registry: RegistryKind) -> Option<Finding> {
    let check = "store and registry";
    match (store, registry) {
        (StoreKind::Redis, RegistryKind::Local) => Some(Finding::warn(
            check,
            "Redis with a local registry: only for one node",
            "with more than one agent on this Redis set registry.kind = \"etcd\": else two may write to one room",
        )),
        // etcd with an embedded store is refused by the configuration.
        (StoreKind::Embedded, _) | (StoreKind::Redis, RegistryKind::Etcd) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn redis_with_a_local_registry_is_said_to_be_for_one_node_only() {
        let found = together(StoreKind::Redis, RegistryKind::Local).unwrap();
        assert_eq!(found.level, Level::Warn);
        assert!(found.said.contains("only for one node"), "{}", found.said);
        assert!(found.advice.unwrap().contains("registry.kind = \"etcd\""));
        assert_eq!(together(StoreKind::Redis, RegistryKind::Etcd), None);
        assert_eq!(together(StoreKind::Embedded, RegistryKind::Local), None);
    }

    #[test]
    fn a_store_that_lost_records_is_told_of_with_how_it_keeps_them() {
        assert_eq!(lost(0), None);
        let found = lost(2).unwrap();
        assert_eq!(found.level, Level::Warn);
        assert!(found.said.contains("lost 2 records"), "{}", found.said);
        assert!(found.advice.unwrap().contains("noeviction"));
    }

    #[test]
    fn a_store_or_registry_that_is_away_fails_and_says_what_goes_on_without_it() {
        let away = || Err("connection refused".to_string());
        for found in [
            store("redis:6379", away()),
            registry("http://etcd:2379", away().map(drop)),
        ] {
            assert_eq!(found.level, Level::Fail);
            assert!(found.said.contains("connection refused"), "{}", found.said);
            assert!(found.advice.unwrap().contains("cut all the same"));
        }
        assert_eq!(store("redis:6379", Ok(Duration::from_millis(1))).level, Level::Ok);
    }
}
