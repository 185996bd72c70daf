//! A real etcd with TLS, client certificates, users and roles: what is right works, what is wrong is told in words, and what
//! runs out is got anew without the lease being lost.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};
use voice_agent::{config::EtcdConfig, registry::etcd, telemetry::counters::Counter};
use voice_room::Input;
use voice_tests::{
    clock::wait_for,
    etcd::{
        Etcd, Options,
        secure::{Authority, Cert, Valid},
    },
    registrant::{Registrant, SOON, config, rooms},
};

const TTL: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(300);
/// How long etcd's tokens live when they are not used, in seconds: the least it knows.
const TOKEN: u32 = 1;

/// An etcd whose clients need a certificate and a user.
struct Secured {
    etcd: Etcd,
    authority: Authority,
    client: Cert,
}

impl Secured {
    /// With the user `agent`, password `right`, whose role may read and write these keys.
    fn start(from: &str, to: &str) -> Secured {
        let authority = Authority::new().unwrap();
        let server = authority.issue("server", Valid::Now).unwrap();
        let client = authority.issue("agent", Valid::Now).unwrap();
        let options = Options {
            tls: Some((server, authority.ca())),
            args: vec![
                "--auth-token-ttl".into(),
                TOKEN.to_string(),
                "--bcrypt-cost".into(),
                "4".into(),
            ],
        };
        let secured = Secured {
            etcd: Etcd::with(1, options).unwrap(),
            authority,
            client,
        };
        for args in [
            &["user", "add", "root:root"][..],
            &["user", "grant-role", "root", "root"],
            &["user", "add", "agent:right"],
            &["role", "add", "voice"],
            &["role", "grant-permission", "voice", "readwrite", from, to],
            &["user", "grant-role", "agent", "voice"],
            &["auth", "enable"],
        ] {
            secured.ctl(args, &[]);
        }
        secured
    }

    fn ctl(&self, args: &[&str], user: &[&str]) -> String {
        let (ca, Cert { cert, key }) = (self.authority.ca(), &self.client);
        let files = [("--cacert", &ca), ("--cert", cert), ("--key", key)];
        let files = files
            .iter()
            .flat_map(|(name, file)| [*name, file.to_str().unwrap()]);
        let all: Vec<&str> = files
            .chain(user.iter().copied())
            .chain(args.iter().copied())
            .collect();
        self.etcd.ctl(&all).unwrap()
    }

    /// What an agent needs, with everything right.
    fn config(&self) -> EtcdConfig {
        EtcdConfig {
            username: Some("agent".into()),
            password_file: Some(self.password("right")),
            ca_file: Some(self.authority.ca()),
            cert_file: Some(self.client.cert.clone()),
            key_file: Some(self.client.key.clone()),
            ..config(self.etcd.endpoints(), TTL, GRACE)
        }
    }

