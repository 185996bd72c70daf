//! The chart by the real Helm, the manifests by the schemas of Kubernetes from 1.27 to the newest known, and both against
//! each other. Helm sends what it makes to a server that only says yes (`kubernetes/cluster.py`).
#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers of tests: a panic is how they fail, and values read better"
)]

use anyhow::Context;
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

fn chart() -> String {
    root().join("deploy/chart").to_str().unwrap().to_owned()
}

/// What `kubernetes/check.py` answers.
fn ask(question: &Value) -> Value {
    answer(question).unwrap_or_else(|e| panic!("{e:#}"))
}

fn answer(question: &Value) -> anyhow::Result<Value> {
    let packages = root().join("target/tools/python");
    anyhow::ensure!(
        packages.join("versions").exists(),
        "{} is not there: cargo xtask test makes it",
        packages.display()
    );
    let mut child = Command::new("python3")
        .arg(root().join("tests/kubernetes/check.py"))
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    writeln!(stdin, "{question}")?;
    drop(stdin);
    let out = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&out.stderr);
    anyhow::ensure!(out.status.success(), "check.py: {said}");
    Ok(serde_json::from_slice(&out.stdout)?)
}

/// What the chart makes of these values.
fn installed(values: Value) -> Vec<Value> {
    let answer = ask(&json!({ "install": chart(), "values": values }));
    let documents = answer["documents"].as_array();
    documents.unwrap_or_else(|| panic!("{answer}")).clone()
}

fn refused(values: Value) -> String {
    let answer = ask(&json!({ "install": chart(), "values": values }));
    let error = answer["error"].as_str();
    error.unwrap_or_else(|| panic!("taken: {values}")).to_owned()
}

/// Every version says that these are right; kinds that Kubernetes does not know are named.
fn assert_valid(documents: &[Value], unknown: &[&str]) {
    let answer = ask(&json!({ "validate": documents }));
    assert_eq!(answer["problems"], json!([]));
    assert_eq!(answer["unknown"], json!(unknown));
    let versions: Vec<&str> = answer["versions"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        versions.starts_with(&["1.27"]) && versions.len() > 10,
        "{versions:?}"
    );
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let found = documents.iter().find(|d| d["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}"))
}

fn pod(documents: &[Value]) -> Value {
    of_kind(documents, "DaemonSet")["spec"]["template"].clone()
}

fn agent(documents: &[Value]) -> Value {
    pod(documents)["spec"]["containers"][0].clone()
}

/// The plain manifests, as they are written.
fn plain() -> Vec<Value> {
    let folder = root().join("deploy/kubernetes");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|file| !file.ends_with("kustomization.yaml"))
        .flat_map(|file| {
            let loaded = ask(&json!({ "load": file }));
            loaded["documents"].as_array().unwrap().clone()
        })
        .collect()
}

/// Without what tells only who made it.
fn bare(mut document: Value) -> Value {
    let owners = ["app.kubernetes.io/managed-by", "helm.sh/chart", "checksum/config"];
    for part in ["/metadata", "/spec/template/metadata"] {
        for field in ["labels", "annotations"] {
            let map = document.pointer_mut(&format!("{part}/{field}"));
            if let Some(map) = map.and_then(Value::as_object_mut) {
                map.retain(|key, _| !owners.contains(&key.as_str()));
            }
        }
    }
    document
}

