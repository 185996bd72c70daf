//! A plain client of etcd for tests: reads and writes keys whatever they are, and waits for the answer.

use anyhow::Context;
use std::time::Duration;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use voice_agent::proto::{
    etcdserverpb::{
        CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp,
        TxnRequest, kv_client::KvClient, lease_client::LeaseClient, request_op::Request,
    },
    mvccpb::KeyValue,
};

/// How long etcd may take, on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// One connection.
#[derive(Debug)]
pub struct Direct {
    runtime: Runtime,
    channel: Channel,
}

impl Direct {
    /// Connects when it is first used.
    pub fn to(endpoint: &str) -> anyhow::Result<Direct> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?.timeout(DEADLINE);
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        Ok(Direct { runtime, channel })
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    /// Every key that begins so, in order.
    pub fn list(&self, prefix: &str) -> anyhow::Result<Vec<KeyValue>> {
        let mut end = prefix.as_bytes().to_vec();
        // Prefixes end with a character that is not the last one there is.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let request = RangeRequest {
            key: prefix.into(),
            range_end: end,
            ..RangeRequest::default()
        };
        let answer = self
            .runtime
            .block_on(self.kv().range(request))
            .context("list keys")?;
        Ok(answer.into_inner().kvs)
    }

    /// One key.
    pub fn get(&self, key: &str) -> anyhow::Result<Option<KeyValue>> {
        let request = RangeRequest {
            key: key.into(),
            ..RangeRequest::default()
        };
        let answer = self
            .runtime
            .block_on(self.kv().range(request))
            .context("read a key")?;
        Ok(answer.into_inner().kvs.pop())
    }

    /// Writes a key on a lease (0: none); the revision.
    pub fn put(&self, key: &str, value: &[u8], lease: i64) -> anyhow::Result<i64> {
        let request = PutRequest {
            key: key.into(),
            value: value.into(),
            lease,
        };
        let answer = self
            .runtime
            .block_on(self.kv().put(request))
            .context("write a key")?;
        Ok(answer
            .into_inner()
            .header
            .context("an answer without a header")?
            .revision)
    }

    /// Deletes a key; the revision.
    pub fn delete(&self, key: &str) -> anyhow::Result<i64> {
        let delete = voice_agent::proto::etcdserverpb::DeleteRangeRequest {
            key: key.into(),
            ..Default::default()
        };
        let request = TxnRequest {
            success: vec![RequestOp {
                request: Some(Request::RequestDeleteRange(delete)),
            }],
            ..TxnRequest::default()
        };
        let answer = self
            .runtime
            .block_on(self.kv().txn(request))
            .context("delete a key")?;
        Ok(answer
            .into_inner()
            .header
            .context("an answer without a header")?
            .revision)
    }

    /// Forgets the history before a revision.
    pub fn compact(&self, revision: i64) -> anyhow::Result<()> {
        let request = CompactionRequest {
            revision,
            physical: true,
        };
        self.runtime
            .block_on(self.kv().compact(request))
            .context("compact")?;
        Ok(())
    }

    /// A new lease.
    pub fn grant(&self, ttl: Duration) -> anyhow::Result<i64> {
        let request = LeaseGrantRequest {
            ttl: i64::try_from(ttl.as_secs())?,
            id: 0,
        };
        let mut leases = LeaseClient::new(self.channel.clone());
        Ok(self
            .runtime
            .block_on(leases.lease_grant(request))
            .context("grant a lease")?
            .into_inner()
            .id)
    }

    /// Ends a lease and deletes its keys, as etcd does by itself when it is not renewed.
    pub fn revoke(&self, lease: i64) -> anyhow::Result<()> {
        let mut leases = LeaseClient::new(self.channel.clone());
        let request = LeaseRevokeRequest { id: lease };
        self.runtime
            .block_on(leases.lease_revoke(request))
            .context("revoke a lease")?;
        Ok(())
    }
}
