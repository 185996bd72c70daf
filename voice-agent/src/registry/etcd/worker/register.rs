//! This agent's own key on its lease, which tells others that it lives, and that no other has its name.

use super::{
    State,
    step::{Failed, until_lost},
};
use crate::{
    proto::etcdserverpb as pb,
    registry::etcd::{
        records::{self, Agent},
        txn,
    },
};

impl State {
    /// Puts this agent's own key on the lease. One that another agent of our name holds is not taken from it.
    pub(super) async fn register(&mut self, lease: i64) -> Result<(), Failed> {
        let key = records::agent_key(&self.worker.me.node);
        let mut expected = self
            .view
            .agents
            .get(&self.worker.me.node)
            .map_or(0, |agent| agent.revision);
        let client = self.worker.link.client().await?;
        loop {
            let request = pb::TxnRequest {
                compare: vec![txn::changed_at(&key, expected)],
                success: vec![txn::put(key.clone(), records::write(&self.worker.agent), lease)],
                failure: vec![txn::get(key.clone())],
            };
            // What is there may be another agent's only in the view.
            if let Some(agent) = self.view.agents.get(&self.worker.me.node)
                && agent.revision == expected
                && agent.value.identity != self.worker.agent.identity
            {
                return Err(Failed::Barred(self.twin(&agent.value)));
            }
            let answer = until_lost(client.txn(request), &mut self.leases).await?;
            if answer.succeeded {
                return Ok(());
            }
            let found = answer
                .responses
                .into_iter()
                .next()
                .and_then(|response| match response.response {
                    Some(pb::response_op::Response::ResponseRange(mut range)) => range.kvs.pop(),
                    _ => None,
                });
            expected = match found {
                None => 0,
                Some(kv) => match records::read::<Agent>(&kv) {
                    Ok(agent) if agent.identity == self.worker.agent.identity => kv.mod_revision,
                    Ok(agent) => return Err(Failed::Barred(self.twin(&agent))),
                    Err(foreign) => return Err(Failed::Barred(foreign.to_string())),
                },
            };
        }
    }

    fn twin(&self, other: &Agent) -> String {
        format!(
            "another agent is registered as node {} ({}, listening on {}): give each node a name of its own (node.name); if it \
             was this host before a reboot, its lease ends by itself",
            self.worker.me.node, other.identity, other.address
        )
    }
}
