//! What a certificate lets its holder be: role and peer id, from its name. That it is genuine and in time is found by the
//! handshake.

use crate::{session::peer::PeerInfo, telemetry::Counter};
use rustls::pki_types::CertificateDer;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tonic::Status;
use voice_client::Role;
use voice_room::PeerId;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// What names a peer: `spiffe://TRUST-DOMAIN/voice-agent/ROLE`, or with `/PEER-ID` behind it. A SPIFFE id, so that whoever
/// issues those needs nothing new; the trust domain is whatever the configured authority signs.
const FORM: &str = "a URI like spiffe://example.org/voice-agent/gateway/gw-1 (roles: gateway, signalling, media; the id \
                    may be left out)";

/// Who a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    role: Role,
    /// `None`: every id of that role.
    id: Option<PeerId>,
}

impl Identity {
    /// Whether a call may say to be this peer. The error names both.
    fn covers(&self, info: &PeerInfo) -> Result<(), String> {
        let same = self.role == info.role && self.id.as_ref().is_none_or(|id| *id == info.id);
        let of = self.id.as_ref().map_or("any id", |id| id.as_str());
        same.then_some(()).ok_or_else(|| {
            format!(
                "the certificate is for {} {of}, and the call says to be {} {}",
                self.role, info.role, info.id
            )
        })
    }
}

/// What is known of who calls. `None`: the listener has no TLS, and everybody is whom they say to be.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) Option<Result<Identity, String>>);

impl Caller {
    /// Refuses a call that says to be somebody else, or whose certificate names nobody.
    pub(super) fn may_be(&self, info: &PeerInfo) -> Result<(), Status> {
        match self.named()? {
            None => Ok(()),
            Some(identity) => identity.covers(info).map_err(|said| {
                Counter::SessionIdentity.count();
                Status::permission_denied(said)
            }),
        }
    }

    /// Refuses a call whose certificate names nobody.
    pub(super) fn named(&self) -> Result<Option<&Identity>, Status> {
        match &self.0 {
            None => Ok(None),
            Some(Ok(identity)) => Ok(Some(identity)),
            Some(Err(said)) => {
                Counter::SessionIdentity.count();
                Err(Status::unauthenticated(format!(
                    "the certificate names no peer: {said}"
                )))
            }
        }
    }
}

/// Whom the certificate names.
///
/// # Errors
/// In words: it names nobody, or more than one.
pub(super) fn of(certificate: &CertificateDer) -> Result<Identity, String> {
    let parsed = parse(certificate)?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|e| format!("its subjectAltName: {e}"))?;
    let uris = names.iter().flat_map(|names| &names.value.general_names);
    let mut ours = uris.filter_map(|name| match name {
        GeneralName::URI(uri) => path_of_ours(uri),
        _ => None,
    });
    match (ours.next(), ours.next()) {
        (Some(path), None) => named(path),
        (None, _) => Err(format!("its subjectAltName has to hold {FORM}")),
        (Some(_), Some(_)) => Err("its subjectAltName names more than one peer".to_owned()),
    }
}

/// When it ends.
///
/// # Errors
/// It is no certificate.
pub(super) fn ends(certificate: &CertificateDer) -> Result<SystemTime, String> {
    let seconds = parse(certificate)?.validity().not_after.timestamp();
    Ok(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

fn parse<'c>(certificate: &'c CertificateDer) -> Result<X509Certificate<'c>, String> {
    let parsed = X509Certificate::from_der(certificate);
    parsed
        .map(|(_, parsed)| parsed)
        .map_err(|e| format!("not a certificate: {e}"))
}

/// What comes behind `spiffe://TRUST-DOMAIN/voice-agent/`.
fn path_of_ours(uri: &str) -> Option<&str> {
    let (domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    path.strip_prefix("voice-agent/").filter(|_| !domain.is_empty())
}

fn named(path: &str) -> Result<Identity, String> {
    let (role, id) = match path.split_once('/') {
        Some((role, id)) => (role, Some(id)),
        None => (path, None),
    };
    Ok(Identity {
        role: role
            .parse()
            .map_err(|e| format!("{path:?}: {e}; allowed is {FORM}"))?,
        id: id
            .map(PeerId::new)
            .transpose()
            .map_err(|e| format!("{path:?}: {e}; allowed is {FORM}"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_uri(uri: &str) -> Result<Identity, String> {
        path_of_ours(uri).ok_or("not ours".to_owned()).and_then(named)
    }

    #[test]
    fn a_name_has_a_role_and_may_have_an_id() {
        let named = of_uri("spiffe://example.org/voice-agent/media/sfu-1").unwrap();
        assert_eq!((named.role, named.id.as_deref()), (Role::Media, Some("sfu-1")));
        let any = of_uri("spiffe://example.org/voice-agent/gateway").unwrap();
        assert_eq!((any.role, any.id), (Role::Gateway, None));
    }

    #[test]
    fn what_is_not_of_this_form_names_nobody() {
        for not_ours in [
            "https://example.org/voice-agent/media/sfu-1",
            "spiffe:///voice-agent/media",
            "spiffe://example.org/ns/voice/sa/voice-agent",
            "spiffe://example.org/voice-agents/media",
            "spiffe://example.org",
        ] {
            assert_eq!(of_uri(not_ours).unwrap_err(), "not ours", "{not_ours}");
        }
        for wrong in ["admin", "media/", "Media/sfu", "media/a b", "", "media/\u{e9}"] {
            let error = of_uri(&format!("spiffe://example.org/voice-agent/{wrong}")).unwrap_err();
            assert!(error.contains("allowed"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_certificate_that_is_none_names_nobody() {
        let junk = CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01]);
        assert!(of(&junk).unwrap_err().contains("not a certificate"));
        assert!(ends(&junk).is_err());
    }
}
