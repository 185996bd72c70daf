//! The session listener's TLS: whether its files can be used, and how long its certificate lasts.

use super::Finding;
use crate::{config::Config, session::tls::Tls};
use std::time::{Duration, SystemTime};

/// Whoever renews certificates by itself has done it by then (cert-manager: at two thirds of their life).
const SOON: Duration = Duration::from_secs(7 * 86_400);

pub(super) fn check(config: &Config) -> Finding {
    let check = "session TLS";
    let Some(files) = &config.session.tls else {
        return match config.session.listen.ip().is_loopback() {
            true => Finding::info(check, "none: peers on this host only"),
            false => Finding::warn(
                check,
                "none, beyond loopback: anybody who reaches the listener can drive rooms",
                "set session.tls_cert, session.tls_key and session.tls_client_ca",
            ),
        };
    };
    match Tls::load(files) {
        Ok(tls) => judge(tls.certificate_ends(), SystemTime::now()),
        Err(error) => Finding::fail(
            check,
            error.to_string(),
            "until it is mended the agent does not start; one that runs keeps the certificates it has",
        ),
    }
}

fn judge(ends: SystemTime, now: SystemTime) -> Finding {
    let check = "session TLS";
    let said = format!(
        "the certificate ends at {}",
        humantime::format_rfc3339_seconds(ends)
    );
    let advice = "renew it; the agent takes new files up within 10 s, without a restart";
    match ends.duration_since(now) {
        Ok(left) if left > SOON => Finding::ok(check, said),
        Ok(_) => Finding::warn(check, said, advice),
        Err(_) => Finding::fail(check, format!("{said}: it is over"), advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn a_certificate_that_ends_within_a_week_warns_and_one_that_is_over_fails() {
        let now = SystemTime::now();
        let day = Duration::from_secs(86_400);
        assert_eq!(judge(now + 8 * day, now).level, Level::Ok);
        assert_eq!(judge(now + 6 * day, now).level, Level::Warn);
        let over = judge(now - day, now);
        assert_eq!(over.level, Level::Fail);
        assert!(over.said.contains("it is over"), "{}", over.said);
    }
}