    fn password(&self, password: &str) -> PathBuf {
        let file = self.etcd.dir().join(format!("password-{password}"));
        fs::write(&file, format!("{password}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    }
}

fn probe(config: &EtcdConfig) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(etcd::probe(config))
}

#[test]
fn right_certificates_and_password_own_rooms_and_each_wrong_one_is_told_by_its_name_and_owns_nothing() {
    let secured = Secured::start("/voice/", "/voice0");
    let right = secured.config();
    assert_eq!(probe(&right), Ok(()));
    let other = Authority::new().unwrap();
    let wrong: [(EtcdConfig, &[&str]); 3] = [
        (
            EtcdConfig {
                ca_file: Some(other.ca()),
                ..right.clone()
            },
            &["UnknownIssuer", "BadSignature"],
        ),
        (
            EtcdConfig {
                password_file: Some(secured.password("wrong")),
                ..right.clone()
            },
            &["invalid user ID or password"],
        ),
        (
            EtcdConfig {
                username: Some("nobody".into()),
                ..right.clone()
            },
            &["invalid user ID or password"],
        ),
    ];
    for (config, words) in wrong {
        let problem = probe(&config).unwrap_err();
        assert!(words.iter().any(|word| problem.contains(word)), "{problem}");
        assert!(problem.contains("127.0.0.1"), "it names the member: {problem}");
        let agent = Registrant::start(&config, "n1", "a").unwrap();
        agent.claim(&rooms("room", 0..1));
        wait_for("it is told why nothing is owned", SOON, || {
            agent.all_inputs().iter().any(|input| {
                matches!(input, Input::NotClaimed { problem, .. } if words.iter().any(|word| problem.contains(word)))
            })
        });
        assert_eq!(agent.held(), 0);
    }
    let agent = Registrant::start(&right, "n1", "a").unwrap();
    agent.claim(&rooms("room", 0..50));
    agent.wait_held(&rooms("room", 0..50));
}

#[test]
fn a_member_whose_certificate_is_over_is_not_spoken_to_and_that_is_told() {
    let authority = Authority::new().unwrap();
    let server = authority.issue("server", Valid::Past).unwrap();
    let client = authority.issue("agent", Valid::Now).unwrap();
    let options = Options {
        tls: Some((server, authority.ca())),
        args: vec![],
    };
    let etcd = Etcd::with(1, options).unwrap();
    let config = EtcdConfig {
        ca_file: Some(authority.ca()),
        cert_file: Some(client.cert),
        key_file: Some(client.key),
        ..config(etcd.endpoints(), TTL, GRACE)
    };
    let problem = probe(&config).unwrap_err();
    assert!(
        problem.contains("Expired") || problem.contains("expired"),
        "{problem}"
    );
}

#[test]
fn a_role_that_lacks_a_right_is_told_counted_and_works_once_it_has_it() {
    // Without /voice/rooms/.
    let secured = Secured::start("/voice/agents/", "/voice/owners0");
    let denied = Counter::RegistryDenied.value();
    let agent = Registrant::start(&secured.config(), "n1", "a").unwrap();
    agent.claim(&rooms("room", 0..10));
    wait_for("it is told why nothing is owned", SOON, || {
        agent.all_inputs().iter().any(
            |input| matches!(input, Input::NotClaimed { problem, .. } if problem.contains("permission denied")),
        )
    });
    assert!(Counter::RegistryDenied.value() > denied);
    assert_eq!(agent.held(), 0);
    // One range: etcd does not join two that leave a gap, and everything of ours is watched at once.
    let grant = [
        "role",
        "grant-permission",
        "voice",
        "readwrite",
        "/voice/",
        "/voice0",
    ];
    secured.ctl(&grant, &["--user", "root:root"]);
    agent.wait_held(&rooms("room", 0..10));
}

#[test]
fn a_token_that_ran_out_is_got_anew_and_neither_the_lease_nor_a_room_is_lost() {
    let secured = Secured::start("/voice/", "/voice0");
    let agent = Registrant::start(&secured.config(), "n1", "a").unwrap();
    agent.claim(&rooms("room", 0..20));
    agent.wait_held(&rooms("room", 0..20));
    let lease = agent.handle().authority().lease().unwrap();
    for round in 1..4 {
        let denied = Counter::RegistryDenied.value();
        // Unused for long enough, etcd has forgotten it: the next question says so.
        std::thread::sleep(Duration::from_secs(u64::from(TOKEN) * 3));
        let more = rooms("room", round * 20..round * 20 + 20);
        agent.claim(&more);
        agent.wait_held(&more);
        assert!(
            Counter::RegistryDenied.value() > denied,
            "the token had not run out"
        );
    }
    agent.wait_held(&rooms("room", 0..80));
    assert_eq!(agent.handle().authority().lease(), Some(lease));
    assert!(!agent.all_inputs().contains(&Input::LeaseLost));
    wait_for("the watch", SOON, || agent.handle().standing().follows);
}
