//! Certificates for an etcd with TLS, made by openssl, and etcdctl to make its users.

use crate::bpffs::Scratch;
use anyhow::{Context, ensure};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const CONFIG: &str = "\
[ca]
default_ca = d
[d]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = p
[p]
commonName = supplied
";

/// Whether a certificate is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Valid {
    /// For some days.
    Now,
    /// It ended in 2020.
    Past,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Cert {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// An authority that issues certificates for 127.0.0.1. Its files go with it.
#[derive(Debug)]
pub struct Authority {
    dir: Scratch,
}

impl Authority {
    /// With a key of its own.
    pub fn new() -> anyhow::Result<Authority> {
        let authority = Authority {
            dir: Scratch::new("pki")?,
        };
        let dir = authority.dir.path();
        std::fs::write(dir.join("ca.cnf"), CONFIG)?;
        std::fs::write(dir.join("index.txt"), "")?;
        std::fs::write(dir.join("ext"), "subjectAltName=IP:127.0.0.1\n")?;
        let make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2";
        authority.openssl(make)?;
        Ok(authority)
    }

    /// Its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate of this common name.
    pub fn issue(&self, name: &str, valid: Valid) -> anyhow::Result<Cert> {
        let (from, to) = match valid {
            Valid::Now => ("20200101000000Z", "20991231000000Z"),
            Valid::Past => ("20200101000000Z", "20200102000000Z"),
        };
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ))?;
        self.openssl(&format!(
            "ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -startdate {from} -enddate {to} -extfile ext \
             -in {name}.csr -out {name}.pem"
        ))?;
        let file = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        Ok(Cert {
            cert: file("pem"),
            key: file("key"),
        })
    }

    fn openssl(&self, args: &str) -> anyhow::Result<()> {
        run(Command::new("openssl")
            .args(args.split_whitespace())
            .current_dir(self.dir.path()))
        .map(drop)
    }
}

/// What a command printed; an error if it failed.
pub(super) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("run {}", Path::new(command.get_program()).display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
