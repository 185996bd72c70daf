//! The transactions: many rooms in one, each with a comparison of its own, so that one room's conflict is not another's.
//! Built and read here; what the answers mean is in `claims`.

use super::{
    records::{self, Owner, Room, Status},
    wire::Client,
};
use crate::proto::{
    etcdserverpb::{
        self as pb, Compare,
        compare::{CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
    },
    mvccpb::KeyValue,
};
use voice_room::RoomId;

/// Parts in one transaction, by weight ([`Part::operations`]). etcd allows 128 operations (`--max-txn-ops`), and counts the parts and
/// on top the most that one of them has. Large ones, because etcd 3.4 copies its read buffer for each: 1.4 MB once it held 20,000
/// deleted keys, and others notice the garbage (`cargo xtask bench recovery`).
pub(super) const OPERATIONS: usize = 120;

const _: () = assert!(OPERATIONS + 3 <= 128, "a part has up to three operations");

/// One room's part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Own the room, if its key was last changed at `compare` (0: there is none).
    Claim {
        room: RoomId,
        owner: Owner,
        compare: i64,
    },
    /// Own the room to end it, if nobody owns it.
    Custody {
        room: RoomId,
        owner: Owner,
        status: Status,
    },
    /// Tell of the room, if it is still held by the claim of revision `held`, and what was told last is of `compare`.
    Describe {
        room: RoomId,
        told: Room,
        held: i64,
        compare: i64,
    },
    /// Tell for a while that the room is served less well, if it is still held by the claim of revision `held`.
    Degraded { room: RoomId, status: Status, held: i64 },
    /// Give the room up, if it is still held by the claim of revision `held`.
    Cede { room: RoomId, held: i64 },
}

/// What became of a part.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Done {
    /// Written, at the transaction's revision.
    Written,
    /// Not written; what stands under the owner's key, and under the room's for `Describe`.
    Differs(Option<KeyValue>, Option<KeyValue>),
}

impl Part {
    pub(super) fn room(&self) -> &RoomId {
        match self {
            Part::Claim { room, .. }
            | Part::Custody { room, .. }
            | Part::Describe { room, .. }
            | Part::Degraded { room, .. }
            | Part::Cede { room, .. } => room,
        }
    }

    /// What it counts in a transaction: etcd is busy with it for about so long, and others wait behind it.
    pub(super) fn operations(&self) -> usize {
        match self {
            Part::Claim { .. } => 1,
            Part::Custody { .. } | Part::Describe { .. } | Part::Degraded { .. } | Part::Cede { .. } => 2,
        }
    }

    /// Whether it needs the lease for statuses.
    pub(super) fn has_status(&self) -> bool {
        matches!(self, Part::Custody { .. } | Part::Degraded { .. })
    }

    fn request(&self, lease: i64, status_lease: i64) -> pb::TxnRequest {
        let (room, mut failure) = (self.room(), vec![get(records::owner_key(self.room()))]);
        let owner = records::owner_key(room);
        let (compare, success) = match self {
            Part::Claim {
                owner: value,
                compare,
                ..
            } => (
                vec![changed_at(&owner, *compare)],
                vec![put(owner, records::write(value), lease)],
            ),
            Part::Custody {
                owner: value, status, ..
            } => {
                let status = put(records::status_key(room), records::write(status), status_lease);
                (
                    vec![changed_at(&owner, 0)],
                    vec![put(owner, records::write(value), lease), status],
                )
            }
            Part::Describe {
                told, held, compare, ..
            } => {
                let key = records::room_key(room);
                failure.push(get(key.clone()));
                let compares = vec![changed_at(&owner, *held), changed_at(&key, *compare)];
                (compares, vec![put(key, records::write(told), lease)])
            }
            Part::Degraded { status, held, .. } => {
                let status = put(records::status_key(room), records::write(status), status_lease);
                (vec![changed_at(&owner, *held)], vec![status])
            }
            Part::Cede { held, .. } => {
                let keys = [owner.clone(), records::room_key(room), records::status_key(room)];
                (vec![changed_at(&owner, *held)], keys.map(delete).into())
            }
        };
        pb::TxnRequest {
            compare,
            success,
            failure,
        }
    }
}

/// Carries out all parts in one transaction. The revision, and of each part what became of it, in order.
pub(super) async fn carry_out(
    client: &Client,
    parts: &[Part],
    lease: i64,
    status_lease: i64,
) -> Result<(i64, Vec<Done>), super::EtcdError> {
    let parts_of = parts
        .iter()
        .map(|part| op(Request::RequestTxn(part.request(lease, status_lease))));
    let request = pb::TxnRequest {
        compare: Vec::new(),
        success: parts_of.collect(),
        failure: Vec::new(),
    };
    let answer = client.txn(request).await?;
    let malformed = || {
        super::EtcdError::new(
            "transaction",
            client.member(),
            super::Cause::Malformed,
            "the answer has not the parts of the question",
        )
    };
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    let done: Option<Vec<Done>> = answer.responses.into_iter().map(done).collect();
    let done = done.filter(|done| done.len() == parts.len() && revision > 0);
    done.map(|done| (revision, done)).ok_or_else(malformed)
}

fn done(response: pb::ResponseOp) -> Option<Done> {
    let Some(Response::ResponseTxn(txn)) = response.response else {
        return None;
    };
    if txn.succeeded {
        return Some(Done::Written);
    }
    let mut found = txn.responses.into_iter().map(|response| match response.response {
        Some(Response::ResponseRange(mut range)) => range.kvs.pop(),
        _ => None,
    });
    Some(Done::Differs(found.next().flatten(), found.next().flatten()))
}

pub(super) fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

pub(super) fn put(key: Vec<u8>, value: Vec<u8>, lease: i64) -> pb::RequestOp {
    op(Request::RequestPut(pb::PutRequest { key, value, lease }))
}

pub(super) fn get(key: Vec<u8>) -> pb::RequestOp {
    op(Request::RequestRange(pb::RangeRequest {
        key,
        ..pb::RangeRequest::default()
    }))
}

fn delete(key: Vec<u8>) -> pb::RequestOp {
    op(Request::RequestDeleteRange(pb::DeleteRangeRequest {
        key,
        ..pb::DeleteRangeRequest::default()
    }))
}

/// Holds when the key was last changed at this revision; 0: when it is not there.
pub(super) fn changed_at(key: &[u8], revision: i64) -> Compare {
    Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.to_vec(),
        target_union: Some(TargetUnion::ModRevision(revision)),
    }
}
