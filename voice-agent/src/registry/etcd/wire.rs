//! One connection to one etcd member: requests with a deadline, and the two streams. Nothing is retried here; who uses it
//! decides, and takes the next member.
//!
//! Why not the crate etcd-client: building it needs a protoc, and its streams do not tell what we judge a lease by.

use super::{
    error::{Cause, EtcdError, in_full},
    settings::Settings,
};
use crate::{proto::etcdserverpb as pb, telemetry::counters::Counter};
use pb::{
    auth_client::AuthClient, kv_client::KvClient, lease_client::LeaseClient, watch_client::WatchClient,
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// How long etcd may take to answer, where no lease says otherwise.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// A watch may tell of a lease with 10,000 keys that ended, in one message.
const LARGEST_ANSWER: usize = 64 << 20;
/// Requests of ours that may wait in a stream; each is answered before the next.
const STREAM: usize = 4;

/// The member that is spoken to, and the one to turn to when it fails.
#[derive(Debug)]
pub(super) struct Link {
    settings: Arc<Settings>,
    /// Whose turn it is.
    at: usize,
    client: Option<Client>,
}

impl Link {
    /// Begins with the member at `first`, counted round.
    pub(super) fn new(settings: Arc<Settings>, first: usize) -> Link {
        Link {
            settings,
            at: first,
            client: None,
        }
    }

    /// The connection there is, or a new one.
    pub(super) async fn client(&mut self) -> Result<Client, EtcdError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let connected = Client::connect(&self.settings, self.at).await;
        if connected.is_err() {
            self.failed();
        }
        let client = connected?;
        Counter::RegistryConnected.count();
        self.client = Some(client.clone());
        Ok(client)
    }

    /// The connection is of no use any more; the next member's turn.
    pub(super) fn failed(&mut self) {
        self.client = None;
        self.at = self.at.wrapping_add(1);
    }
}

/// Adds what each request carries.
#[derive(Debug, Clone)]
struct Head {
    token: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Head {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        // A member without a leader then says so, rather than being silent.
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        Ok(request)
    }
}

type Service = InterceptedService<Channel, Head>;

/// A connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Client {
    member: Arc<str>,
    channel: Service,
}

/// What goes out on a stream, and what comes back.
pub(super) type Stream<Out, In> = (mpsc::Sender<Out>, Streaming<In>);

impl Client {
    /// Connects to the member at `at`, counted round, and logs in if a user is configured.
    async fn connect(settings: &Settings, at: usize) -> Result<Client, EtcdError> {
        let member = settings.members.get(at % settings.members.len().max(1));
        let member = member
            .ok_or_else(|| EtcdError::new("connect", "", Cause::Unreachable, "no member is configured"))?;
        let unreachable = |error: tonic::transport::Error| {
            let problem = in_full(&error);
            EtcdError::new("connect", &member.name, Cause::Unreachable, problem)
        };
        let channel = match tokio::time::timeout(DEADLINE, member.endpoint.connect()).await {
            Ok(connected) => connected.map_err(unreachable)?,
            Err(_) => return Err(late("connect", &member.name, DEADLINE)),
        };
        let token = match &settings.user {
            None => None,
            Some((name, password)) => {
                let request = pb::AuthenticateRequest {
                    name: name.clone(),
                    password: password.0.clone(),
                };
                let mut auth = AuthClient::new(channel.clone());
                let answer = answer("log in", &member.name, DEADLINE, auth.authenticate(request)).await?;
                let token = answer.token.parse();
                Some(token.map_err(|_| {
                    EtcdError::new("log in", &member.name, Cause::Malformed, "the token is not text")
                })?)
            }
        };
        Ok(Client {
            member: member.name.as_str().into(),
            channel: InterceptedService::new(channel, Head { token }),
        })
    }

    /// The member's endpoint.
    pub(super) fn member(&self) -> &str {
        &self.member
    }