#[test]
fn helm_finds_nothing_wrong_with_the_chart_and_packs_it() {
    let lint = ask(&json!({ "lint": chart() }));
    assert_eq!(lint["TotalChartsLinted"], 1, "{lint}");
    let worst = lint["Messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|m| m["Severity"].as_u64())
        .max();
    // 1: information (there is no icon).
    assert!(worst <= Some(1), "{lint}");
    let to = tempfile::tempdir().unwrap();
    let packed = ask(&json!({ "package": chart(), "to": to.path() }));
    let name = format!("voice-agent-{}.tgz", env!("CARGO_PKG_VERSION"));
    assert!(packed["file"].as_str().unwrap().ends_with(&name), "{packed}");
}

#[test]
fn the_default_and_each_variant_are_valid_for_every_version_of_kubernetes_from_1_27() {
    assert_valid(&installed(json!({})), &[]);
    assert_valid(&plain(), &[]);
    let all = json!({
        "probes": { "type": "grpc", "grpcPort": 7500 },
        "metrics": { "port": 7402, "expose": true },
        "podMonitor": { "enabled": true, "labels": { "release": "prometheus" } },
        "prometheusRule": { "enabled": true },
        "dashboard": { "enabled": true },
        "detachOnStop": true,
        "image": { "digest": format!("sha256:{}", "0".repeat(64)), "pullSecrets": [{ "name": "registry" }] },
        "env": [{ "name": "VOICE_AGENT_JANUS_ADMIN_SECRET", "valueFrom": { "secretKeyRef": { "name": "janus", "key": "secret" } } }],
        "volumes": [{ "name": "tokens", "secret": { "secretName": "tokens", "defaultMode": 256 } }],
        "volumeMounts": [{ "name": "tokens", "mountPath": "/etc/voice-agent-tokens", "readOnly": true }],
    });
    assert_valid(&installed(all), &["PodMonitor", "PrometheusRule"]);
    assert_valid(
        &installed(json!({ "privileged": true, "probes": { "type": "none", "grpcPort": 1 } })),
        &[],
    );
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_found_by_that_check() {
    let mut documents = installed(json!({}));
    for document in &mut documents {
        if let Some(spec) = document.pointer_mut("/spec/template/spec") {
            spec["hostNetwrk"] = json!(true);
        }
    }
    let answer = ask(&json!({ "validate": documents }));
    assert!(
        answer["problems"][0].as_str().unwrap().contains("hostNetwrk"),
        "{answer}"
    );
}

#[test]
fn the_plain_manifests_say_what_the_chart_says_by_default() {
    let (plain, chart) = (plain(), installed(json!({})));
    for document in chart {
        let kind = document["kind"].as_str().unwrap().to_owned();
        assert_eq!(bare(of_kind(&plain, &kind).clone()), bare(document), "{kind}");
    }
}

#[test]
fn the_agent_has_three_capabilities_the_hosts_network_and_no_token() {
    let documents = installed(json!({}));
    let spec = &pod(&documents)["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(
        of_kind(&documents, "ServiceAccount")["automountServiceAccountToken"],
        false
    );
    assert_eq!(
        (&spec["hostNetwork"], &spec["hostPID"]),
        (&json!(true), &Value::Null)
    );
    let security = &agent(&documents)["securityContext"];
    let capabilities = json!({ "drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON"] });
    assert_eq!(security["capabilities"], capabilities);
    for (key, value) in [
        ("privileged", false),
        ("allowPrivilegeEscalation", false),
        ("readOnlyRootFilesystem", true),
    ] {
        assert_eq!(security[key], value, "{key}");
    }
    assert_eq!(spec["initContainers"][0]["args"], json!(["mount-bpffs"]));
}

/// The chart has them by links, so that there is one of each.
#[test]
fn the_charts_alert_rules_and_dashboard_are_those_of_prometheus_and_grafana() {
    let documents = installed(json!({
        "prometheusRule": { "enabled": true },
        "dashboard": { "enabled": true },
    }));
    let rules = root().join("deploy/prometheus/rules.yaml");
    let rules = ask(&json!({ "load": rules }))["documents"][0].clone();
    assert!(rules["groups"][0]["rules"][0]["alert"].is_string(), "{rules}");
    assert_eq!(of_kind(&documents, "PrometheusRule")["spec"], rules);
    let board = documents
        .iter()
        .find_map(|d| d["data"]["voice-agent.json"].as_str());
    let board: Value = serde_json::from_str(board.unwrap()).unwrap();
    let file = fs::read_to_string(root().join("deploy/grafana/voice-agent.json")).unwrap();
    assert_eq!(board, serde_json::from_str::<Value>(&file).unwrap());
}

#[test]
fn a_change_of_the_configuration_rolls_the_pods_and_nothing_else_of_it_does() {
    let checksum = |values| pod(&installed(values))["metadata"]["annotations"]["checksum/config"].clone();
    let config = json!({ "config": "[trip]\nmode = \"enforce\"\n" });
    assert_ne!(checksum(json!({})), checksum(config));
    assert_eq!(checksum(json!({})), checksum(json!({ "detachOnStop": true })));
}

#[test]
fn probes_are_http_on_the_nodes_loopback_or_grpc_on_a_port_of_its_own() {
    let liveness = |values| agent(&installed(values))["livenessProbe"].clone();
    let http = json!({ "host": "127.0.0.1", "port": 7402, "path": "/livez" });
    assert_eq!(liveness(json!({}))["httpGet"], http);
    let grpc = json!({ "probes": { "type": "grpc" } });
    assert_eq!(
        liveness(grpc.clone())["grpc"],
        json!({ "port": 7403, "service": "liveness" })
    );
    let env = agent(&installed(grpc))["env"].to_string();
    assert!(
        env.contains(r#""name":"VOICE_AGENT_HEALTH_LISTEN","value":"$(HOST_IP):7403""#),
        "{env}"
    );
}

/// Each variable that the chart sets is a key of the agent, which refuses what it does not know.
#[test]
fn the_agent_knows_every_variable_that_the_chart_sets_and_takes_the_charts_configuration() {
    let values = json!({
        "probes": { "type": "grpc" },
        "metrics": { "expose": true },
        "detachOnStop": true,
    });
    let documents = installed(values);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let config = &of_kind(&documents, "ConfigMap")["data"]["config.toml"];
    fs::write(&file, config.as_str().unwrap()).unwrap();
    let mut check = Command::new(voice_tests::agent::binary::path().unwrap());
    check.arg("--config").arg(&file).args(["config", "check"]);
    for variable in agent(&documents)["env"].as_array().unwrap() {
        let value = variable["value"]
            .as_str()
            .unwrap_or("node-1")
            .replace("$(HOST_IP)", "10.0.0.1");
        check.env(variable["name"].as_str().unwrap(), value);
    }
    let out = check.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_value_that_is_misspelt_or_cannot_work_is_refused_with_its_name() {
    for (values, said) in [
        (json!({ "probs": 1 }), "'probs' not allowed"),
        (json!({ "image": { "tga": "1" } }), "'tga' not allowed"),
        (json!({ "probes": { "type": "tcp" } }), "/probes/type"),
        (json!({ "image": { "digest": "sha256:1" } }), "/image/digest"),
        (json!({ "seccompProfile": "none" }), "/seccompProfile"),
        (
            json!({ "updateStrategy": { "maxUnavailable": 0 } }),
            "/updateStrategy/maxUnavailable",
        ),
        (
            json!({ "podMonitor": { "enabled": true } }),
            "needs metrics.expose",
        ),
    ] {
        let error = refused(values);
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn chart_and_manifests_have_the_version_of_the_workspace() {
    let version = env!("CARGO_PKG_VERSION");
    let file = |name: &str| fs::read_to_string(root().join("deploy").join(name)).unwrap();
    let chart = file("chart/Chart.yaml");
    assert!(chart.contains(&format!("\nversion: {version}\n")), "{chart}");
    assert!(
        chart.contains(&format!("\nappVersion: \"{version}\"\n")),
        "{chart}"
    );
    assert!(file("kubernetes/kustomization.yaml").contains(&format!("newTag: {version}\n")));
    let plain = file("kubernetes/daemonset.yaml");
    assert_eq!(
        plain.matches(&format!("image: voice-agent:{version}\n")).count(),
        2
    );
}
