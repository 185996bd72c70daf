//! A real OpenTelemetry receiver (rotel, from PyPI) that prints each span it takes.

use crate::{bpffs::Scratch, netns::Netns, redis::free_port};
use anyhow::Context;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Child,
};

/// A span as the receiver printed it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 hexadecimal digits.
    pub parent: String,
    /// 16 hexadecimal digits.
    pub id: String,
    /// What was done.
    pub name: String,
    /// Empty unless it failed.
    pub problem: String,
    /// `KEY: VALUE`, of the span.
    pub attributes: Vec<String>,
}

/// The receiver, in a namespace; killed on drop.
#[derive(Debug)]
pub struct Rotel {
    child: Child,
    port: u16,
    dir: Scratch,
}

impl Rotel {
    /// Starts it; it listens soon.
    pub fn start(ns: &Netns) -> anyhow::Result<Rotel> {
        let (port, http) = ns.run(|| anyhow::Ok((free_port()?, free_port()?)))??;
        let dir = Scratch::new("rotel")?;
        let said = File::create(dir.path().join("said"))?;
        let mut command = ns.command(&program()?);
        command
            .args(["start", "--exporter", "blackhole", "--debug-log", "traces"])
            .args(["--debug-log-verbosity", "detailed"])
            .arg(format!("--otlp-grpc-endpoint=127.0.0.1:{port}"))
            .arg(format!("--otlp-http-endpoint=127.0.0.1:{http}"))
            .arg("--pid-file")
            .arg(dir.path().join("pid"));
        let errors = said.try_clone()?;
        let child = command
            .stdout(said)
            .stderr(errors)
            .spawn()
            .context("start rotel")?;
        Ok(Rotel { child, port, dir })
    }

    /// Its port on 127.0.0.1, without TLS: it has none for what it takes.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All that it said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("said")).unwrap_or_default()
    }

    /// Every span that it took, in order.
    pub fn spans(&self) -> Vec<Span> {
        let said = self.said();
        said.split("\nSpan #").skip(1).map(span).collect()
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `target/tools/rotel`, where `cargo xtask test` puts it.
fn program() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("no root")?;
    let program = root.join("target/tools/rotel/rotel/rotel-agent");
    anyhow::ensure!(
        program.exists(),
        "{} is missing: `cargo xtask test` installs it",
        program.display()
    );
    Ok(program)
}

fn span(text: &str) -> Span {
    let mut span = Span::default();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("ResourceSpans #") {
            break; // the next message
        }
        if let Some(attribute) = line.strip_prefix("-> ") {
            span.attributes.push(attribute.to_owned());
        }
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let field = match key.trim() {
            "Trace ID" => &mut span.trace,
            "Parent ID" => &mut span.parent,
            "ID" => &mut span.id,
            "Name" => &mut span.name,
            "Status message" => &mut span.problem,
            _ => continue,
        };
        value.trim().clone_into(field);
    }
    span
}