    fn kv(&self) -> KvClient<Service> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    fn lease(&self) -> LeaseClient<Service> {
        LeaseClient::new(self.channel.clone())
    }

    /// Reads keys, at the newest revision unless one is given; linearizable.
    pub(super) async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, EtcdError> {
        answer("read", &self.member, DEADLINE, self.kv().range(request)).await
    }

    /// A transaction.
    pub(super) async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, EtcdError> {
        answer("transaction", &self.member, DEADLINE, self.kv().txn(request)).await
    }

    /// A new lease: its id and the TTL that etcd gives it, which may be longer.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<(i64, Duration), EtcdError> {
        let what = "grant a lease";
        let request = pb::LeaseGrantRequest {
            ttl: i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX),
            id: 0,
        };
        let granted = answer(what, &self.member, DEADLINE, self.lease().lease_grant(request)).await?;
        match u64::try_from(granted.ttl) {
            Ok(ttl) if ttl > 0 && granted.id != 0 && granted.error.is_empty() => {
                Ok((granted.id, Duration::from_secs(ttl)))
            }
            _ => {
                let problem = format!("id {}, TTL {}, {:?}", granted.id, granted.ttl, granted.error);
                Err(EtcdError::new(what, &self.member, Cause::Malformed, problem))
            }
        }
    }

    /// A stream on which leases are renewed; the first request is sent with it.
    pub(super) async fn keep_alive(
        &self,
        first: pb::LeaseKeepAliveRequest,
        deadline: Duration,
    ) -> Result<Stream<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse>, EtcdError> {
        let (to, requests) = begun(first);
        let mut lease = self.lease();
        let from = answer(
            "renew the lease",
            &self.member,
            deadline,
            lease.lease_keep_alive(requests),
        )
        .await?;
        Ok((to, from))
    }

    /// A stream of a watch.
    pub(super) async fn watch(
        &self,
        create: pb::WatchCreateRequest,
    ) -> Result<Stream<pb::WatchRequest, pb::WatchResponse>, EtcdError> {
        let create = pb::watch_request::RequestUnion::CreateRequest(create);
        let (to, requests) = begun(pb::WatchRequest {
            request_union: Some(create),
        });
        let mut watch = WatchClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER);
        let from = answer("watch", &self.member, DEADLINE, watch.watch(requests)).await?;
        Ok((to, from))
    }

    /// The next message of a stream of this connection; its end is an error too.
    pub(super) async fn next<T>(
        &self,
        what: &'static str,
        stream: &mut Streaming<T>,
        within: Duration,
    ) -> Result<T, EtcdError> {
        match tokio::time::timeout(within, stream.message()).await {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(EtcdError::new(
                what,
                &self.member,
                Cause::Unreachable,
                "the stream ended",
            )),
            Ok(Err(status)) => Err(refused(what, &self.member, &status)),
            Err(_) => Err(late(what, &self.member, within)),
        }
    }
}

/// A stream's requests, with the first one in it already.
fn begun<T>(first: T) -> (mpsc::Sender<T>, ReceiverStream<T>) {
    let (to, requests) = mpsc::channel(STREAM);
    // There is room for it, and the other end is here.
    let _ = to.try_send(first);
    (to, ReceiverStream::new(requests))
}

async fn answer<T>(
    what: &'static str,
    member: &str,
    within: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, EtcdError> {
    match tokio::time::timeout(within, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(refused(what, member, &status)),
        Err(_) => Err(late(what, member, within)),
    }
}

fn refused(what: &'static str, member: &str, status: &Status) -> EtcdError {
    let error = EtcdError::status(what, member, status);
    if error.cause == Cause::Denied {
        Counter::RegistryDenied.count();
    }
    error
}

fn late(what: &'static str, member: &str, within: Duration) -> EtcdError {
    EtcdError::new(
        what,
        member,
        Cause::Late,
        format!("no answer within {} ms", within.as_millis()),
    )
}
